"""A data set's life on the Hub as its readers meet it: the real clients, each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import small_corpus
from hub_clients import Client, Pusher
from hub_double import HubDouble
from hub_state import GUEST, GUEST_TOKEN, TOKEN

from dataset_builder.build import build_dataset

REPO = "org/lp-musiccaps"

# Everything that a reader does here works with `pip install datasets soundfile` alone, in datasets 3 and 5.
READER = f"""
import io
import soundfile
from datasets import Audio, load_dataset
REPO = {REPO!r}
def ids(rows):
    return [row["track_id"] for row in rows]
def refusal(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"
    return "none"
def played(rows):
    return [len(soundfile.read(io.BytesIO(row["audio"]["bytes"]))[0]) for row in rows if row["audio"]]
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[HubDouble]:
    with HubDouble() as double:
        yield double


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two versions of a data set with a text and an audio configuration: twelve tracks, then eight others."""
    folder = tmp_path_factory.mktemp("versions")
    found = []
    for name, count, prefix in (("first", 12, "t"), ("second", 8, "n")):
        tagged = [replace(track, track_id=track.track_id.replace("t", prefix)) for track in small_corpus.tracks(count)]
        corpus = small_corpus.write_corpus(folder / name, tagged)
        output = folder / name / "lp-musiccaps"
        for config, root in (("text", None), ("with-audio", corpus.audio)):
            build_dataset(corpus.captions, corpus.tracks, config=config, output=output, audio_root=root, shard_bytes=1)
        found.append(output)
    return found[0], found[1]


@pytest.fixture(scope="module")
def pusher(hub: HubDouble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pusher]:
    with Pusher(hub.environment(tmp_path_factory.mktemp("home"))) as process:
        yield process


def test_publish_load_stream_filter_pin_renew_and_reload_offline(hub, pusher, versions, tmp_path):
    first, second = versions
    hub.state.forget()
    old = pusher.push(first, REPO)["revision"]
    pusher.run(f"from huggingface_hub import HfApi; HfApi().create_tag({REPO!r}, tag='v1', repo_type='dataset')")

    home = tmp_path / "reader"
    with Client(hub.environment(home, token=None), READER) as reader:
        assert reader.run("answer = {s: ids(r) for s, r in load_dataset(REPO).items()}") == {
            "train": ["t0", "t3", "t4", "t7", "t8", "t11"],
            "valid": ["t1", "t5", "t9"],
            "test": ["t2", "t6", "t10"],
        }
        assert reader.run("answer = load_dataset(REPO, split='train')[0]['caption_writing']") == (
            "A writing of rock, piano, mood 0."
        )
        audio = (
            "load_dataset(REPO, 'with-audio', split='valid', streaming=True).cast_column('audio', Audio(decode=False))"
        )
        assert reader.run(f"answer = played({audio})") == [1600] * 3
        columns = "['track_id', 'caption_summary']"
        assert reader.run(f"answer = list(load_dataset(REPO, split='test', streaming=True, columns={columns}))[0]") == {
            "track_id": "t2",
            "caption_summary": "A summary of rock, piano, mood 2.",
        }
        assert reader.run(
            "answer = ids(load_dataset(REPO, split='train').filter(lambda row: 'mood 4' in row['tag']))"
        ) == ["t4"]
        wanted = "filters=[('track_id', 'in', ['t1', 't9'])]"
        assert reader.run(
            f"answer = ids(load_dataset(REPO, split='valid', {wanted}, verification_mode='no_checks'))"
        ) == ["t1", "t9"]
        assert reader.run(f"answer = ids(load_dataset(REPO, split='valid', {wanted}, streaming=True))") == ["t1", "t9"]
        snapshot = reader.run(
            "from huggingface_hub import snapshot_download\n"
            "folder = snapshot_download(REPO, repo_type='dataset')\n"
            "answer = {'ids': ids(load_dataset(folder, 'text', split='test')), 'folder': folder}"
        )
        assert snapshot["ids"] == ["t2", "t6", "t10"]
        for path in first.glob("*/*.parquet"):
            assert (Path(snapshot["folder"]) / path.relative_to(first)).read_bytes() == path.read_bytes()

        new = pusher.push(second, REPO)["revision"]

        assert new != old
        assert reader.run("answer = ids(load_dataset(REPO, split='valid'))") == ["n1", "n5"]
        for revision in ("v1", old):
            assert reader.run(f"answer = ids(load_dataset(REPO, split='valid', revision={revision!r}))") == [
                *("t1", "t5", "t9")
            ]
        assert "DatasetNotFoundError" in reader.run("answer = refusal(load_dataset, REPO, revision='v9')")

    with Client({**hub.environment(home, token=None), "HF_HUB_OFFLINE": "1"}, READER) as reader:
        asked = len(hub.state.log)
        assert reader.run("answer = ids(load_dataset(REPO, split='valid'))") == ["n1", "n5"]
        assert "Error" in reader.run("answer = refusal(load_dataset, 'org/never-seen')")
        assert len(hub.state.log) == asked, "an offline reader asked the Hub"


def test_a_private_data_set_is_there_for_its_owner_alone(hub, pusher, versions, tmp_path):
    first, _ = versions
    hub.state.forget()
    pusher.push(first, REPO, private=True)
    absent = "DatasetNotFoundError: Dataset 'org/lp-musiccaps' doesn't exist on the Hub or cannot be accessed."
    with Client(hub.environment(tmp_path / "reader", token=None), READER) as reader:
        for token in (None, GUEST_TOKEN):
            assert reader.run(f"answer = refusal(load_dataset, REPO, token={token!r})") == absent
            assert reader.run(f"answer = refusal(load_dataset, REPO, token={token!r}, streaming=True)") == absent
        rows = f"load_dataset(REPO, split='valid', token={TOKEN!r})"
        assert reader.run(f"answer = ids({rows})") == ["t1", "t5", "t9"]


def test_a_gated_data_set_is_there_for_who_was_let_in(hub, pusher, versions, tmp_path):
    first, _ = versions
    hub.state.forget()
    pusher.push(first, REPO, gated="manual")
    gated = "DatasetNotFoundError: Dataset 'org/lp-musiccaps' is a gated dataset on the Hub."
    with Client(hub.environment(tmp_path / "reader", token=None), READER) as reader:
        assert reader.run("answer = refusal(load_dataset, REPO)") == f"{gated} You must be authenticated to access it."
        refused = reader.run(f"answer = refusal(load_dataset, REPO, token={GUEST_TOKEN!r})")
        assert refused.startswith(gated)
        assert "to ask for access" in refused
        pusher.run(
            f"from huggingface_hub import HfApi; HfApi().grant_access({REPO!r}, user={GUEST!r}, repo_type='dataset')"
        )
        rows = f"load_dataset(REPO, split='valid', token={GUEST_TOKEN!r})"
        assert reader.run(f"answer = ids({rows})") == ["t1", "t5", "t9"]
        rows = f"load_dataset(REPO, 'with-audio', split='test', token={GUEST_TOKEN!r})"
        assert reader.run(f"answer = played({rows}.cast_column('audio', Audio(decode=False)))") == [1600] * 3


def test_a_reader_while_a_second_version_is_pushed_sees_the_first_one_whole(hub, pusher, versions, tmp_path):
    first, second = versions
    hub.state.forget()
    pusher.push(first, REPO)
    hub.fail("POST .*/commit/main", 1, status=429, headers={"Retry-After": "3600"})
    answer = pusher.push(second, REPO, limits={"COMMIT_BYTES": 110_000, "GROUP_BYTES": 1})
    assert answer.startswith("HubAwayError(75)"), "the push was to stop before its last commit"
    with Client(hub.environment(tmp_path / "reader", token=None), READER) as reader:
        assert reader.run("answer = {s: len(r) for s, r in load_dataset(REPO).items()}") == {
            "train": 6,
            "valid": 3,
            "test": 3,
        }
        hub.state.faults.clear()
        pusher.push(second, REPO, limits={"COMMIT_BYTES": 110_000, "GROUP_BYTES": 1})
        assert reader.run("answer = ids(load_dataset(REPO, split='valid'))") == ["n1", "n5"]


def test_datasets_3_reads_the_same_repository(hub, pusher, versions, datasets_3, tmp_path):
    python = datasets_3.python
    first, second = versions
    hub.state.forget()
    old = pusher.push(first, REPO)["revision"]
    pusher.push(second, REPO)
    home = tmp_path / "reader"
    with Client(hub.environment(home, token=None), READER, python=python) as reader:
        assert reader.run("import datasets; answer = datasets.__version__").startswith("3.")
        assert reader.run(f"answer = ids(load_dataset(REPO, split='valid', revision={old!r}))") == ["t1", "t5", "t9"]
        assert reader.run("answer = {s: ids(r) for s, r in load_dataset(REPO, 'text').items()}") == {
            "train": ["n0", "n3", "n4", "n7"],
            "valid": ["n1", "n5"],
            "test": ["n2", "n6"],
        }
        audio = (
            "load_dataset(REPO, 'with-audio', split='valid', streaming=True).cast_column('audio', Audio(decode=False))"
        )
        assert reader.run(f"answer = played({audio})") == [1600] * 2
    # Offline, datasets 3 takes what it prepared last, whichever revision that was.
    with Client({**hub.environment(home, token=None), "HF_HUB_OFFLINE": "1"}, READER, python=python) as reader:
        assert reader.run("answer = ids(load_dataset(REPO, 'text', split='valid'))") == ["n1", "n5"]
