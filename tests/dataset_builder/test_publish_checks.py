"""What must not leave the machine is found in the files themselves, and nothing else is taken for it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_corpus

from dataset_builder.build import build_dataset
from dataset_builder.publish import published_files
from dataset_builder.publish_checks import (
    PrivateContentError,
    audio_by_licence,
    check_audio_licences,
    check_private_content,
)

SHARD = "cfg/train-00000-of-00001.parquet"
KEY = "hf_" + "a1" * 17  # put together here, so that this file holds no key


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> small_corpus.Corpus:
    return small_corpus.write_corpus(tmp_path_factory.mktemp("corpus"), small_corpus.tracks(8))


@pytest.fixture
def dataset(corpus: small_corpus.Corpus, tmp_path: Path) -> Path:
    build_dataset(corpus.captions, corpus.tracks, config="cfg", output=tmp_path / "out", audio_root=corpus.audio)
    return tmp_path / "out"


def check(dataset: Path) -> None:
    check_private_content(dataset, published_files(dataset))


def change_rows(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Rewrite a Parquet file with changed rows, as an edit after the build would."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def set_caption(text: str) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[1].update(caption_writing=text)


def test_a_data_set_as_it_was_built_may_leave(dataset):
    check(dataset)


@pytest.mark.parametrize(
    "text",
    [
        "An r/b ballad in 4/4, guitar and/or piano, AC/DC-like, 24/7, w/o drums.",
        "Sounds of the /90s/00s/ era / rock / pop, /r/music would like it.",
        "See https://example.org/home/alice/track and http://example.org/tmp/a.",
        "On a scale of 1/2/3 it is ../.. or ./tmp/ish, ~/mellow.",
        "A: B / C:/ D, ratio 3:/4",
    ],
)
def test_slashes_of_ordinary_captions_are_no_paths(dataset, text):
    change_rows(dataset / SHARD, set_caption(text))
    check(dataset)


@pytest.mark.parametrize(
    "text",
    [
        "The file /home/alice/music/a.mp3 is calm.",
        "(/Users/alice/a)",
        'path="/mnt/data/x.wav"',
        r"C:\Users\alice\song.mp3 is calm",
        "see file:///srv/a.mp3",
        f"made in {os.getcwd()}/audio",
        f"kept in {os.path.expanduser('~')}",
    ],
)
def test_a_caption_that_quotes_a_path_of_a_machine_is_refused_and_its_track_named(dataset, text):
    change_rows(dataset / SHARD, set_caption(text))
    with pytest.raises(PrivateContentError, match=r"train-00000.*track '.*', column 'caption_writing': holds a path"):
        check(dataset)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("path", lambda row: row.update(path="/audio/a.mp3")),
        ("path", lambda row: row.update(path="../../a.mp3")),
        ("path", lambda row: row.update(path=r"D:\a.mp3")),
        ("audio", lambda row: row["audio"].update(path="/audio/a.mp3")),
        ("provenance", lambda row: row["provenance"]["captions"][0].update(reason="no file /x/y.txt")),
        ("provenance", lambda row: row["provenance"]["captions"][1].update(model_asked="/models/small.gguf")),
        ("scores", lambda row: row["scores"][0].update(unsupported=["/x/y/z"])),
        ("tag", lambda row: row.update(tag=["rock", "/home/alice/x"])),
        ("title", lambda row: row.update(title="/tmp/a")),
        ("reference_captions", lambda row: row.update(reference_captions=["from /opt/corpus/a.txt"])),
    ],
)
def test_paths_are_found_however_deep_in_a_column_they_lie(dataset, column, change):
    change_rows(dataset / SHARD, lambda rows: change(rows[0]))
    with pytest.raises(PrivateContentError, match=f"column '{column}': holds a path"):
        check(dataset)


def test_the_last_row_of_a_long_file_is_looked_at_as_well(dataset):
    table = pq.read_table(dataset / SHARD)
    rows = (table.to_pylist() * 6_000)[:11_000]
    rows[-1] = {**rows[-1], "track_id": "the last", "caption_summary": "from /home/alice/x"}
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), dataset / SHARD, row_group_size=6_000)
    with pytest.raises(PrivateContentError, match="track 'the last', column 'caption_summary'"):
        check(dataset)


@pytest.mark.parametrize("name", ["HF_TOKEN", "OPENAI_API_KEY", "MY_SECRET", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY"])
def test_the_value_of_a_secret_is_found_and_not_repeated(dataset, monkeypatch, name):
    monkeypatch.setenv(name, "quiet-7-rivers")
    change_rows(dataset / SHARD, set_caption("A calm song, quiet-7-rivers."))
    with pytest.raises(PrivateContentError, match="column 'caption_writing': holds the value of") as caught:
        check(dataset)
    assert "quiet-7" not in str(caught.value)


def test_dummy_values_of_keys_are_words_and_no_secrets(dataset, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("APP_TOKEN", "calm")
    change_rows(dataset / SHARD, set_caption("A calm song, none louder."))
    check(dataset)


@pytest.mark.parametrize("key", [KEY, "sk-" + "b2" * 12, "ghp_" + "c3" * 18, "AKIA" + "D4" * 8])
def test_what_looks_like_an_access_key_is_refused_and_not_repeated(dataset, key):
    change_rows(dataset / SHARD, set_caption(f"Key {key}."))
    with pytest.raises(PrivateContentError, match="looks like an access key") as caught:
        check(dataset)
    assert key not in str(caught.value)


def test_a_column_that_no_layout_has_is_refused(dataset):
    table = pq.read_table(dataset / SHARD)
    for name, message in (("notes", "has the column 'notes'"), ("caption_notes", "has the column 'caption_notes'")):
        notes = pa.array(["hello"] * len(table))
        pq.write_table(table.append_column(name, notes), dataset / SHARD)
        with pytest.raises(PrivateContentError, match=message):
            check(dataset)


def test_a_column_of_another_type_is_refused(dataset):
    table = pq.read_table(dataset / SHARD)
    place = table.schema.get_field_index("scores")
    wider = pa.array([{"instruction": "writing", "notes": "hello"}] * len(table))
    pq.write_table(table.set_column(place, "scores", wider), dataset / SHARD)
    with pytest.raises(PrivateContentError, match="column 'scores' holds"):
        check(dataset)


def test_a_column_for_an_instruction_of_the_users_own_may_leave(tmp_path):
    tagged = small_corpus.tracks(4)
    rows = small_corpus.captions(tagged, ["writing", "haiku"])
    corpus = small_corpus.write_corpus(tmp_path / "in", tagged, rows)
    build_dataset(corpus.captions, corpus.tracks, config="cfg", output=tmp_path / "out")
    assert "caption_haiku" in pq.read_schema(tmp_path / "out" / SHARD).names
    check(tmp_path / "out")


def test_metadata_of_the_parquet_files_is_looked_at(dataset):
    table = pq.read_table(dataset / SHARD)
    for name, value, message in [
        ("pandas", '{"index_columns": ["/home/alice/frame"]}', r"its metadata 'pandas' holds a path"),
        ("lpmc.input", "/home/alice/tracks.parquet", r"its metadata 'lpmc.input' holds a path"),
        ("lpmc.input", KEY, "looks like an access key"),
        ("author", "Alice", "its metadata has 'author', which no build writes"),
    ]:
        with pq.ParquetWriter(dataset / SHARD, table.schema) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({name: value})  # as a build does: the Arrow schema does not repeat it
        with pytest.raises(PrivateContentError, match=message):
            check(dataset)


def test_metadata_of_a_single_field_is_looked_at(dataset):
    table = pq.read_table(dataset / SHARD)
    field = table.schema.field("track_id").with_metadata({"from": "/home/alice/tracks.parquet"})
    schema = table.schema.set(table.schema.get_field_index("track_id"), field)
    pq.write_table(table.cast(schema), dataset / SHARD)
    with pytest.raises(PrivateContentError, match="'ARROW:schema' holds a path"):
        check(dataset)


@pytest.mark.parametrize("name", ["cfg/build.json", "cfg/pipeline.json"])
def test_json_beside_the_shards_is_looked_at(dataset, name):
    path = dataset / name
    value = json.loads(path.read_text())
    for text in ("/srv/models/small.gguf", KEY):
        path.write_text(json.dumps({**value, "pipeline": {"deep": [{"model": text}]}}))
        with pytest.raises(PrivateContentError, match=path.name):
            check(dataset)


def test_the_card_and_the_licences_are_looked_at(dataset):
    for name in ("README.md", "LICENSE.md"):
        good = (dataset / name).read_text()
        (dataset / name).write_text(f"{good}\nBuilt in {dataset.resolve()}/cfg.\n")
        with pytest.raises(PrivateContentError, match=f"{name}: holds a path"):
            check(dataset)
        (dataset / name).write_text(good)


def test_audio_is_counted_by_source_and_licence_from_the_rows(tmp_path):
    mixed = [
        *small_corpus.tracks(4, source="mtg_jamendo", licence="CC BY 4.0"),
        *small_corpus.tracks(3, source="mtg_jamendo", licence=""),
        *small_corpus.tracks(2, source="musiccaps", licence="CC BY-SA 4.0"),
    ]
    tagged = [
        replace(track, track_id=f"n{number}", split="train", audio_path=f"clips/n{number}.wav")
        for number, track in enumerate(mixed)
    ]
    tagged[0] = replace(tagged[0], audio_path="clips/none.wav")
    corpus = small_corpus.write_corpus(tmp_path / "in", tagged)
    (corpus.audio / "clips/none.wav").unlink()
    build_dataset(corpus.captions, corpus.tracks, config="cfg", output=tmp_path / "out", audio_root=corpus.audio)

    counted = audio_by_licence(tmp_path / "out/cfg")
    assert counted == {
        ("mtg_jamendo", "CC BY 4.0"): 3,
        ("mtg_jamendo", ""): 3,
        ("musiccaps", "CC BY-SA 4.0"): 2,
    }
    with pytest.raises(PrivateContentError) as caught:
        check_audio_licences(tmp_path / "out", ["cfg"])
    said = str(caught.value)
    assert "the audio of 5 track(s)" in said
    assert "3 of MTG-Jamendo (no licence stated), 2 of MusicCaps (CC BY-SA 4.0)" in said
    assert "--audio publishable" in said
    assert "--private" in said
    assert "\n" not in said

    build_dataset(
        corpus.captions,
        corpus.tracks,
        config="cfg",
        output=tmp_path / "out",
        audio_root=corpus.audio,
        audio="publishable",
    )
    check_audio_licences(tmp_path / "out", ["cfg"])
    assert audio_by_licence(tmp_path / "out/cfg") == {("mtg_jamendo", "CC BY 4.0"): 3}


def test_what_build_json_says_about_sources_is_not_believed(tmp_path):
    corpus = small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(2, source="musiccaps"))
    output = tmp_path / "out"
    build_dataset(corpus.captions, corpus.tracks, config="cfg", output=output, audio_root=corpus.audio)
    making = output / "cfg/build.json"
    making.write_text(json.dumps({**json.loads(making.read_text()), "sources": {"rendered": 2}, "audio_embedded": 0}))
    with pytest.raises(PrivateContentError, match="2 of MusicCaps"):
        check_audio_licences(output, ["cfg"])


def test_audio_of_rows_that_say_nothing_of_their_source_stays_at_home(tmp_path):
    corpus = small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(3))
    output = tmp_path / "out"
    build_dataset(corpus.captions, corpus.tracks, config="mine", output=output, audio_root=corpus.audio)
    for path in output.glob("mine/*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["provenance"]), path)
    with pytest.raises(PrivateContentError, match=r"audio of 3 track\(s\) that may not be redistributed"):
        check_audio_licences(output, ["mine"])


def test_captions_without_audio_may_be_published_whatever_their_source(tmp_path):
    corpus = small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(2, source="musiccaps"))
    build_dataset(corpus.captions, corpus.tracks, config="cfg", output=tmp_path / "out")
    check_audio_licences(tmp_path / "out", ["cfg"])
