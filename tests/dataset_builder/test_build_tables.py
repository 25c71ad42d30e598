"""Tables of other writers, odd files under the audio folder, and names that would tell about the machine."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_corpus
import soundfile

from dataset_builder import build, caption_order, shards
from dataset_builder.build import build_dataset
from dataset_builder.lp_musiccaps import published_path, without_folders
from lpmc_errors import TableError, UsageError

LARGE = {pa.string(): pa.large_string(), pa.list_(pa.string()): pa.large_list(pa.large_string())}


@pytest.fixture
def corpus(tmp_path: Path) -> small_corpus.Corpus:
    return small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(8))


def rewrite(path: Path, change) -> None:
    """Write the table anew with `change(name, column)` for every column."""
    table = pq.read_table(path)
    pq.write_table(pa.table({name: change(name, table.column(name)) for name in table.column_names}), path)


def train_rows(output: Path) -> list[dict]:
    return pq.read_table(output / "fma/train-00000-of-00001.parquet").to_pylist()


@pytest.mark.parametrize("sort_first", [False, True])
@pytest.mark.parametrize("writer", ["large", "dictionary", "nothing known"])
def test_captions_of_another_writer_give_the_same_rows(corpus, tmp_path, monkeypatch, writer, sort_first):
    def change(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        if writer == "large":
            return column.cast(LARGE.get(column.type, column.type))
        if writer == "dictionary":
            return column.dictionary_encode() if column.type == pa.string() else column
        return pa.chunked_array([pa.nulls(len(column))]) if column.null_count == len(column) else column

    build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "one")
    rewrite(corpus.captions, change)
    monkeypatch.setattr(build, "is_ordered", lambda captions, spans: not sort_first)

    build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "two")

    assert train_rows(tmp_path / "two") == train_rows(tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "value"), [("extra", {"a": 1}), ("reference_captions", "one"), ("split", ["train"]), ("year", "unknown")]
)
def test_a_column_of_the_wrong_type_is_named(corpus, tmp_path, name, value):
    rewrite(corpus.tracks, lambda found, column: pa.array([value] * len(column)) if found == name else column)

    with pytest.raises(TableError, match=f"column {name}: a value does not fit its column"):
        build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out")


def test_captions_in_one_huge_row_group_are_sorted_first(corpus, monkeypatch):
    everything = [(0, 7)]
    assert caption_order.is_ordered(corpus.captions, everything)

    monkeypatch.setattr(caption_order, "MAX_GROUP_ROWS", 20)
    assert not caption_order.is_ordered(corpus.captions, everything)

    monkeypatch.undo()
    monkeypatch.setattr(caption_order.lp_musiccaps, "TRACKS_PER_CHUNK", 1)
    assert not caption_order.is_ordered(corpus.captions, everything), "it would be read eight times"


def test_links_pipes_and_names_that_are_no_text_under_the_audio_folder_stop_nothing(tmp_path):
    tagged = [replace(track, track_id=f"track-{track.track_id}", audio_path=None) for track in small_corpus.tracks(4)]
    corpus = small_corpus.write_corpus(tmp_path / "in", tagged)
    odd = Path(os.fsdecode(os.fsencode(corpus.audio) + b"/caf\xe9"))
    odd.mkdir(parents=True)
    (corpus.audio / "track-t0.wav").symlink_to("/nowhere/of/an/annex")
    os.mkfifo(corpus.audio / "track-t1.wav")
    (odd / "track-t2.wav").write_bytes(b"no sound")
    soundfile.write(corpus.audio / "track-t3.wav", np.linspace(-0.5, 0.5, 4000), 16_000)

    report = build_dataset(
        corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out", audio_root=corpus.audio
    )

    assert report.audio_embedded == 1
    assert {track_id for track_id, _ in report.failed_audio} == {"track-t0", "track-t1", "track-t2"}


def test_a_file_that_no_parquet_value_can_hold_is_named_without_being_read(corpus, tmp_path):
    with (corpus.audio / "clips/t0.wav").open("ab") as file:
        file.truncate(shards.MAX_AUDIO_BYTES + 1)  # sparse

    report = build_dataset(
        corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out", audio_root=corpus.audio
    )

    assert report.failed_audio == [("t0", "clips/t0.wav: is larger than 2 GiB, which no Parquet value can be")]


@pytest.mark.parametrize("name", ["README.md", "readme.md", "LICENSE.md", "croissant.json"])
def test_a_configuration_is_not_called_like_a_file_beside_it(corpus, tmp_path, name):
    with pytest.raises(UsageError, match="cannot name a configuration"):
        build_dataset(corpus.captions, corpus.tracks, config=name, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("edited", [b"configs: [: {", b"configs: 7", b"\xff\xfe: caf\xe9"])
def test_a_card_that_was_edited_beyond_reading_is_rendered_anew(corpus, tmp_path, edited):
    build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out")
    card = tmp_path / "out/README.md"
    whole = card.read_bytes()
    card.write_bytes(whole.replace(b"configs:", edited + b"\nothers:", 1))

    build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out")

    assert card.read_bytes() == whole


@pytest.mark.parametrize(
    "path",
    [
        "file:///home/john/x.mp3",
        "file://localhost/home/john/x.mp3",
        "~john/x.mp3",
        "/home/John Smith/x.mp3",
        "C:\\Users\\john\\x.mp3",
        "\\\\server\\john\\x.mp3",
    ],
)
def test_a_path_is_published_without_the_folders_of_its_machine(path):
    assert published_path(path, None) == "x.mp3"


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("/home/John Smith/models/x.gguf", "x.gguf"),
        ("no such file: '/home/John Smith/x.gguf'", "no such file: 'x.gguf'"),
        ("C:\\Users\\John Smith\\x.gguf", "x.gguf"),
        ("\\\\server\\john\\x.gguf", "x.gguf"),
        ("~john/models/x.gguf", "x.gguf"),
        ("file:///home/john/x.gguf", "x.gguf"),
        ("model=/home/john/x.gguf", "model=x.gguf"),
        ("http://host/a/b, MP3/WAV, and/or 3 / 4", "http://host/a/b, MP3/WAV, and/or 3 / 4"),
        ("org/model", "org/model"),
    ],
)
def test_what_is_told_about_the_making_names_no_folder(text, published):
    assert without_folders(text) == published
