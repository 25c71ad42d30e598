"""Publishing through the real clients to a Hub on this machine, and what is refused on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_corpus
from hub_double import HubDouble

from dataset_builder.build import build_dataset
from dataset_builder.publish import published_files, push_dataset
from lpmc_errors import LpmcError, UsageError

# Each step of the list is a push; the answers come back as JSON. One process, as its imports take the time.
PUSH = """
import json, os, sys
from pathlib import Path
from dataset_builder.publish import push_dataset
from lpmc_errors import LpmcError
answers = []
for step in json.loads(sys.argv[1]):
    try:
        answers.append(push_dataset(Path(step.pop("directory")), step.pop("repo_id"), **step))
    except LpmcError as error:
        answers.append(f"{type(error).__name__}: {error}")
print(json.dumps(answers))
"""

LOAD = """
import io, json, sys
import soundfile
from datasets import Audio, load_dataset
name = "org/lp-musiccaps"
plain = load_dataset(name)
stream = load_dataset(name, "with-audio", split="valid", streaming=True).cast_column("audio", Audio(decode=False))
print(json.dumps({
    "rows": {split: len(rows) for split, rows in plain.items()},
    "caption": plain["train"][0]["caption_writing"],
    "streamed": [len(soundfile.read(io.BytesIO(row["audio"]["bytes"]))[0]) for row in stream],
}))
"""


def run_client(environment: dict[str, str], code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "hf_test" not in done.stdout + done.stderr, "a token was printed"
    return done.stdout.strip().splitlines()[-1]


def push(environment: dict[str, str], *steps: dict) -> list[str]:
    steps = tuple({**step, "directory": str(step["directory"])} for step in steps)
    return json.loads(run_client(environment, PUSH, json.dumps(steps)))


@pytest.fixture
def hub() -> Iterator[HubDouble]:
    with HubDouble() as double:
        yield double


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> small_corpus.Corpus:
    return small_corpus.write_corpus(tmp_path_factory.mktemp("corpus"), small_corpus.tracks(8))


@pytest.fixture
def dataset(corpus: small_corpus.Corpus, tmp_path: Path) -> Path:
    output = tmp_path / "lp-musiccaps"
    build_dataset(corpus.captions, corpus.tracks, config="text", output=output)
    build_dataset(corpus.captions, corpus.tracks, config="with-audio", output=output, audio_root=corpus.audio)
    return output


def test_a_pushed_data_set_loads_by_name_and_streams(hub, dataset, tmp_path):
    (dataset / "notes.txt").write_text("not for the public")
    (dataset / "text/.train.tmp").write_text("half a file")
    (dataset / "text/train-00001-of-00002.parquet.bak").write_text("an old one")

    answers = push(hub.environment(tmp_path / "home"), {"directory": dataset, "repo_id": "org/lp-musiccaps"})

    assert answers == [f"{hub.url}/datasets/org/lp-musiccaps"]
    splits = [f"{split}-00000-of-00001.parquet" for split in ("test", "train", "valid")]
    files = hub.files("dataset", "org/lp-musiccaps")
    assert sorted(files) == [
        *(".gitattributes", "LICENSE.md", "README.md"),
        *(f"{config}/{name}" for config in ("text", "with-audio") for name in ["build.json", "pipeline.json", *splits]),
    ]
    assert files["text/train-00000-of-00001.parquet"] == (dataset / "text/train-00000-of-00001.parquet").read_bytes()
    found = json.loads(run_client(hub.environment(tmp_path / "another home", token=None), LOAD))
    assert found["rows"] == {"train": 4, "valid": 2, "test": 2}
    assert found["caption"] == "A writing of rock, piano, mood 0."
    assert found["streamed"] == [1600, 1600]


def test_a_private_data_set_is_not_there_without_a_token(hub, dataset, tmp_path):
    push(hub.environment(tmp_path / "home"), {"directory": dataset, "repo_id": "org/lp-musiccaps", "private": True})
    assert hub.repository("dataset", "org/lp-musiccaps").private

    with pytest.raises(AssertionError, match="doesn't exist on the Hub or cannot be accessed"):
        run_client(hub.environment(tmp_path / "another home", token=None), LOAD)


def test_a_second_push_takes_old_shards_away_and_never_hides_a_configuration(hub, corpus, dataset, tmp_path):
    state = hub.state
    other = tmp_path / "other"
    build_dataset(corpus.captions, corpus.tracks, config="another", output=other)

    def leave_an_old_shard() -> None:
        repository = hub.repository("dataset", "org/lp-musiccaps")
        files = dict(repository.commits[repository.branches["main"]].files)
        files["text/train-00001-of-00002.parquet"] = state.store(b"an old shard", lfs=True)
        repository.commit("main", files, "as a longer table would have left it")

    environment = hub.environment(tmp_path / "home")
    push(environment, {"directory": dataset, "repo_id": "org/lp-musiccaps"})
    leave_an_old_shard()
    answers = push(
        environment,
        {"directory": dataset, "repo_id": "org/lp-musiccaps"},
        {"directory": other, "repo_id": "org/lp-musiccaps"},
        {"directory": other, "repo_id": "org/lp-musiccaps", "private": True},
    )

    files = hub.files("dataset", "org/lp-musiccaps")
    assert "text/train-00001-of-00002.parquet" not in files
    assert "text/train-00000-of-00001.parquet" in files
    assert "holds the configuration(s) text, with-audio, which this directory lacks" in answers[1]
    assert "exists and is public, but --private was asked for" in answers[2]
    assert not any(name.startswith("another/") for name in files)


def test_what_the_hub_refuses_becomes_one_line_without_the_token(hub, dataset, tmp_path):
    hub.state.read_only_tokens.add("hf_readonly")
    steps = [
        {"directory": dataset, "repo_id": "org/lp-musiccaps", "token": "hf_wrongwrongwrong"},
        {"directory": dataset, "repo_id": "org/lp-musiccaps", "token": "hf_readonly"},
        {"directory": dataset, "repo_id": "strangers/lp-musiccaps"},
    ]
    wrong, read_only, strangers = push(hub.environment(tmp_path / "home"), *steps)
    assert wrong.startswith("HubError: org/lp-musiccaps: the Hub does not know the token, or none was given (401)")
    assert "hf auth login" in wrong
    assert read_only.startswith("HubError: org/lp-musiccaps: your token may not write there (403)")
    assert strangers.startswith("HubError: strangers/lp-musiccaps: your token may not write there (403)")
    for answer in (wrong, read_only, strangers):
        assert "\n" not in answer
        assert "hf_w" not in answer
        assert "hf_r" not in answer

    [signed_out] = push(hub.environment(tmp_path / "home", token=None), steps[2])
    assert "(401)" in signed_out or "no token was found" in signed_out


def test_a_hub_that_cannot_be_reached_and_offline_mode_are_named(dataset, tmp_path, monkeypatch):
    with HubDouble() as gone:
        environment = gone.environment(tmp_path / "home")
    step = {"directory": dataset, "repo_id": "org/lp-musiccaps"}

    assert "the Hub cannot be reached" in push(environment, step)[0]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LpmcError, match="HF_HUB_OFFLINE is set; unset it"):
        push_dataset(dataset, "org/lp-musiccaps")


@pytest.mark.parametrize("repo_id", ["lp-musiccaps", "", "/", "org/", "org/a/b", "org/a b", "../org"])
def test_a_name_without_a_namespace_is_wrong_usage(dataset, repo_id):
    with pytest.raises(UsageError, match=r"namespace|is no name of a repository"):
        push_dataset(dataset, repo_id)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# Mine\n")
    with pytest.raises(UsageError, match="is no data set directory; make one with `lpmc build`"):
        push_dataset(tmp_path, "org/lp-musiccaps")
    with pytest.raises(UsageError, match="is no data set directory"):
        push_dataset(tmp_path / "nowhere", "org/lp-musiccaps")


def test_a_card_with_a_path_or_a_key_or_wrong_counts_is_not_published(dataset):
    card = dataset / "README.md"
    good = card.read_text()
    key = "hf_" + "a1" * 17  # put together here, so that this file holds no key
    for spoiled, problem in [
        (good + "\nMade in /home/someone/work/lp.\n", "absolute path '/home/someone/work/lp'"),
        (good + f"\nPushed with {key}.\n", "looks like an access key (hf_a1...)"),
        (good.replace("num_examples: 4", "num_examples: 5", 1), "num_examples is 5, the Parquet footers say 4"),
    ]:
        card.write_text(spoiled)
        with pytest.raises(LpmcError) as caught:
            push_dataset(dataset, "org/lp-musiccaps")
        assert problem in str(caught.value)
        assert key not in str(caught.value)
    making = dataset / "text/build.json"
    card.write_text(good)
    making.write_text(making.read_text().replace('"layout"', '"sk-' + "b2" * 12 + '": 1, "layout"'))
    with pytest.raises(LpmcError, match=r"build\.json: holds what looks like an access key"):
        push_dataset(dataset, "org/lp-musiccaps")


def test_audio_that_may_not_be_redistributed_stays_out_of_public_repositories(tmp_path):
    corpus = small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(2, source="musiccaps"))
    output = tmp_path / "out"
    build_dataset(corpus.captions, corpus.tracks, config="mc", output=output, audio_root=corpus.audio)

    with pytest.raises(LpmcError, match="carries audio of MusicCaps, which may not be redistributed"):
        push_dataset(output, "org/lp-musiccaps")


def test_only_files_of_the_data_set_are_listed_for_upload(dataset):
    (dataset / ".env").write_text("HF_TOKEN=...")
    (dataset / "text/secrets.json").write_text("{}")
    listed = published_files(dataset)
    assert "README.md" in listed
    assert "text/build.json" in listed
    assert len(listed) == 2 + 2 * 5
