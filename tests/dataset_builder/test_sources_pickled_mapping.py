"""Pickled dictionaries of ids and paths, read without unpickling."""

from __future__ import annotations

import pickle
import pickletools

import pytest

from dataset_builder.sources import pickled_mapping
from dataset_builder.sources.pickled_mapping import read_pickled_mapping
from lpmc_errors import TableError

PREVIEW = {"8134074": "8/1/8134074.clip.mp3", 2: "2/2.clip.mp3", "1": "1/1.clip.mp3"}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("size", [0, 1, 2500])
def test_pairs_come_out_as_text_in_their_order_under_every_protocol(tmp_path, protocol, size):
    path = tmp_path / "x.pkl"
    shared = "ü/shared.mp3"  # picklers store it once and refer to it
    pairs: dict[object, object] = {**PREVIEW, **dict.fromkeys(range(1000, 1000 + size), shared), "big": 1 << 40}
    path.write_bytes(pickle.dumps(pairs, protocol))
    assert list(read_pickled_mapping(path)) == [(str(key), str(value)) for key, value in pairs.items()]


def test_a_pickle_of_python_2_is_read(tmp_path):
    """Its text is bytes, and it counts its memo from 1; written out here as cPickle of Python 2.7 does."""
    path = tmp_path / "old.pkl"
    path.write_bytes(b"(dp1\nS'TRA'\np2\nS'8134074'\np3\nsS'TRB'\np4\nI2\nsS'TRC'\np5\ng3\ns.")
    assert dict(read_pickled_mapping(path)) == {"TRA": "8134074", "TRB": "2", "TRC": "8134074"}
    path.write_bytes(b"\x80\x02}q\x01(U\x03TRAq\x02U\x01xq\x03U\x03TRBq\x04h\x03u.")
    assert dict(read_pickled_mapping(path)) == {"TRA": "x", "TRB": "x"}


def _memo_bomb(slot: int) -> bytes:
    """A few bytes that make CPython 3.11's own unpickler ask for 16 bytes times `slot`."""
    return b"\x80\x02}" + b"X\x01\x00\x00\x00a" + b"r" + slot.to_bytes(4, "little") + b"X\x01\x00\x00\x00bs."


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "pickle exhausted"),
        (pickle.dumps(PREVIEW)[:-5], "is no pickled dictionary that can be read"),
        (pickle.dumps([1, 2]), "holds more than text and whole numbers: EMPTY_LIST"),
        (pickle.dumps("text"), "holds no dictionary"),
        (pickle.dumps({"a": b"bytes"}), "holds more than text and whole numbers: SHORT_BINBYTES"),
        (pickle.dumps({"a": 1.5}), "holds more than text and whole numbers: BINFLOAT"),
        (pickle.dumps({"a": {"b": "c"}}), "pairs outside of the dictionary"),
        (pickle.dumps({"a": 1 << 5000}), "holds more than text and whole numbers: LONG4|neither text|digits"),
        (_memo_bomb(2**31 - 1), "memo slot 2147483647 comes after 0"),
        (_memo_bomb(1 << 22), "memo slot 4194304 comes after 0"),
        (b"\x80\x02}(K\x01}u.", "a key or value is neither text nor a whole number"),
        (b"\x80\x02}(}K\x01u.", "a key or value is neither text nor a whole number"),
        (b"}I01\nI2\ns.", "a key or value is neither text nor a whole number"),
        (b"\x80\x02}(" + b"K\x01" * 20_000 + b"u.", "10000 values in a row are stored nowhere"),
        (b"\x80\x02}h\x05s.", "list index out of range"),
        (b"\x80\x02}K\x01s.", "pairs outside of the dictionary"),
        (b"\x80\x02}(K\x01u.", "pairs outside of the dictionary"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.", "is no pickled dictionary that can be read"),
        (b"\x80\x02c__builtin__\neval\n(X\x01\x00\x00\x001tR.", "GLOBAL at byte 2"),
    ],
)
def test_a_pickle_that_is_damaged_or_built_to_harm_is_refused(tmp_path, content, problem):
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with pytest.raises(TableError, match=problem):
        list(read_pickled_mapping(path))


def test_a_pickle_of_more_bytes_than_the_corpus_can_need_is_not_opened(tmp_path, monkeypatch):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(PREVIEW))
    monkeypatch.setattr(pickled_mapping, "MAX_BYTES", 10)
    monkeypatch.setattr(pickletools, "genops", lambda file: pytest.fail("it was opened"))
    with pytest.raises(TableError, match="more than the 10 that are read"):
        list(read_pickled_mapping(path))


def test_a_pickle_cannot_fill_the_memory_by_remembering(tmp_path, monkeypatch):
    monkeypatch.setattr(pickled_mapping, "MAX_SLOTS", 100)
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x04}" + b"\x94" * 200 + b".")
    with pytest.raises(TableError, match="memo slot 101 comes after 101"):
        list(read_pickled_mapping(path))
