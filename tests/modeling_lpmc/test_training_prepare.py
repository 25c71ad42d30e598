"""Prepared shards: the clips and captions of the data set itself, whole after a kill, and named when damaged."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch.utils.data import DataLoader
from training_corpus import KINDS, RATE, encoded, row, sound, write_dataset
from typer.testing import CliRunner

from lpmc import app
from lpmc_errors import DiskError, TableError, UsageError
from modeling_lpmc import LpmcFeatureExtractor, LpmcProcessor, train_tokenizer
from modeling_lpmc.training import prepare_source
from modeling_lpmc.training.arguments import DataArguments
from modeling_lpmc.training.audio_cache import int16_window
from modeling_lpmc.training.data import CaptionCollator, CaptionedClips, ClipDataset, read_split
from modeling_lpmc.training.feed import COMPILED_WIDTHS, ReadAhead
from modeling_lpmc.training.prepare import Preparation, prepare
from modeling_lpmc.training.sampling import Draw
from modeling_lpmc.training.shards import MANIFEST, verify
from modeling_lpmc.training.train import run_training

PROJECT = Path(__file__).resolve().parents[2]
ONE_CLIP = RATE * 10 * 2  # bytes
TWO_CLIPS = 2 * ONE_CLIP


KIND_DAMAGED = {"captions": "arrow", "counts": "json", "no counts": "json"}


def nothing(stage: str, done: int, total: int) -> None:
    """A report that nobody reads."""


@pytest.fixture(autouse=True)
def _own_hugging_face_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven rows: a long clip, a short one, one in MP3, and three that are of no use; and a test split."""
    silent = {"bytes": encoded(np.zeros(RATE * 10)), "path": "silent.flac"}
    train = [
        row("low", 1, 30.0, caption_summary="Short.", caption_ground_truth="By a person."),
        row("high", 2, audio={"bytes": b"not audio at all", "path": "x.flac"}),
        row("noise", 3, 4.0),
        row("beat", 4, caption_writing="  "),
        row("low", 5, audio=silent),
        row("beat", 6, audio={"bytes": encoded(sound("beat", 6), "MP3"), "path": "beat.mp3"}, caption_summary="Drums."),
        row("noise", 7, caption_summary="", tag=["noise", "rain"]),
    ]
    train = [{"caption_summary": None} | values for values in train]
    folder = tmp_path_factory.mktemp("built") / "lp-musiccaps"
    return write_dataset(folder, {"clips": {"train": train, "test": [row(kind, 8) for kind in KINDS]}})


@pytest.fixture(scope="module")
def prepared(dataset: Path) -> Preparation:
    return prepare(str(dataset), dataset.parent / "prepared", shard_bytes=TWO_CLIPS, workers=2, report=nothing)


def read(dataset: Path, cache: Path, split: str = "train", rows: int | None = None, **changes: Any) -> CaptionedClips:
    arguments = dataclasses.replace(DataArguments(dataset=str(dataset)), **changes)
    return read_split(arguments, split, rows, RATE, cache, nothing)


def copy_of(prepared: Preparation, folder: Path) -> Path:
    return Path(shutil.copytree(prepared.output, folder / "copy", copy_function=shutil.copy2))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"captions": ("caption_summary", "caption_ground_truth")},
        {"captions": ("caption_ground_truth", "caption_writing", "caption_summary")},  # the first is the reference
        {"sampling": "balanced_tags"},
        {"rows": 3},
        {"split": "test"},
    ],
)
def test_prepared_clips_captions_and_reasons_are_those_of_the_data_set(
    dataset: Path, prepared: Preparation, tmp_path: Path, changes: dict[str, Any]
) -> None:
    built, shards = (read(folder, tmp_path / "cache", **changes) for folder in (dataset, prepared.output))
    assert len(shards) > 0
    assert list(shards.captions) == list(built.captions)
    assert list(shards.track_ids) == list(built.track_ids)
    assert list(shards.tags) == list(built.tags)
    assert shards.caption_counts.tolist() == [len(own) for own in built.captions]
    assert shards.rows == built.rows
    ours = {(skip.row, skip.track_id): skip.reason for skip in shards.skipped}
    theirs = {(skip.row, skip.track_id): skip.reason for skip in built.skipped}
    assert ours.keys() == theirs.keys()
    # a row without the chosen captions is not decoded, and one that was decoded is found silent first
    assert all(ours[key] == theirs[key] for key in ours if theirs[key] != "no caption")
    for clip in range(len(built)):
        for crop in (0.0, 0.4, 0.999):
            windows = [
                int16_window(clips.audio, int(clips.audio_numbers[clip]), RATE * 10, crop) for clips in (built, shards)
            ]
            assert np.array_equal(windows[0], windows[1])


