"""Our light `dataclass` is the standard library's, as far as the program uses it."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from mlcube_cli import values


@pytest.fixture(params=[values, dataclasses], ids=["ours", "the standard library's"])
def module(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def made(module: Any) -> tuple[Any, Any]:
    """A frozen and a changeable class, made with this module's `dataclass`."""

    @module.dataclass(frozen=True)
    class Point:
        """A place."""

        x: int
        y: int = 2
        tags: tuple[str, ...] = ()
        notes: dict[str, int] = module.field(default_factory=dict)

        @property
        def sum(self) -> int:
            return self.x + self.y

    @module.dataclass
    class Count:
        left: int = 3
        seen: list[int] = module.field(default_factory=list)

    return Point, Count


def test_objects_hold_what_they_are_given_and_defaults_else(made: tuple[Any, Any]) -> None:
    point = made[0](1, tags=("a",))
    assert (point.x, point.y, point.tags, point.notes, point.sum) == (1, 2, ("a",), {}, 3)
    assert repr(point) == f"{made[0].__qualname__}(x=1, y=2, tags=('a',), notes={{}})"
    assert made[0].__doc__ == "A place."


@pytest.mark.parametrize("wrong", [lambda cls: cls(), lambda cls: cls(1, 2, (), {}, 5), lambda cls: cls(1, z=1),
                                   lambda cls: cls(1, x=1)])
def test_wrong_arguments_are_refused_the_first_time_and_later(made: tuple[Any, Any], wrong: Callable[[Any], Any]) -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match=r"__init__\(\)"):
            wrong(made[0])


def test_a_frozen_object_cannot_be_changed_and_another_can(made: tuple[Any, Any]) -> None:
    point, count = made[0](1), made[1]()
    with pytest.raises(AttributeError):
        point.x = 5
    with pytest.raises(AttributeError):
        del point.x
    with pytest.raises(AttributeError):
        point.other = 5
    count.left -= 1
    assert (point.x, count.left) == (1, 2)


def test_default_factories_make_a_new_object_each_time(made: tuple[Any, Any]) -> None:
    one, other = made[1](), made[1]()
    one.seen.append(1)
    assert (one.seen, other.seen) == ([1], [])


def test_equality_and_hash_are_those_of_class_and_values(made: tuple[Any, Any]) -> None:
    @values.dataclass(frozen=True)
    class Other:
        x: int
        y: int = 2

    hashable, again = made[0](1, notes=frozenset()), made[0](1, notes=frozenset())
    assert hashable == again and hash(hashable) == hash(again) and hashable != made[0](2, notes=frozenset())
    assert made[1](2) == made[1](2) and made[1](2) != made[1](3)
    assert Other(1) != (1, 2) and Other(1) != made[0](1)
    with pytest.raises(TypeError):
        hash(made[1]())


def test_replace_changes_a_copy(module: Any, made: tuple[Any, Any]) -> None:
    point = made[0](1, tags=("a",))
    assert module.replace(point, x=7) == made[0](7, tags=("a",)) and point.x == 1
    with pytest.raises(TypeError):
        module.replace(point, z=7)
    assert copy.deepcopy(point) == point


def test_a_default_that_all_objects_would_share_is_refused() -> None:
    @values.dataclass
    class Shared:
        seen: list[int] = []  # noqa: RUF012 - that is the point

    with pytest.raises(ValueError, match=r"Shared\.seen: .* use default_factory"):
        Shared()


def test_it_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import mlcube_cli.values; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"__future__", "mlcube_cli", "mlcube_cli.values"}
