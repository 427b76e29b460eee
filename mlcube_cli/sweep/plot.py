"""A metric against a value, a point a member, as SVG text. Pure, and without any library.

Colours follow the reader's preference for dark or light; the picture scales with the width it is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT = 720.0, 440.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 76.0, 24.0, 44.0, 60.0
_MARGIN = 14.0  # within the frame, so that no point lies on it
_TICKS = 6
_LARGEST = 1e300  # what is beyond is as good as infinite
_DECADES = 1.5  # values that span more of them, all positive, get a logarithmic scale
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999999")  # for colour-blind people, too
_MOST_NAMES = len(_COLOURS)
_STYLE = """
  .ground { fill: #ffffff } text { fill: #222222; font: 13px sans-serif } .small { font-size: 11px }
  .axis { stroke: #222222; fill: none } .grid { stroke: #dddddd } .best { fill: none; stroke: #222222; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #16181c } text { fill: #e6e6e6 }
    .axis { stroke: #e6e6e6 } .grid { stroke: #3a3d44 } .best { stroke: #ffffff }
  }
"""


@dataclass(frozen=True)
class Point:
    """A member. `x`: a number, or a text; `group`: what its colour stands for, empty: nothing; `name`: for a tooltip;
    `best`: what stands beside it, where it is the best."""

    x: float | str
    y: float
    group: str = ""
    name: str = ""
    best: str = ""


@dataclass(frozen=True)
class Labels:
    """What stands around the picture."""

    title: str
    x: str
    y: str
    group: str = ""


@dataclass(frozen=True)
class Scale:
    """Values -> places on one axis. `ticks`: places (as values) with their texts."""

    low: float
    high: float
    logarithmic: bool
    ticks: tuple[tuple[float, str], ...]

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        low, high, value = (math.log10(one) if self.logarithmic else one for one in (self.low, self.high, value))
        return (value - low) / (high - low)


def plot(points: Sequence[Point], labels: Labels) -> str:
    """The SVG text. Points whose values are not finite are left out."""
    words = _words(points)
    known = [point for point in points if abs(point.y) <= _LARGEST and (words or abs(float(point.x)) <= _LARGEST)]
    xs = _word_scale(words) if words else scale_of([float(point.x) for point in known])
    ys = scale_of([point.y for point in known])
    groups = _groups(known)
    return "\n".join((*_frame(labels, xs, ys), *_points(known, words, xs, ys, groups), *_legend(labels, groups), "</svg>", ""))


def _words(points: Sequence[Point]) -> tuple[str, ...]:
    """The places of an axis of words, where not all values are numbers."""
    if all(isinstance(point.x, (int, float)) for point in points):
        return ()
    return tuple(dict.fromkeys(str(point.x) for point in points))


def _word_scale(words: Sequence[str]) -> Scale:
    return Scale(-0.5, len(words) - 0.5, False, tuple((float(number), word) for number, word in enumerate(words)))


def scale_of(values: Sequence[float]) -> Scale:
    """A scale that all values lie on: logarithmic where they are positive and span decades, else with round ticks."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low > 0 and high / low >= 10 ** _DECADES:
        first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
        step = max(1, -(-(last - first) // _TICKS))
        return Scale(10.0 ** first, 10.0 ** last, True, tuple((10.0 ** power, _text(10.0 ** power))
                                                              for power in range(first, last + 1, step)))
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    width = _round_step((high - low) / _TICKS)
    first, last = math.floor(low / width + 1e-9), math.ceil(high / width - 1e-9)
    return Scale(first * width, last * width, False, tuple((number * width, _text(number * width))
                                                           for number in range(first, last + 1)))


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9)) * power


def _text(value: float) -> str:
    return f"{value:.6g}"


def _groups(points: Sequence[Point]) -> tuple[str, ...]:
    """The groups with a colour of their own: numbers in their order, words as they come."""
    names = list(dict.fromkeys(point.group for point in points if point.group))
    try:
        names.sort(key=float)
    except ValueError:
        pass
    return tuple(names)


# --- drawing ---------------------------------------------------------------------------------------------------------


def _across(xs: Scale, value: float) -> float:
    return _LEFT + _MARGIN + xs.share(value) * (_WIDTH - _LEFT - _RIGHT - 2 * _MARGIN)


def _down(ys: Scale, value: float) -> float:
    return _HEIGHT - _BOTTOM - _MARGIN - ys.share(value) * (_HEIGHT - _TOP - _BOTTOM - 2 * _MARGIN)


def _frame(labels: Labels, xs: Scale, ys: Scale) -> Iterator[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" width="{_WIDTH:g}" '
           f'height="{_HEIGHT:g}" role="img">')
    yield f"<title>{escaped(labels.title)}</title>"
    yield f"<style>{_STYLE}</style>"
    yield f'<rect class="ground" width="{_WIDTH:g}" height="{_HEIGHT:g}"/>'
    for value, text in xs.ticks:
        place = _across(xs, value)
        yield f'<line class="grid" x1="{place:.1f}" y1="{_TOP:g}" x2="{place:.1f}" y2="{bottom:g}"/>'
        yield f'<text class="small" x="{place:.1f}" y="{bottom + 18:g}" text-anchor="middle">{escaped(_short(text))}</text>'
    for value, text in ys.ticks:
        place = _down(ys, value)
        yield f'<line class="grid" x1="{_LEFT:g}" y1="{place:.1f}" x2="{right:g}" y2="{place:.1f}"/>'
        yield f'<text class="small" x="{_LEFT - 8:g}" y="{place + 4:.1f}" text-anchor="end">{escaped(text)}</text>'
    yield f'<path class="axis" d="M{_LEFT:g} {_TOP:g}V{bottom:g}H{right:g}"/>'
    logarithmic = " (logarithmic)"
    middle, centre = (_LEFT + right) / 2, (_TOP + bottom) / 2
    yield (f'<text x="{middle:g}" y="{_HEIGHT - 16:g}" text-anchor="middle">'
           f'{escaped(labels.x)}{logarithmic * xs.logarithmic}</text>')
    yield (f'<text x="18" y="{centre:g}" text-anchor="middle" transform="rotate(-90 18 {centre:g})">'
           f'{escaped(labels.y)}{logarithmic * ys.logarithmic}</text>')


def _short(text: str) -> str:
    return text if len(text) <= 16 else text[:15] + "…"


def _points(points: Sequence[Point], words: Sequence[str], xs: Scale, ys: Scale, groups: Sequence[str]) -> Iterator[str]:
    for point in points:
        x = float(words.index(str(point.x))) if words else float(point.x)
        across, down = _across(xs, x), _down(ys, point.y)
        colour = _colour(groups, point.group)
        yield (f'<circle cx="{across:.1f}" cy="{down:.1f}" r="5" fill="{colour}" fill-opacity="0.85">'
               f"<title>{escaped(point.name)}</title></circle>")
        if point.best:
            yield f'<circle class="best" cx="{across:.1f}" cy="{down:.1f}" r="9"/>'
            side, anchor = (-14, "end") if across > _WIDTH / 2 else (14, "start")  # where there is room
            yield (f'<text class="small" x="{across + side:.1f}" y="{down + 4:.1f}" text-anchor="{anchor}">'
                   f"{escaped(point.best)}</text>")


def _colour(groups: Sequence[str], group: str) -> str:
    """One of the palette; of more groups than it has, a shade from one end to the other."""
    if not group:
        return _COLOURS[0]
    number = groups.index(group)
    if len(groups) <= _MOST_NAMES:
        return _COLOURS[number]
    return f"hsl({240 - 240 * number / (len(groups) - 1):.0f} 70% 50%)"


def _legend(labels: Labels, groups: Sequence[str]) -> Iterator[str]:
    """What the colours stand for, in a row above the picture; of many, the two ends."""
    if not groups:
        return
    shown = groups if len(groups) <= _MOST_NAMES else (groups[0], groups[-1])
    place = _LEFT
    yield f'<text class="small" x="{place:g}" y="26">{escaped(_short(labels.group))}</text>'
    place += 8 + 7 * len(_short(labels.group))
    for group in shown:
        yield f'<circle cx="{place + 5:g}" cy="22" r="5" fill="{_colour(groups, group)}"/>'
        yield f'<text class="small" x="{place + 14:g}" y="26">{escaped(_short(group))}</text>'
        place += 28 + 7 * len(_short(group))


def escaped(text: str) -> str:
    """The text inside XML; what XML cannot hold is shown as U+FFFD."""
    whole = "".join(char if char >= " " and not "\ud800" <= char <= "\udfff" and char not in "\ufffe\uffff" else
                    " " if char in "\t\n\r" else "\ufffd" for char in text)
    return whole.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
