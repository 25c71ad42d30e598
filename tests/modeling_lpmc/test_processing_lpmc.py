"""The processor: audio and captions to tensors, tokens to captions of tracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_captioner import CAPTIONS, small_model, small_processor

from modeling_lpmc import LpmcProcessor

WAVE = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)


@pytest.fixture(scope="module")
def processor() -> LpmcProcessor:
    return small_processor()


def test_audio_and_text_become_what_the_model_s_loss_needs(processor: LpmcProcessor) -> None:
    batch = processor(audio=[WAVE, WAVE, WAVE], text=CAPTIONS, sampling_rate=16000, return_tensors="pt")
    assert set(batch) == {"input_features", "labels"}
    assert batch["input_features"].shape == (3, 128, 1001)
    for row, caption in zip(batch["labels"], CAPTIONS, strict=True):
        kept = row[row != -100]
        assert (kept[0], kept[-1]) == (0, 2)
        assert processor.decode(kept) == caption
    assert (batch["labels"] == -100).any(), "shorter captions are padded with what the loss ignores"
    assert torch.isfinite(small_model()(**batch).loss)


def test_text_alone_and_audio_alone_are_fine_and_nothing_is_not(processor: LpmcProcessor) -> None:
    assert processor(text=CAPTIONS[0])["labels"] == [processor.tokenizer(CAPTIONS[0])["input_ids"]]
    assert list(processor(audio=WAVE, sampling_rate=16000)) == ["input_features"]
    with pytest.raises(ValueError, match="pass audio, text or both"):
        processor()


@pytest.mark.parametrize("audio", ["song.mp3", Path("song.mp3"), ["song.mp3"], {"array": WAVE, "sampling_rate": 16000}])
def test_a_file_or_a_dict_in_place_of_samples_is_sent_to_the_pipeline(processor: LpmcProcessor, audio: object) -> None:
    with pytest.raises(ValueError, match=r'clip 0 is a \w+; .* pipeline\("music-captioning"\)'):
        processor(audio=audio, sampling_rate=16000)


def test_an_empty_list_of_captions_is_named(processor: LpmcProcessor) -> None:
    with pytest.raises(ValueError, match="no captions in text"):
        processor(text=[], return_tensors="pt")


def test_a_misspelt_keyword_is_refused_and_not_ignored(processor: LpmcProcessor) -> None:
    with pytest.raises(TypeError, match="audios"):
        processor(audios=[WAVE], text=CAPTIONS[0], sampling_rate=16000)


def test_a_wrong_or_missing_rate_is_refused(processor: LpmcProcessor) -> None:
    with pytest.raises(ValueError, match="44100"):
        processor(audio=WAVE, sampling_rate=44100)
    with pytest.raises(ValueError, match="missing"):
        processor(audio=WAVE)


def test_long_captions_are_cut_and_still_end(processor: LpmcProcessor) -> None:
    labels = processor(text=CAPTIONS[0] * 20, max_length=20, return_tensors="pt")["labels"]
    assert labels.shape == (1, 20)
    assert labels[0, -1] == 2


def test_captions_of_windows_come_back_to_their_tracks_in_seconds(processor: LpmcProcessor) -> None:
    chunked = processor(audio=[np.tile(WAVE, 24), WAVE], sampling_rate=16000, chunk=True, return_tensors="pt")
    texts = ["one", "two", "three", "four"]
    tokens = processor.tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
    times = {name: chunked[name] for name in ("audio_chunk_index", "chunk_start_seconds", "chunk_end_seconds")}
    assert processor.decode_chunks(tokens, **times) == [
        [
            {"start": 0.0, "end": 10.0, "text": "one"},
            {"start": 10.0, "end": 20.0, "text": "two"},
            {"start": 14.0, "end": 24.0, "text": "three"},
        ],
        [{"start": 0.0, "end": 1.0, "text": "four"}],
    ]
    generated = small_model().generate(**chunked, max_length=6)
    assert len(processor.batch_decode(generated)) == 4


def test_a_saved_processor_comes_back_without_running_foreign_code(processor: LpmcProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"preprocessor_config.json", "processor_config.json", "tokenizer.json"} <= names
    loaded = LpmcProcessor.from_pretrained(tmp_path)
    assert type(loaded.feature_extractor) is type(processor.feature_extractor)
    assert loaded(text=CAPTIONS)["labels"] == processor(text=CAPTIONS)["labels"]
    ours = processor(audio=WAVE, sampling_rate=16000, return_tensors="pt")["input_features"]
    assert torch.equal(loaded(audio=WAVE, sampling_rate=16000, return_tensors="pt")["input_features"], ours)