def test_several_shards_hold_the_clips_and_the_left_out_rows_are_told(prepared: Preparation) -> None:
    assert prepared.clips == {"train": 4, "test": 4}
    assert prepared.shards == 2 + 2  # the first is full with the thirty seconds alone
    assert [(where, track) for where, track, _ in prepared.left_out["train"]] == [
        (1, "high-2"),
        (3, "beat-4"),
        (4, "low-5"),
    ]
    assert not list(prepared.output.rglob(".shard-*"))


def test_preparing_makes_no_second_copy_of_the_data_set(dataset: Path, tmp_path: Path) -> None:
    prepare(str(dataset), tmp_path / "out", splits=["test"], report=nothing)
    assert not list((tmp_path / "hf").rglob("*.arrow"))


def test_a_source_is_read_from_any_row_on(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_source, "ROWS_AT_ONCE", 2)
    source = prepare_source.open_source(str(dataset), None, "train")
    for first in range(8):
        rows = list(source.read(first, ("caption_writing",), "tag"))
        assert [row.row for row in rows] == list(range(first, 7))
        assert [row.track_id.rpartition("-")[2] for row in rows] == [str(number + 1) for number in range(first, 7)]


def test_a_killed_preparation_keeps_its_shards_and_ends_with_the_same_bytes(
    dataset: Path, prepared: Preparation, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from modeling_lpmc.training.prepare import prepare\n"
        "def kill(stage, done, total):\n"
        "    if done >= 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"prepare(sys.argv[1], Path(sys.argv[2]), shard_bytes={TWO_CLIPS}, workers=2, report=kill)\n"
    )
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "hf")}
    killed = subprocess.run(
        [sys.executable, "-c", script, str(dataset), str(output)],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    first = output / "train" / "shard-00000.int16"
    written = first.stat().st_mtime_ns
    assert not (output / MANIFEST).exists()
    with pytest.raises(TableError, match="not finished"):
        read(output, tmp_path / "cache")
    again = prepare(str(dataset), output, shard_bytes=TWO_CLIPS, workers=1, report=nothing)
    assert first.stat().st_mtime_ns == written
    assert again.clips == prepared.clips
    assert not list(output.rglob(".shard-*"))
    for path in prepared.output.rglob("shard-*.*"):
        if path.suffix != ".json":  # which notes the time
            assert path.read_bytes() == (output / path.relative_to(prepared.output)).read_bytes()
    assert prepare(str(dataset), output, shard_bytes=TWO_CLIPS, report=nothing).was_finished


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "captions", "counts", "no counts"])
def test_a_damaged_shard_is_named_at_training_and_by_verify(prepared: Preparation, tmp_path: Path, damage: str) -> None:
    folder = copy_of(prepared, tmp_path)
    shard = folder / "train" / f"shard-00001.{KIND_DAMAGED.get(damage, 'int16')}"
    assert verify(folder, nothing) == (4, [])
    if damage == "cut":
        os.truncate(shard, shard.stat().st_size - 2)
    elif damage in ("gone", "no counts"):
        shard.unlink()
    elif damage == "counts":
        shard.write_text('{"left_out"')
    else:
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    with pytest.raises(TableError, match="shard-00001") as caught:
        read(folder, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    read(folder, tmp_path / "cache", split="test")
    read_shards, faults = verify(folder, nothing)
    assert read_shards == 4
    assert len(faults) == 1
    assert "train/shard-00001" in faults[0]
    assert "lpmc train prepare" in faults[0]


@pytest.mark.parametrize("deleted", ["shard-00000.int16", "shard-00001.arrow", "shard-00000.json"])
def test_the_same_call_makes_a_deleted_shard_anew_and_no_other(
    dataset: Path, prepared: Preparation, tmp_path: Path, deleted: str
) -> None:
    folder = copy_of(prepared, tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in (folder / "train").glob("*.int16")}
    (folder / "train" / deleted).unlink()
    again = prepare(str(dataset), folder, shard_bytes=TWO_CLIPS, workers=2, report=nothing)
    assert not again.was_finished
    assert verify(folder, nothing) == (4, [])
    for path in prepared.output.rglob("shard-*.int16"):
        assert path.read_bytes() == (folder / path.relative_to(prepared.output)).read_bytes()
    changed = [name for name, before in times.items() if (folder / "train" / name).stat().st_mtime_ns != before]
    assert changed == [Path(deleted).with_suffix(".int16").name]
    assert list(read(folder, tmp_path / "cache").captions) == list(read(prepared.output, tmp_path / "cache").captions)


def test_the_only_configuration_may_be_named_by_a_recipe_that_trains_on_the_shards(
    prepared: Preparation, tmp_path: Path
) -> None:
    assert prepared.config == "clips"
    assert list(read(prepared.output, tmp_path / "cache", config="clips").captions)
    with pytest.raises(UsageError, match=r"give data\.config=clips"):
        read(prepared.output, tmp_path / "cache", config="musiccaps")


def test_a_copied_folder_is_read_against_its_checksums_once(prepared: Preparation, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(prepared.output, tmp_path / "copy", copy_function=shutil.copy))
    for shard in folder.rglob("*.int16"):
        os.utime(shard, ns=(1, 1))
    checked: list[str] = []
    for _ in range(2):
        arguments = DataArguments(dataset=str(folder))
        read_split(arguments, "train", None, RATE, tmp_path / "cache", lambda stage, *_: checked.append(stage))
    assert len(checked) == 2  # shards of the split, in the first reading


def test_a_second_preparation_into_the_same_folder_is_refused(dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    with FileLock(output / ".preparing.lock"), pytest.raises(UsageError, match="another process"):
        prepare(str(dataset), output, report=nothing)


def test_a_folder_of_other_data_is_left_alone(dataset: Path, prepared: Preparation, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="other captions"):
        prepare(str(dataset), prepared.output, shard_bytes=TWO_CLIPS, captions=["caption_writing"], report=nothing)
    other = write_dataset(
        tmp_path / "lp-musiccaps",
        {"clips": {name: [row("low", 1, caption_summary="Low.")] for name in ("train", "test")}},
    )
    mine = copy_of(prepared, tmp_path)
    with pytest.raises(UsageError, match="has changed since"):
        prepare(str(other), mine, shard_bytes=TWO_CLIPS, report=nothing)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("text")
    with pytest.raises(UsageError, match="no preparation"):
        prepare(str(dataset), tmp_path / "mine", report=nothing)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"captions": ["caption_writing", "caption"]}, UsageError, "caption_writing"),
        ({"splits": ["valid"]}, UsageError, "it has train, test"),
        ({"config": "other"}, UsageError, "it has clips"),
    ],
)
def test_what_the_data_set_does_not_have_is_refused_before_anything_is_written(
    dataset: Path, tmp_path: Path, asked: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        prepare(str(dataset), tmp_path / "out", report=nothing, **asked)
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_named_and_the_same_call_goes_on(dataset: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ONE_CLIP // 2, before[1]))
    try:
        with pytest.raises(DiskError, match="shard-00000"):
            prepare(str(dataset), tmp_path / "out", splits=["test"], report=nothing)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert prepare(str(dataset), tmp_path / "out", splits=["test"], report=nothing).clips == {"test": 4}


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"config": "other"}, UsageError, "was prepared from"),
        ({"split": "valid"}, UsageError, "it has train, test"),
        ({"captions": ("caption_paraphrase",)}, UsageError, "caption_writing"),
        ({"sampling": "balanced_tags", "tags": "genre"}, UsageError, "was prepared with tag"),
    ],
)
def test_a_recipe_that_does_not_fit_the_shards_is_refused(
    prepared: Preparation, tmp_path: Path, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    names = set(said.removeprefix("it has ").split(", ")) if said.startswith("it has") else {said}
    with pytest.raises(error) as caught:
        read(prepared.output, tmp_path / "cache", **changes)
    assert all(name in str(caught.value) for name in names)


def test_a_recipe_that_names_the_only_configuration_reads_shards_prepared_without_its_name(
    dataset: Path, tmp_path: Path
) -> None:
    prepare(str(dataset), tmp_path / "out", splits=["test"], report=nothing)
    named = DataArguments(dataset=str(tmp_path / "out"), config="clips", split="train")
    assert len(read_split(named, "test", None, RATE, tmp_path / "cache", nothing)) == 4
    assert prepare(str(dataset), tmp_path / "out", config="clips", splits=["test"], report=nothing).was_finished


def test_an_evaluation_corpus_stays_one_when_it_is_prepared(tmp_path: Path) -> None:
    rows = [row("low", seed, provenance={"source": "song_describer"}) for seed in range(2)]
    folder = write_dataset(tmp_path / "sdd", {"sdd": {"train": rows}})
    prepare(str(folder), tmp_path / "out", report=nothing)
    with pytest.raises(UsageError, match="song_describer"):
        read(tmp_path / "out", tmp_path / "cache")
    elsewhere = DataArguments(dataset=str(tmp_path / "out"), split="other")
    assert len(read_split(elsewhere, "train", None, RATE, tmp_path / "cache", nothing)) == 2  # to evaluate with


def test_data_without_a_usable_clip_is_refused(tmp_path: Path) -> None:
    broken = write_dataset(tmp_path / "b", {"c": {"train": [row("low", 1, audio={"bytes": b"?", "path": "x.flac"})]}})
    with pytest.raises(TableError, match="none of its 1 rows"):
        prepare(str(broken), tmp_path / "out", report=nothing)
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_the_command_prepares_verifies_and_says_what_it_left_out(dataset: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    done = CliRunner().invoke(app, ["train", "prepare", str(dataset), "--output", output, "--json"])
    assert done.exit_code == 3, done.output
    assert json.loads(done.stdout)["clips"] == {"train": 4, "test": 4}
    assert CliRunner().invoke(app, ["train", "prepare", output, "--verify"]).exit_code == 0
    (Path(output) / "test" / "shard-00000.int16").write_bytes(b"")
    broken = CliRunner().invoke(app, ["train", "prepare", output, "--verify"])
    assert broken.exit_code == 1
    assert "shard-00000" in broken.output
    assert CliRunner().invoke(app, ["train", "prepare", str(dataset)]).exit_code == 2


def test_training_from_shards_has_the_losses_of_training_from_the_data_set(
    dataset: Path, prepared: Preparation, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: {tokenizer: train, vocabulary_size: 300, d_model: 16, encoder_layers: 1, decoder_layers: 1,\n"
        "  attention_heads: 2, feed_forward: 32, max_caption_positions: 64, num_mel_bins: 16}\n"
        "optimisation: {updates: 4, batch_size: 2, log_every: 1, precision: float32}\n",
        encoding="utf-8",
    )
    curves = []
    for number, folder in enumerate((dataset, prepared.output)):
        asked = [f"data.dataset={folder}", f"data.cache={tmp_path / 'cache'}"]
        result = run_training(recipe, tmp_path / f"model{number}", asked)
        assert result.train_clips == 4
        record = json.loads((result.output / "training.json").read_text())
        curves.append([point["loss"] for point in record["loss_curve"]])
    assert len(curves[0]) == 4
    assert curves[0] == curves[1]


@pytest.fixture
def processor() -> LpmcProcessor:
    return LpmcProcessor(LpmcFeatureExtractor(num_mel_bins=16), train_tokenizer(KINDS.values(), 400))


def test_captions_are_tokenised_once_for_each_tokenizer(
    prepared: Preparation, processor: LpmcProcessor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = read(prepared.output, tmp_path / "cache")
    examples = ClipDataset(clips, processor, DataArguments(), nothing)
    for clip, captions in enumerate(clips.captions):
        for number, caption in enumerate(captions):
            expected = processor.tokenizer(caption)["input_ids"]
            assert examples[Draw(clip, number, 0.0)]["labels"].tolist() == expected

    other = LpmcProcessor(processor.feature_extractor, train_tokenizer([*KINDS.values(), "zzz qqq"], 300))
    assert (
        ClipDataset(clips, other, DataArguments(), nothing)[0]["labels"].tolist()
        == (other.tokenizer(clips.captions[0][0])["input_ids"])
    )

    def again(*arguments: Any, **named: Any) -> None:
        raise AssertionError("the tokens were not found again")

    monkeypatch.setattr(type(processor.tokenizer), "__call__", again)
    assert (
        ClipDataset(clips, processor, DataArguments(), nothing)[0]["labels"].tolist() == examples[0]["labels"].tolist()
    )


def test_threads_make_the_batches_of_a_plain_loader_in_order(
    prepared: Preparation, processor: LpmcProcessor, tmp_path: Path
) -> None:
    examples = ClipDataset(read(prepared.output, tmp_path / "cache"), processor, DataArguments(), nothing)
    draws = [[Draw(clip, 0, crop) for clip in (first, 3)] for crop in (0.1, 0.6, 0.9) for first in range(3)]
    collator = CaptionCollator(pad_token_id=1, decoder_start_token_id=2)
    plain = list(DataLoader(examples, batch_sampler=draws, collate_fn=collator))
    for threads in (0, 1, 3):
        ahead = list(ReadAhead(examples, batch_sampler=draws, collate_fn=collator, threads=threads))
        assert len(ahead) == len(plain) == 9
        for one, other in zip(ahead, plain, strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_fault_in_a_thread_is_raised_where_its_batch_is_taken() -> None:
    class Broken:
        def __getitem__(self, number: int) -> int:
            if number == 3:
                raise OSError("the disk is gone")
            return number

        def __len__(self) -> int:
            return 8

    loader = ReadAhead(Broken(), batch_sampler=[[n] for n in range(8)], collate_fn=list, threads=2)
    batches = iter(loader)
    assert [next(batches) for _ in range(3)] == [[0], [1], [2]]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


def test_labels_of_compiled_steps_come_in_four_widths() -> None:
    collator = CaptionCollator(1, 2, widths=COMPILED_WIDTHS)
    feature = np.zeros((2, 3), np.float32)
    widths = [collator([{"labels": [5] * n, "input_features": feature}])["labels"].shape[1] for n in (1, 33, 96, 128)]
    assert widths == [32, 64, 96, 128]
