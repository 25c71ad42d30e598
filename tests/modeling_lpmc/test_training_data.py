"""From a built data set to batches: what is read, what is left out and said so, and what a batch looks like."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_captioner import small_model
from training_corpus import KINDS, RATE, encoded, row, sound, write_dataset
from transformers import Seq2SeqTrainingArguments

from lpmc_errors import TableError, UsageError
from modeling_lpmc import LpmcFeatureExtractor, LpmcProcessor, train_tokenizer
from modeling_lpmc.training import audio_cache
from modeling_lpmc.training.arguments import DataArguments
from modeling_lpmc.training.audio_cache import FULL_SCALE
from modeling_lpmc.training.data import CaptionCollator, CaptionedClips, ClipDataset, read_split
from modeling_lpmc.training.sampling import ClipSampler, Draw
from modeling_lpmc.training.trainer import CaptionTrainer


def nothing(stage: str, done: int, total: int) -> None:
    """A report that nobody reads."""


@pytest.fixture(autouse=True)
def _own_hugging_face_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")


@pytest.fixture
def processor() -> LpmcProcessor:
    return LpmcProcessor(LpmcFeatureExtractor(num_mel_bins=16), train_tokenizer(KINDS.values(), 400))


def read(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> CaptionedClips:
    dataset = folder / "lp-musiccaps"
    if not dataset.exists():
        write_dataset(dataset, {"clips": {"train": rows}})
    arguments = dataclasses.replace(DataArguments(dataset=str(dataset)), **changes)
    return read_split(arguments, "train", None, RATE, folder / "cache", nothing)


def test_a_bad_row_is_recorded_with_its_reason_and_the_others_train(tmp_path: Path) -> None:
    rows = [
        row("low", 1),
        row("high", 2, audio={"bytes": b"not audio at all", "path": "x.flac"}),
        row("noise", 3, caption_writing="  "),
        row("beat", 4, audio=None),
        row("low", 5, audio={"bytes": encoded(np.zeros(RATE * 10)), "path": "silent.flac"}),
        row("beat", 6),
    ]
    clips = read(tmp_path, rows)
    assert clips.track_ids == ["low-1", "beat-6"]
    assert [(skip.row, skip.track_id) for skip in clips.skipped] == [
        (1, "high-2"),
        (2, "noise-3"),
        (3, "beat-4"),
        (4, "low-5"),
    ]
    reasons = [skip.reason for skip in clips.skipped]
    assert "not an audio file" in reasons[0]
    assert reasons[1:] == ["no caption", "no audio", "silence"]
    assert clips.rows == 6


def test_captions_of_all_chosen_columns_are_gathered_and_empty_ones_left_out(tmp_path: Path) -> None:
    rows = [
        row("low", 1, caption_summary="Short.", caption_ground_truth="By a person."),
        row("high", 2, caption_summary="", caption_ground_truth=None),
    ]
    everything = read(tmp_path, rows)
    assert everything.captions == [[KINDS["low"], "Short.", "By a person."], [KINDS["high"]]]
    human = read(tmp_path, rows, captions=("caption_ground_truth",))
    assert human.captions == [["By a person."]]
    assert [skip.reason for skip in human.skipped] == ["no caption"]


@pytest.mark.parametrize(
    ("configs", "changes", "error", "said"),
    [
        ({"one": {"train": 1}, "two": {"train": 1}}, {"config": "three"}, UsageError, "it has one, two"),
        ({"one": {"train": 1}, "two": {"train": 1}}, {}, UsageError, "choose one of one, two"),
        ({"one": {"valid": 1}}, {}, UsageError, "it has valid"),
        ({"one": {"train": 1}}, {"captions": ("caption",)}, UsageError, "caption_writing"),
        ({"one": {"train": 1}}, {"sampling": "balanced_tags", "tags": "genre"}, UsageError, "data.tags=genre"),
        ({"text": {"train": "no audio"}}, {}, TableError, "--audio-root"),
        ({"text": {"train": "no captions"}}, {}, TableError, "none of its 1 rows has a caption"),
        ({"text": {"train": "bad audio"}}, {}, TableError, "none of its 1 captioned rows has usable audio"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, configs: dict[str, Any], changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    good = row("low", 1, 1.0)
    kinds = {
        1: good,
        "no audio": {name: value for name, value in good.items() if name != "audio"},
        "no captions": good | {"caption_writing": ""},
        "bad audio": good | {"audio": {"bytes": b"?", "path": "x.flac"}},
    }
    dataset = write_dataset(
        tmp_path / "data", {name: {s: [kinds[k]] for s, k in splits.items()} for name, splits in configs.items()}
    )
    with pytest.raises(error) as caught:
        read_split(
            dataclasses.replace(DataArguments(dataset=str(dataset)), **changes),
            "train",
            None,
            RATE,
            tmp_path / "cache",
            nothing,
        )
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="lpmc build"):
        read_split(DataArguments(dataset=str(tmp_path / "nothing")), "train", None, RATE, tmp_path / "cache", nothing)


def test_decoded_audio_and_spectrograms_are_found_again_and_equal_the_extractors(
    tmp_path: Path, processor: LpmcProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row("low", 1), row("beat", 2, 4.0)]
    arguments = DataArguments(dataset="")
    first = ClipDataset(read(tmp_path, rows), processor, arguments, nothing)[1]
    wave = np.round(sound("beat", 2, 4.0) * 32768) / 32768
    expected = processor.feature_extractor(wave, sampling_rate=RATE, return_tensors="np")["input_features"][0]
    audible = expected > -60
    assert audible.mean() > 0.3
    assert np.abs(first["input_features"] - expected)[audible].max() < 0.5  # dB; int16 rounds the decoded audio once

    def decoding_again(*arguments: Any) -> None:
        raise AssertionError("the cache was not used")

    monkeypatch.setattr(audio_cache, "_decode_all", decoding_again)
    monkeypatch.setattr(LpmcFeatureExtractor, "__call__", decoding_again)
    again = ClipDataset(read(tmp_path, rows), processor, arguments, nothing)[1]
    assert np.array_equal(again["input_features"], first["input_features"])


def test_other_audio_under_the_same_name_is_decoded_anew(tmp_path: Path) -> None:
    rows = {kind: write_dataset(tmp_path / kind, {"c": {"train": [row(kind, 1)]}}) for kind in ("low", "beat")}
    folders = {
        read_split(DataArguments(dataset=str(path)), "train", None, RATE, tmp_path / "cache", nothing).audio.folder
        for path in rows.values()
    }
    assert len(folders) == 2


def test_a_long_clip_is_cropped_at_random_in_training_and_in_the_middle_in_evaluation(
    tmp_path: Path, processor: LpmcProcessor
) -> None:
    ramp = np.linspace(0.1, 0.9, RATE * 30)
    rows = [row("low", 1, audio={"bytes": encoded(ramp), "path": "ramp.flac"}), row("high", 2)]
    clips = read(tmp_path, rows)
    dataset = ClipDataset(clips, processor, DataArguments(), nothing)
    windows = [dataset[Draw(0, 0, crop)]["input_values"] for crop in (0.0, 0.5, 0.999999)]
    starts = [(window[0] / FULL_SCALE - 0.1) / 0.8 * 30 for window in windows]
    assert starts == pytest.approx([0, 10, 20], abs=0.01)
    assert np.array_equal(dataset[0]["input_values"], windows[1])
    first = ClipDataset(clips, processor, DataArguments(crop="first"), nothing)
    assert np.array_equal(first[Draw(0, 0, 0.7)]["input_values"], windows[0])
    short = dataset[Draw(1, 0, 0.9)]["input_values"]
    assert short.shape == windows[0].shape == (RATE * 10,)


def test_stored_samples_reach_the_model_as_the_floats_of_the_window(tmp_path: Path, processor: LpmcProcessor) -> None:
    clips = read(tmp_path, [row("beat", 1, 30.0), row("noise", 2, 30.0)])
    dataset = ClipDataset(clips, processor, DataArguments(), nothing)
    batch = CaptionCollator(pad_token_id=1, decoder_start_token_id=2)([dataset[Draw(n, 0, 0.3)] for n in range(2)])
    assert batch["input_values"].dtype == torch.int16
    trainer = CaptionTrainer(
        sampler=ClipSampler([1, 1], 0),
        model=small_model(),
        args=Seq2SeqTrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True),
    )
    waves = trainer._prepare_inputs(batch)["input_values"].numpy()
    assert waves.dtype == np.float32
    for number in range(2):
        assert np.array_equal(waves[number], clips.audio.window(number, RATE * 10, 0.3))


def test_a_short_clip_is_filled_up_with_silence(tmp_path: Path) -> None:
    clips = read(tmp_path, [row("beat", 1, 3.0)])
    window = clips.audio.window(0, RATE * 10, 0.9)
    assert np.abs(window[: RATE * 3]).max() > 0.1
    assert not window[RATE * 3 :].any()


def test_labels_keep_the_start_token_and_are_padded_to_eights(tmp_path: Path, processor: LpmcProcessor) -> None:
    clips = read(tmp_path, [row("low", 1), row("noise", 2)])
    dataset = ClipDataset(clips, processor, DataArguments(max_caption_tokens=9), nothing)
    batch = CaptionCollator(pad_token_id=1, decoder_start_token_id=2)([dataset[0], dataset[1]])
    labels, start = batch["labels"], batch["decoder_input_ids"]
    assert labels.shape == start.shape == (2, 16)
    assert (labels[:, 0] == 0).all()  # <s>
    assert (labels[:, 8] == 2).all()  # cut at nine tokens, </s> kept
    assert (labels[:, 9:] == -100).all()
    assert (start[:, 0] == 2).all()
    assert torch.equal(start[:, 1:9], labels[:, :8])
    assert (start[:, 10:] == 1).all()
    assert batch["input_features"].shape == (2, 16, 1001)


def test_an_evaluation_set_is_refused_for_training_and_read_for_evaluation(tmp_path: Path) -> None:
    provenance = {"source": "song_describer", "licence": "CC BY-SA 4.0"}
    rows = [row("low", seed, provenance=provenance) for seed in range(2)]
    folder = write_dataset(tmp_path / "sdd", {"sdd": {"test": rows}})
    for split in ("test", "train"):
        arguments = DataArguments(dataset=str(folder), split=split, captions=("caption_writing",))
        if split == "test":
            with pytest.raises(UsageError, match=r"holds song_describer, whose authors ask that nobody trains on it"):
                read_split(arguments, "test", None, RATE, tmp_path / "cache", lambda *_: None)
        else:
            assert len(read_split(arguments, "test", None, RATE, tmp_path / "cache", lambda *_: None).captions) == 2


def test_a_folder_is_read_as_it_is_now_and_not_as_another_of_its_name_was(tmp_path: Path) -> None:
    for place, kinds in (("one", ["low", "high", "beat"]), ("two", ["low", "noise"])):
        clips = read(tmp_path / place, [row(kind, number) for number, kind in enumerate(kinds)])
        assert clips.track_ids == [f"{kind}-{number}" for number, kind in enumerate(kinds)], place
