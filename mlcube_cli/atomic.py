"""Small files that are there whole or not at all: written beside their place under another name, then renamed."""

from __future__ import annotations

import os


def write_bytes(path: str, content: bytes, modified: float | None = None) -> None:
    """Put this content at `path`, whatever was there; `modified` sets its time (seconds). Raises OSError."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
        if modified is not None:
            os.utime(temporary, (modified, modified))
        os.replace(temporary, path)
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise


def write_text(path: str, text: str, modified: float | None = None) -> None:
    """As `write_bytes`, in UTF-8; bytes that are not are those of surrogateescape."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"), modified)
