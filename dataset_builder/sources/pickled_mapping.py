"""A pickled dictionary of text and whole numbers, read without unpickling: no object is ever made, nothing can run.

A pickle is a program. An unpickler that refuses every class still follows it, and a few bytes can make it ask for any
amount of memory (the number of a memo slot is taken at its word). Here the standard library's disassembler names one
instruction after the other, and only those that put text, whole numbers and pairs into one dictionary are followed.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator
from pathlib import Path

from lpmc_errors import TableError

MAX_BYTES = 1 << 27  # of a file; a million ids and paths take about 50 MB
MAX_SLOTS = 1 << 23  # of the memo; picklers use two a pair
MAX_STACK = 10_000  # values that wait to be stored; picklers store at least every 1,000 pairs
_TEXT = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_WHOLE = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"}
_SCALARS = frozenset(_TEXT | _WHOLE)
_REMEMBER = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_RECALL = frozenset({"GET", "BINGET", "LONG_BINGET"})
_NOTHING = frozenset({"PROTO", "FRAME"})
_MARK, _DICT = object(), object()


def read_pickled_mapping(path: Path) -> Iterator[tuple[str, str]]:
    """The pairs of the dictionary in the pickle file `path`, keys and values as text, in the order they were stored.

    Raises `TableError` for a file that is larger than `MAX_BYTES`, damaged, or holds anything else than a dictionary of
    text and whole numbers. Pairs before the fault have been given out by then.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise TableError(path, f"has {size} bytes, more than the {MAX_BYTES} that are read", "give the paths as CSV")
    stack: list[object] = []
    memo: list[object] = []
    try:
        for code, argument, position in pickletools.genops(io.BytesIO(path.read_bytes())):
            name = code.name
            if len(stack) > MAX_STACK:
                raise ValueError(f"{MAX_STACK} values in a row are stored nowhere")
            if name in _SCALARS:
                stack.append(argument)
            elif name in _REMEMBER:
                _remember(memo, len(memo) if name == "MEMOIZE" else int(argument or 0), stack[-1])
            elif name in _RECALL:
                stack.append(memo[int(argument or 0)])
            elif name == "MARK":
                stack.append(_MARK)
            elif name == "EMPTY_DICT":
                stack.append(_DICT)
            elif name == "SETITEM":
                pair, stack[-2:] = stack[-2:], []
                yield from _pairs(stack, pair)
            elif name in ("SETITEMS", "DICT"):
                mark = len(stack) - 1 - stack[::-1].index(_MARK)
                pairs, stack[mark:] = stack[mark + 1 :], []
                if name == "DICT":
                    stack.append(_DICT)
                yield from _pairs(stack, pairs)
            elif name == "STOP":
                if stack != [_DICT]:
                    raise ValueError("holds no dictionary")
            elif name not in _NOTHING:
                raise ValueError(f"holds more than text and whole numbers: {name} at byte {position}")
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise TableError(
            path, f"is no pickled dictionary that can be read ({error})", "give the paths as CSV or JSON, paths=FILE"
        ) from error


def _remember(memo: list[object], slot: int, value: object) -> None:
    """Picklers number their slots from 0, Python 2's from 1; a number far beyond is an attempt to exhaust memory."""
    if not 0 <= slot <= min(len(memo) + 1, MAX_SLOTS):
        raise ValueError(f"memo slot {slot} comes after {len(memo)}")
    memo.extend([None] * (slot + 1 - len(memo)))
    memo[slot] = value


def _pairs(stack: list[object], items: list[object]) -> Iterator[tuple[str, str]]:
    if stack != [_DICT] or len(items) % 2:
        raise ValueError("pairs outside of the dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, int) or type(value) not in (str, int):
            raise ValueError("a key or value is neither text nor a whole number")
        yield str(key), str(value)
