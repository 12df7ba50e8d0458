"""Our NamedTuple against Python's own."""

from __future__ import annotations

import pickle
import typing

import pytest

from pkghook import values


class Own(values.NamedTuple):
    """A value."""

    name: str
    size: int = 3  # bytes
    inner: tuple[Undefined, ...] = ()  # type: ignore[name-defined]  # noqa: F821  that nobody compiles annotations

    @property
    def double(self) -> int:
        """Twice."""
        return 2 * self.size

    @classmethod
    def small(cls) -> Own:
        """One of them."""
        return cls("small", 1)


class Python(typing.NamedTuple):
    """A value."""

    name: str
    size: int = 3

    @property
    def double(self) -> int:
        """Twice."""
        return 2 * self.size


def test_is_a_tuple_with_names_and_defaults() -> None:
    assert Own("a") == ("a", 3, ())
    assert Own._fields == ("name", "size", "inner")
    assert Own._field_defaults == {"size": 3, "inner": ()}
    assert Own("a", size=4)._replace(name="b") == ("b", 4, ())
    assert repr(Own("a")) == "Own(name='a', size=3, inner=())"
    assert isinstance(Own("a"), tuple)


def test_has_its_methods_and_words() -> None:
    assert Own("a").double == 6
    assert Own.small().double == 2
    assert (Own.__name__, Own.__qualname__, Own.__module__, Own.__doc__) == ("Own", "Own", __name__, "A value.")
    assert Own.__annotations__["size"] == "int"


def test_is_frozen_and_small_and_can_be_sent() -> None:
    with pytest.raises(AttributeError):
        Own("a").size = 4  # type: ignore[misc]  # that is the point
    assert not hasattr(Own("a"), "__dict__")
    assert pickle.loads(pickle.dumps(Own("a"))) == Own("a")  # noqa: S301  our own


def test_is_as_pythons_own() -> None:
    # Python 3.14 keeps how to compute annotations beside those that are known; ours are known
    assert set(dir(Python)) - set(dir(Own)) <= {"__orig_bases__", "__annotate_func__"}
    assert Python.__mro__[1:] == Own.__mro__[1:]


def test_unknown_and_missing_fields_are_refused() -> None:
    with pytest.raises(TypeError):
        Own()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Own("a", colour=1)  # type: ignore[call-arg]
