"""What an image may be called: the grammar of references that docker and podman share."""

from __future__ import annotations

import re

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(rf"(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][\w.-]{{0,127}})?"
                        r"(?:@[A-Za-z][A-Za-z0-9]*:[0-9a-fA-F]{32,})?", re.ASCII)


def image_fault(name: str) -> tuple[str, str] | None:
    """What is wrong with an image's name, and a hint; None for a good one.

    A name's first part may be a registry's host, in which capitals are allowed; what follows is lower case.
    """
    if _REFERENCE.fullmatch(name):
        return None
    better = suggest_image(name)
    hint = f"did you mean '{better}'?" if better else "for example: org/mnist:0.1.0"
    if name != name.strip() or any(char.isspace() for char in name):
        return f"an image's name holds no spaces, and '{name}' does", hint
    if "://" in name:
        return f"an image's name is no URL, and '{name}' is one", hint
    if _REFERENCE.fullmatch(name.lower()):
        return f"an image's name is written in lower case, and '{name}' is not", hint
    return f"'{name}' cannot be an image's name", hint


def suggest_image(name: str) -> str:
    """A good name near to this one; the empty string where none is."""
    plain = re.sub(r"\s+", "-", re.sub(r"^\w+://", "", name.strip()))
    colon = plain.rfind(":")
    cut = colon if colon > plain.rfind("/") else len(plain)
    better = plain[:cut].lower() + plain[cut:]
    return better if better != name and _REFERENCE.fullmatch(better) else ""
