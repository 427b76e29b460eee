"""`dataclass`, `field` and `replace` of the standard library, as far as this program uses them, at a small part of the cost.

Importing `dataclasses` takes as long as starting half an interpreter (inspect, ast, tokenize, dis), and each frozen class
another millisecond, since five methods are compiled for it; that was half of what `describe` took. Here four methods
are shared by all classes, and `__init__` is compiled when the first object is made. Type checkers see the original.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it as true; importing typing takes 2 ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass as dataclass  # noqa: TID251
    from dataclasses import field as field  # noqa: TID251
    from dataclasses import replace as replace  # noqa: TID251
    from typing import Any


class _Made:
    """A default that is made anew for each object."""

    def __init__(self, default_factory: Callable[[], object]) -> None:
        self.make = default_factory


def _dataclass(cls: type | None = None, *, frozen: bool = False) -> Any:  # a class, or what decorates one
    if cls is None:
        return lambda decorated: _define(decorated, frozen)
    return _define(cls, frozen)


def _define(cls: Any, frozen: bool) -> Any:
    def __init__(self: object, *args: object, **named: object) -> None:  # noqa: N807
        cls.__init__ = _initialiser(cls, frozen)
        cls.__init__(self, *args, **named)

    cls.__init__, cls.__repr__, cls.__eq__ = __init__, _repr, _eq
    cls.__hash__ = _hash if frozen else None
    if frozen:
        cls.__setattr__ = cls.__delattr__ = _refuse
    return cls


def _initialiser(cls: Any, frozen: bool) -> Callable[..., None]:
    """`__init__` with the class's annotated names as parameters, in their order, and its attributes as defaults."""
    given: dict[str, object] = {"set_value": object.__setattr__, "made": _Made}
    parameters, lines = ["self"], []
    for name in cls.__annotations__:
        default = cls.__dict__.get(name, _Made)
        if default is not _Made:
            if default.__class__.__hash__ is None:
                raise ValueError(f"{cls.__name__}.{name}: all objects would share this default; use default_factory")
            given[f"default_{name}"] = default
        parameters.append(name if default is _Made else f"{name}=default_{name}")
        value = f"{name}.make() if {name}.__class__ is made else {name}" if isinstance(default, _Made) else name
        lines.append(f"set_value(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(lines), given)
    made: Any = given["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made  # type: ignore[no-any-return]  # compiled just now


def _repr(self: object) -> str:
    return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


def _eq(self: object, other: object) -> bool:
    return self.__dict__ == other.__dict__ if other.__class__ is self.__class__ else NotImplemented


def _hash(self: object) -> int:
    return hash((type(self), *self.__dict__.values()))


def _refuse(self: object, name: str, *_: object) -> None:
    raise AttributeError(f"a {type(self).__name__} is a value: {name} cannot be changed")


def _replace(value: Any, /, **changes: object) -> Any:
    return type(value)(**{**value.__dict__, **changes})


if not TYPE_CHECKING:
    dataclass, field, replace = _dataclass, _Made, _replace
