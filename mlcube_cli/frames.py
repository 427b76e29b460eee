"""The parser of what a supervised run sends: frames of a name and bytes, however the stream is cut into pieces."""

from __future__ import annotations

from dataclasses import dataclass

from mlcube_cli.place import answer_line

_LONGEST_HEADER = 4096  # bytes; what is longer without a newline is no header
_WHOLE = ("Q", "S", "a", "d", "q")  # the rest are streams, whose pieces are handed on as they come


@dataclass(frozen=True)
class Frame:
    """`o:RUN_ID`, `e:RUN_ID` (what a task printed), `p` (what preparation printed), `t` (what is being done, a line each):
    pieces of streams. Whole: `a` (the answer of `start`), `q` and `Q` (what a scheduler says of batch jobs),
    `s:RUN_ID` (a task's state: `STATUS CODE STARTED ENDED`), and `S` (the command's, with more words, and lines of why it is
    so): it comes last."""

    name: str
    data: bytes


class Frames:
    """Bytes in, frames out. `offsets` says of each stream how far it was handed on, to go on from after a cut connection.

    Everything before the answer's first line is noise of a login shell. `broken` is set when what comes is no frame.
    """

    def __init__(self, nonce: str, offsets: dict[str, int] | None = None) -> None:
        self.offsets: dict[str, int] = dict(offsets or {})
        self.begun = False  # the answer's first line was seen
        self.broken = False
        self._first = answer_line(nonce).encode() + b"\n"
        self._rest = b""
        self._name = ""
        self._left = 0  # bytes of the frame that is being read
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete; of streams, all that came of them."""
        self._rest += data
        if not self.begun and not self._begin():
            return []
        found: list[Frame] = []
        at = 0
        while not self.broken and at < len(self._rest):
            if self._left:
                piece = self._rest[at:at + self._left]
                at += len(piece)
                self._left -= len(piece)
                self._take(piece, found)
            else:
                end = self._rest.find(b"\n", at)
                if end < 0:
                    self.broken = len(self._rest) - at > _LONGEST_HEADER
                    break
                self._open(self._rest[at:end], found)
                at = end + 1
        self._rest = self._rest[at:]
        return found

    def _begin(self) -> bool:
        at = 0 if self._rest.startswith(self._first) else self._rest.find(b"\n" + self._first)
        if at < 0:
            # what precedes may lack its newline: the line of the answer is unique enough to be looked for anywhere
            at = self._rest.find(self._first)
        if at < 0:
            self._rest = self._rest[-len(self._first):]
            return False
        self._rest = self._rest[self._rest.index(self._first, at) + len(self._first):]
        self.begun = True
        return True

    def _open(self, header: bytes, found: list[Frame]) -> None:
        name, _, length = header.decode("utf-8", "surrogateescape").partition(" ")
        if not name.startswith("@") or not length.isdigit():
            self.broken = True
            return
        self._name, self._left, self._parts = name[1:], int(length), []
        if not self._left and self._is_whole():
            found.append(Frame(self._name, b""))

    def _take(self, piece: bytes, found: list[Frame]) -> None:
        if self._is_whole():
            self._parts.append(piece)
            if not self._left:
                found.append(Frame(self._name, b"".join(self._parts)))
        else:
            self.offsets[self._name] = self.offsets.get(self._name, 0) + len(piece)
            found.append(Frame(self._name, piece))

    def _is_whole(self) -> bool:
        return self._name.startswith("s:") or self._name in _WHOLE
