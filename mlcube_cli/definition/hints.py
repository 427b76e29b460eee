"""The known name that was probably meant."""

from __future__ import annotations

from mlcube_cli import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NO_CUBE_HINT = "a cube has 'name' and 'tasks'; mlcube schema mlcube shows all keys"
_LONGEST = 64  # characters; longer words are no typing errors of a name


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `word` is most likely a misspelling of, or None.

    Case, dashes and underscores hardly count; otherwise one slip in three letters is allowed (one in two, none in
    one), or a beginning of at least three letters that only one candidate has.
    """
    if not word or len(word) > _LONGEST:
        return None
    plain = _plain(word)
    known = [(candidate, _plain(candidate)) for candidate in candidates if candidate != word]
    best, least = None, max(min(1, len(plain) - 1), len(plain) // 3) + 1
    for candidate, spelled in known:
        distance = _distance(plain, spelled, least)
        if distance < least:
            best, least = candidate, distance
    if best is None and len(plain) >= 3:
        begun = [candidate for candidate, spelled in known if spelled.startswith(plain)]
        best = begun[0] if len(begun) == 1 else None
    return best


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A hint such as `did you mean 'outputs'?`, or the empty string."""
    guess = nearest(word, candidates)
    return f"did you mean '{guess}'?" if guess else ""


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "").replace(" ", "") or word


def _distance(left: str, right: str, limit: int) -> int:
    """Letters to insert, remove, replace or swap with their neighbour; `limit` stands for "that many or more"."""
    if abs(len(left) - len(right)) >= limit:
        return limit
    before: list[int] = []
    row = list(range(len(right) + 1))
    for index, letter in enumerate(left, 1):
        earlier, before, row = before, row, [index]
        for column, other in enumerate(right, 1):
            cost = min(before[column] + 1, row[-1] + 1, before[column - 1] + (letter != other))
            if index > 1 and column > 1 and letter == right[column - 2] and other == left[index - 2]:
                cost = min(cost, earlier[column - 2] + 1)
            row.append(cost)
        if min(row) >= limit:
            return limit
    return min(row[-1], limit)
