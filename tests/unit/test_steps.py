"""`chain.steps`: the table of steps and the order that settings ask for."""

from __future__ import annotations

import pytest

from pkghook.chain.steps import DEFAULT_ORDER, NAMED, STEPS, Promise, order
from pkghook.errors import SettingError


def names(chain: str = "", *, symbols: bool = False, labels: bool = False) -> list[str]:
    """The names of the steps in their order."""
    return [step.name for step in order(chain, symbols=symbols, labels=labels)]


def test_eight_steps() -> None:
    assert list(STEPS) == [
        "native",
        "native-symbols",
        "native-labels",
        "objcopy-symbols",
        "objcopy",
        "strip",
        "eu-strip",
        "llvm-strip",
    ]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("objcopy-symbols", "/t --strip-debug --wildcard --strip-symbols /l /i /o"),
        ("objcopy", "/t --strip-debug /i /o"),
        ("strip", "/t --strip-debug -o /o /i"),
        ("eu-strip", "/t -g -o /o /i"),
        ("llvm-strip", "/t --strip-debug -o /o /i"),
    ],
)
def test_command_lines(step: str, words: str) -> None:
    assert STEPS[step].command("/t", "/i", "/o", "/l") == words.split()


def test_a_tool_called_in_stays_a_tool() -> None:
    """Only the words of the row stand for files, not what is put in their place."""
    assert STEPS["objcopy"].command("IN", "OUT", "LIST") == ["IN", "--strip-debug", "OUT", "LIST"]


def test_promises() -> None:
    more = {name: step.promise for name, step in STEPS.items() if step.promise != Promise()}
    assert more == {
        "native-symbols": Promise(symbols=True),
        "native-labels": Promise(symbols=True, labels=True),
        "objcopy-symbols": Promise(symbols=True),
    }


def test_default_order() -> None:
    assert names() == list(DEFAULT_ORDER) == ["native", "eu-strip", "objcopy", "llvm-strip", "strip"]


def test_steps_of_a_promise_go_first() -> None:
    assert names(symbols=True) == ["native-symbols", "objcopy-symbols", *DEFAULT_ORDER]
    assert names(labels=True) == ["native-labels", *DEFAULT_ORDER]
    assert names(symbols=True, labels=True) == ["native-labels", "native-symbols", "objcopy-symbols", *DEFAULT_ORDER]


def test_the_chain_of_2009_to_the_letter() -> None:
    assert names("thread", symbols=True) == list(NAMED["thread"]) == ["objcopy-symbols", "objcopy", "strip"]


def test_an_explicit_chain_is_taken_literally() -> None:
    assert names("strip, native") == ["strip", "native"]
    assert names("objcopy,native-symbols", symbols=True) == ["objcopy", "native-symbols"]
    assert names("native-labels", labels=True) == ["native-labels"]
    assert names("native-labels", symbols=True, labels=True) == ["native-labels"]


@pytest.mark.parametrize(
    ("chain", "symbols", "labels", "message", "hint"),
    [
        ("natve", False, False, "'natve'", "native"),
        ("native,", False, False, "''", "native"),
        ("thread,native", True, False, "'thread'", "alone"),
        ("native,strip,native", False, False, "more than once", "once"),
        ("thread", False, False, "objcopy-symbols needs a symbol list", "--strip-symbols"),
        ("native-symbols", False, False, "needs a symbol list", "symbols.safe"),
        ("native-labels", False, False, "needs leave", "--discard-labels"),
        ("native-labels", True, False, "needs leave", "--discard-labels"),
        ("native,strip", True, False, "listed symbols", "native-symbols"),
        ("native,strip", False, True, "labels", "native-labels"),
        ("native-symbols", True, True, "labels", "native-labels"),
    ],
)
def test_contradictions(chain: str, symbols: bool, labels: bool, message: str, hint: str) -> None:  # noqa: FBT001
    with pytest.raises(SettingError) as caught:
        order(chain, symbols=symbols, labels=labels)
    assert message in caught.value.message
    assert hint in caught.value.hint
