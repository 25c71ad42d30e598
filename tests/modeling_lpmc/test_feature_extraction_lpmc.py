"""The extractor: the released log-mel, silence at -100 dB, windows of long audio, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_captioner import small_model

from modeling_lpmc import LpmcFeatureExtractor

RATE = 16000


@pytest.fixture(scope="module")
def extractor() -> LpmcFeatureExtractor:
    return LpmcFeatureExtractor()


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, 40 * RATE).astype(np.float32)


def test_log_mel_is_the_released_one(extractor: LpmcFeatureExtractor, oracle_model: Path) -> None:
    clips = [soundfile.read(oracle_model / f"small_clip{i}.wav", dtype="float32")[0] for i in range(3)]
    expected = np.load(oracle_model / "small_expected.npz")
    ours = extractor(clips, sampling_rate=RATE, return_tensors="np")["input_features"]
    assert ours.shape == (3, 128, 1001)
    difference = np.abs(ours[:, :, :: int(expected["log_mel_stride"])] - expected["log_mel"])
    # The mean is rounding; single cells, where the real part passes through zero, depend on the FFT of the CPU.
    assert difference.mean() < 1e-4
    assert difference.max() < 0.05


def test_the_tables_are_those_of_the_released_checkpoint_bit_for_bit(
    extractor: LpmcFeatureExtractor, oracle_model: Path
) -> None:
    state = torch.load(oracle_model / "small_checkpoint.pth", weights_only=True)["state_dict"]
    assert torch.equal(extractor.mel_filters, state["audio_encoder.mel_encoder.mel_scale.fb"])
    assert torch.equal(extractor.window, state["audio_encoder.mel_encoder.spec_fn.window"])


def test_silence_is_exactly_minus_100_db(extractor: LpmcFeatureExtractor) -> None:
    features = extractor(np.zeros(10 * RATE, np.float32), sampling_rate=RATE, return_tensors="np")["input_features"]
    assert (features == -100.0).all()


def test_a_short_clip_is_padded_with_silence_before_the_spectrum(
    extractor: LpmcFeatureExtractor, noise: np.ndarray
) -> None:
    short = noise[: 4 * RATE]
    padded = np.concatenate([short, np.zeros(6 * RATE, np.float32)])
    ours = extractor(short, sampling_rate=RATE, return_tensors="np")["input_features"]
    assert (ours == extractor(padded, sampling_rate=RATE, return_tensors="np")["input_features"]).all()
    assert (ours[:, :, 410:] == -100.0).all()


def test_the_power_spectrum_ignores_phase_and_the_real_part_does_not() -> None:
    seconds = np.arange(10 * RATE) / RATE
    sine, cosine = np.sin(2 * np.pi * 440 * seconds), np.cos(2 * np.pi * 440 * seconds)

    def middle(spectrum: str, wave: np.ndarray) -> np.ndarray:
        features = LpmcFeatureExtractor(spectrum=spectrum)(wave, sampling_rate=RATE, return_tensors="np")
        return features["input_features"][0, :, 100:900].max(axis=0)  # the loudest band, away from the edges

    assert np.abs(middle("power", sine) - middle("power", cosine)).max() < 0.1
    assert np.abs(middle("real", sine) - middle("real", cosine)).max() > 10


def test_arrays_tensors_lists_and_batches_give_the_same_features(
    extractor: LpmcFeatureExtractor, noise: np.ndarray
) -> None:
    wave = noise[: 2 * RATE]
    forms = [wave, torch.from_numpy(wave), wave.tolist(), wave.astype(np.float64), [wave], wave[None], (wave,)]
    results = [extractor(form, sampling_rate=RATE, return_tensors="np")["input_features"] for form in forms]
    for result in results:
        assert result.shape == (1, 128, 1001)
        np.testing.assert_allclose(result, results[0], atol=1e-3)


def test_several_clips_do_not_change_one_another(extractor: LpmcFeatureExtractor, noise: np.ndarray) -> None:
    clips = [noise[: 10 * RATE], noise[: 3 * RATE]]
    both = extractor(clips, sampling_rate=RATE, return_tensors="pt")["input_features"]
    for row, clip in zip(both, clips, strict=True):
        assert torch.equal(row, extractor(clip, sampling_rate=RATE, return_tensors="pt")["input_features"][0])


def test_channels_are_averaged_whichever_axis_they_lie_on(extractor: LpmcFeatureExtractor, noise: np.ndarray) -> None:
    left, right = noise[:RATE], noise[RATE : 2 * RATE]
    mono = extractor((left + right) / 2, sampling_rate=RATE, return_tensors="np")["input_features"]
    rows, columns = np.stack([left, right]), np.stack([left, right], axis=1)
    for form in ([rows], [columns], columns):  # bare (2, n) would be a batch of two
        ours = extractor(form, sampling_rate=RATE, return_tensors="np")["input_features"]
        np.testing.assert_allclose(ours, mono, atol=1e-2)
    assert extractor(rows, sampling_rate=RATE, return_tensors="np")["input_features"].shape[0] == 2


@pytest.mark.parametrize(
    ("audio", "rate", "problem"),
    [
        (np.zeros(RATE, np.float32), None, "sampling_rate is missing"),
        (np.zeros(RATE, np.float32), 44100, "44100 Hz; resample the audio to 16000"),
        (np.array([0.0, np.nan], np.float32), RATE, "NaN"),
        ([np.zeros(RATE, np.float32), np.array([np.inf], np.float32)], RATE, "clip 1 holds NaN or infinite"),
        (np.zeros(0, np.float32), RATE, "clip 0 is empty"),
        ([], RATE, "empty"),
        (np.zeros(RATE, np.int16), RATE, "divide by 32768"),
        (np.zeros((2, 2, RATE), np.float32), RATE, "3 dimensions"),
        ([np.zeros((100, RATE), np.float32)], RATE, "at most 8 channels"),
        (np.zeros(11 * RATE, np.float32), RATE, "11 s is longer .* chunk=True"),
    ],
)
def test_unusable_audio_is_refused_with_its_reason(
    extractor: LpmcFeatureExtractor, audio: object, rate: int | None, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        extractor(audio, sampling_rate=rate)


@pytest.mark.parametrize(
    ("samples", "seconds"),
    [
        (0, []),
        (round(30.013 * RATE), [(0, 10), (10, 20), (20, 30)]),
        (round(59.95 * RATE), [(0, 10), (10, 20), (20, 30), (30, 40), (40, 50), (49.95, 59.95)]),
        (4 * RATE, [(0, 4)]),
        (10 * RATE, [(0, 10)]),
        (round(9.99 * RATE), [(0, 9.99)]),
        (round(10.49 * RATE), [(0, 10)]),
        (10 * RATE + RATE // 2 - 1, [(0, 10)]),
        (round(19.99 * RATE), [(0, 10), (9.99, 19.99)]),
        (round(20.49 * RATE), [(0, 10), (10, 20)]),
        (round(20.5 * RATE), [(0, 10), (10, 20), (10.5, 20.5)]),
        (10 * RATE + RATE // 2, [(0, 10), (0.5, 10.5)]),
        (RATE // 10, [(0, 0.1)]),
    ],
)
def test_windows_cover_the_track_and_the_last_one_ends_with_it(
    extractor: LpmcFeatureExtractor, samples: int, seconds: list[tuple[float, float]]
) -> None:
    bounds = extractor.chunk_bounds(samples)
    assert bounds == [(round(start * RATE), round(end * RATE)) for start, end in seconds]


def test_chunking_says_which_window_is_which_and_cuts_it_where_it_says(
    extractor: LpmcFeatureExtractor, noise: np.ndarray
) -> None:
    long, short = noise[: 24 * RATE], noise[: 3 * RATE]
    chunked = extractor([long, short], sampling_rate=RATE, chunk=True, return_tensors="pt")
    assert chunked["audio_chunk_index"] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert chunked["chunk_start_seconds"] == [0.0, 10.0, 14.0, 0.0]
    assert chunked["chunk_end_seconds"] == [10.0, 20.0, 24.0, 3.0]
    last = extractor(long[14 * RATE :], sampling_rate=RATE, return_tensors="pt")["input_features"]
    assert torch.equal(chunked["input_features"][2:3], last)


def test_the_windows_of_a_real_recording(extractor: LpmcFeatureExtractor, recordings: list[Path]) -> None:
    audio, rate = soundfile.read(recordings[0], dtype="float32")
    local = LpmcFeatureExtractor(sampling_rate=rate)
    chunked = local(audio, sampling_rate=rate, chunk=True, return_tensors="np")
    assert chunked["chunk_end_seconds"] == [10.0, 20.0, 30.0]
    assert np.isfinite(chunked["input_features"]).all()


def test_autocast_does_not_round_the_features(extractor: LpmcFeatureExtractor, noise: np.ndarray) -> None:
    plain = extractor(noise[:RATE], sampling_rate=RATE, return_tensors="pt")["input_features"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = extractor(noise[:RATE], sampling_rate=RATE, return_tensors="pt")["input_features"]
    assert within.dtype == torch.float32
    assert torch.equal(plain, within)


def test_waveforms_are_padded_but_not_otherwise_changed(extractor: LpmcFeatureExtractor, noise: np.ndarray) -> None:
    ready = extractor.waveforms([noise[:RATE], noise[: 10 * RATE]], sampling_rate=RATE)
    assert ready.shape == (2, 10 * RATE)
    assert torch.equal(ready[0, :RATE], torch.from_numpy(noise[:RATE]))
    assert (ready[0, RATE:] == 0).all()


def test_saving_keeps_the_settings_and_leaves_the_tables_out(tmp_path: Path) -> None:
    LpmcFeatureExtractor(spectrum="power", min_tail_seconds=2.0, num_mel_bins=64).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert not {"mel_filters", "window"} & saved.keys()
    loaded = LpmcFeatureExtractor.from_pretrained(tmp_path)
    assert (loaded.spectrum, loaded.min_tail_seconds, loaded.mel_filters.shape) == ("power", 2.0, (513, 64))


CONFIGS: list[dict[str, object]] = [
    {},
    {"spectrum": "power"},
    {"sampling_rate": 22050, "n_fft": 2048, "hop_length": 441, "num_mel_bins": 64, "chunk_seconds": 5.0},
    {"sampling_rate": 8000, "n_fft": 400, "hop_length": 80, "num_mel_bins": 40, "spectrum": "power"},
]


@pytest.mark.parametrize("settings", CONFIGS, ids=str)
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "scaled int16", "list", "torch"])
def test_features_and_raw_waveforms_reach_the_same_encoder_states(settings: dict[str, object], kind: str) -> None:
    extractor = LpmcFeatureExtractor(**settings)
    model = small_model(**settings)
    rate = extractor.sampling_rate
    random = np.random.default_rng(0)
    clips: list[object] = []
    for seconds in (extractor.chunk_seconds, 3.3, 0.5):  # the short ones are padded
        clip = np.clip(random.normal(0, 0.1, round(seconds * rate)), -1, 1)
        clip[: len(clip) // 4] = 0.0  # silence as well
        forms = {
            "scaled int16": lambda c: (c * 32767).astype(np.int16) / 32768,
            "list": lambda c: c.tolist(),
            "torch": torch.from_numpy,
        }
        clips.append(forms.get(kind, lambda c: c.astype(kind))(clip))
    features = extractor(clips, sampling_rate=rate, return_tensors="pt")["input_features"]
    waveforms = extractor.waveforms(clips, sampling_rate=rate)
    assert features.dtype == waveforms.dtype == torch.float32
    assert features.shape[1:] == (extractor.num_mel_bins, extractor.chunk_samples // extractor.hop_length + 1)
    encoder = model.get_encoder()
    with torch.no_grad():
        assert (encoder.log_mel(waveforms) - features).abs().max() < 1e-4
        difference = encoder(input_values=waveforms)[0] - encoder(input_features=features)[0]
    assert difference.abs().max() < 1e-4
    assert torch.equal(model.generate(input_values=waveforms), model.generate(input_features=features))


def test_a_bfloat16_model_computes_the_spectrogram_of_raw_waveforms_in_float32(
    extractor: LpmcFeatureExtractor, noise: np.ndarray
) -> None:
    model = small_model().to(torch.bfloat16)
    clips = [noise[: 10 * RATE], noise[: 4 * RATE]]
    features = extractor(clips, sampling_rate=RATE, return_tensors="pt")["input_features"]
    inside = model.get_encoder().log_mel(extractor.waveforms(clips, sampling_rate=RATE))
    assert inside.dtype == torch.float32
    assert torch.equal(inside, features)
