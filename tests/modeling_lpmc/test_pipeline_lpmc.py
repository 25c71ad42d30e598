"""The music-captioning pipeline: every form of input, windows in seconds, the same captions at any batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from small_captioner import small_model, small_processor

from modeling_lpmc import MusicCaptioningPipeline

RATE = 16000


@pytest.fixture(scope="module")
def captions() -> MusicCaptioningPipeline:
    processor = small_processor()
    model = small_model(vocab_size=len(processor.tokenizer))
    model.generation_config.max_length = 16
    return MusicCaptioningPipeline(
        model=model, feature_extractor=processor.feature_extractor, tokenizer=processor.tokenizer, device=-1
    )


def test_real_recordings_are_captioned_window_by_window_in_seconds(
    captions: MusicCaptioningPipeline, recordings: list[Path]
) -> None:
    orchestra, electronic = captions([str(path) for path in recordings], batch_size=4)
    assert [(part["start"], part["end"]) for part in orchestra] == [(0, 10), (10, 20), (20, 30)]
    assert [part["start"] for part in electronic[:5]] == [0, 10, 20, 30, 40]
    assert electronic[5]["start"] == pytest.approx(49.95, abs=0.01)
    assert electronic[5]["end"] == pytest.approx(59.95, abs=0.01)
    assert all(part["text"] for part in orchestra + electronic)
    assert captions(str(recordings[0])) == orchestra, "the batch must not change the captions"


def test_every_form_of_the_same_audio_gives_the_same_captions(
    captions: MusicCaptioningPipeline, oracle_model: Path
) -> None:
    path = oracle_model / "small_clip1.wav"
    array, rate = soundfile.read(path, dtype="float32")
    forms: list[Any] = [
        str(path),
        path,
        path.read_bytes(),
        array,
        torch.from_numpy(array),
        np.stack([array, array]),
        {"array": array, "sampling_rate": rate},
        {"raw": array, "sampling_rate": rate},
        {"bytes": path.read_bytes(), "path": None},
        {"bytes": None, "path": str(path)},
    ]
    expected = captions(str(path))
    assert [captions(form) for form in forms] == [expected] * len(forms)


def test_other_rates_are_resampled(captions: MusicCaptioningPipeline) -> None:
    wave = np.sin(np.arange(44100 * 12) / 20).astype(np.float32)
    for form in (captions({"array": wave, "sampling_rate": 44100}), captions(wave, sampling_rate=44100)):
        assert [(part["start"], part["end"]) for part in form] == [(0, 10), (2, 12)]


def test_generation_can_be_changed_for_a_call(captions: MusicCaptioningPipeline, oracle_model: Path) -> None:
    path = str(oracle_model / "small_clip1.wav")
    short = captions(path, generate_kwargs={"max_length": 4})[0]["text"]
    assert captions(path)[0]["text"] != short


@pytest.mark.parametrize(
    ("audio", "problem"),
    [
        ({"array": np.zeros(RATE)}, "sampling_rate"),
        (np.zeros(0, np.float32), "empty"),
        (7, "type int"),
        ({"other": 1}, "type NoneType"),
    ],
)
def test_what_is_no_audio_is_refused(captions: MusicCaptioningPipeline, audio: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        captions(audio)
