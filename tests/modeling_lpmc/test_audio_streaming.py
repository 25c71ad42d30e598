"""Long tracks window by window: the samples that loading the whole gives, in memory that does not grow with it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_captioner import small_model, small_processor

from lpmc_errors import AudioError
from modeling_lpmc import LpmcFeatureExtractor, MusicCaptioningPipeline
from modeling_lpmc import audio_track_lpmc as track_module
from modeling_lpmc.audio import load_audio, open_track, track_windows
from modeling_lpmc.audio_track_lpmc import read_track, track_of_array
from modeling_lpmc.captioner import Captioner, FailedFile, TrackCaption

RATE = 16000
SHORT, LONG = 6, 18  # minutes; both longer than what is held of a file


def noise(seconds: float, rate: int, channels: int = 1, level: float = 0.1) -> np.ndarray:
    shape = (round(seconds * rate), channels)
    return np.random.default_rng(0).normal(0, level, shape).astype(np.float32)


def expected_windows(path: Path) -> tuple[list[tuple[int, int]], list[np.ndarray]]:
    samples = load_audio(path).samples
    bounds = LpmcFeatureExtractor().chunk_bounds(len(samples))
    return bounds, [samples[start:end] for start, end in bounds]


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [
        (0.5, [0.5]),
        (9.99, [9.99]),
        (10.0, [10.0]),
        (10.49, [10.0]),
        (10.5, [10.0, 10.5]),
        (19.99, [10.0, 19.99]),
        (20.49, [10.0, 20.0]),
        (20.5, [10.0, 20.0, 20.5]),
    ],
)
@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("held_seconds", [300.0, 0.0])
def test_streamed_windows_are_those_of_the_whole_file(tmp_path, seconds, ends, rate, held_seconds):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(seconds, rate, channels=2), rate)
    bounds, expected = expected_windows(path)
    assert [end / RATE for _, end in bounds] == ends

    track = read_track(path, RATE, held_seconds=held_seconds)

    assert (track.held is None) == (held_seconds == 0.0)
    assert LpmcFeatureExtractor().chunk_bounds(track.num_samples) == bounds
    assert track.duration == seconds
    for found, window in zip(track.windows(bounds), expected, strict=True):
        assert np.array_equal(found, window)


@pytest.mark.parametrize("held_seconds", [300.0, 0.0])
def test_a_peak_above_full_scale_scales_every_window_alike(tmp_path, recordings, held_seconds):
    quiet_then_loud = np.concatenate([noise(15, 44100), noise(15, 44100, level=2.0)])
    soundfile.write(tmp_path / "loud.wav", quiet_then_loud, 44100, subtype="FLOAT")
    for path in (tmp_path / "loud.wav", recordings[1]):  # an MP3 that overshoots
        bounds, expected = expected_windows(path)
        track = read_track(path, RATE, held_seconds=held_seconds)
        assert track.peak > 1.0
        found = list(track.windows(bounds))
        assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
        assert max(window.max() for window in found) <= 1.0


def test_an_array_gives_the_windows_of_the_file_that_holds_it(tmp_path):
    samples = noise(24.3, 44100, channels=2)
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype="FLOAT")
    bounds, expected = expected_windows(tmp_path / "a.wav")
    for form in (samples, samples.T, samples.astype(np.float64), np.asfortranarray(samples)):
        track = track_of_array(form, 44100, RATE)
        found = list(track.windows(bounds))
        assert all(np.allclose(one, other, atol=1e-6) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros(RATE, np.int16), "has int16 samples; .*divide by 32768"),
        (np.zeros((9, RATE), np.float32), r"has shape \(9, 16000\)"),
        (np.zeros((1, 2, RATE), np.float32), r"has shape \(1, 2, 16000\)"),
        (np.float32(0.0), "has shape"),
        (np.array([0.0, np.nan], np.float32), r"NaN, infinity\) at 0.00 s"),
        (np.zeros(0), "is empty"),
    ],
)
def test_an_array_that_is_no_audio_is_refused(array, problem):
    with pytest.raises(ValueError, match=f"^clip 7: .*{problem}"):
        track_of_array(np.asarray(array), RATE, RATE, name="clip 7")


def test_damage_far_into_a_file_is_found_before_its_first_window(tmp_path):
    samples = noise(400, RATE)
    samples[350 * RATE] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "cut.flac", noise(400, RATE), RATE)
    content = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) * 9 // 10])

    with pytest.raises(AudioError, match=r"nan\.wav: .*at 350\.00 s"):
        open_track(tmp_path / "nan.wav")
    with pytest.raises(AudioError, match=r"cut\.flac: .*400\.0 s"):
        open_track(tmp_path / "cut.flac")


def test_a_file_that_shrinks_between_its_two_readings_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(track_module, "HELD_SECONDS", 0.0)
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(30, RATE), RATE)
    track = read_track(path, RATE, held_seconds=0.0)
    windows = track_windows(track, [(0, 160_000), (160_000, 320_000), (320_000, 480_000)])
    next(windows)
    path.write_bytes(path.read_bytes()[: 44 + 2 * 20 * RATE])

    with pytest.raises(AudioError, match=r"changed while it was read|cut short"):
        list(windows)


class Asked:
    """Stands for `generate` or `candidates`: writes a caption for each row and counts the rows."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, input_features: torch.Tensor, **kwargs: object) -> torch.Tensor:
        self.rows += len(input_features)
        return torch.full((len(input_features), 4), 7)

    def candidates(self, input_features: torch.Tensor, num_beams: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        return self(input_features)[:, None], torch.ones(len(input_features), 1)


@pytest.fixture
def captioner(monkeypatch) -> Captioner:
    processor = small_processor()
    made = Captioner(small_model(vocab_size=len(processor.tokenizer)), processor)
    monkeypatch.setattr(made.model, "asked", asked := Asked(), raising=False)
    monkeypatch.setattr(made.model, "candidates", asked.candidates)
    return made


@pytest.fixture
def pipe(monkeypatch) -> MusicCaptioningPipeline:
    processor = small_processor()
    model = small_model(vocab_size=len(processor.tokenizer))
    monkeypatch.setattr(model, "generate", Asked())
    return MusicCaptioningPipeline(
        model=model, feature_extractor=processor.feature_extractor, tokenizer=processor.tokenizer, device=-1
    )


def test_a_file_that_breaks_late_costs_the_model_nothing_and_spoils_no_other(captioner, tmp_path):
    samples = noise(320, RATE)
    samples[319 * RATE] = np.inf
    soundfile.write(tmp_path / "b.wav", samples, RATE, subtype="FLOAT")
    for name in "ac":
        soundfile.write(tmp_path / f"{name}.wav", noise(20, RATE), RATE)

    a, b, c = captioner.caption_files([tmp_path / f"{name}.wav" for name in "abc"], batch_size=64)

    assert isinstance(b, FailedFile)
    assert "at 319.00 s" in b.error
    assert captioner.model.asked.rows == 4
    assert isinstance(a, TrackCaption)
    assert isinstance(c, TrackCaption)
    assert len(a.segments) == len(c.segments) == 2


def test_a_file_that_changes_while_it_is_captioned_fails_as_a_whole(captioner, tmp_path):
    first, path, last = tmp_path / "a.wav", tmp_path / "b.wav", tmp_path / "c.wav"
    for file in (first, last):
        soundfile.write(file, noise(15, RATE), RATE)
    soundfile.write(path, noise(330, RATE), RATE)

    def shrink(of: Path, done: int, total: int) -> None:
        if of == path and path.stat().st_size > 10_000_000:
            path.write_bytes(path.read_bytes()[: 44 + 2 * 100 * RATE])

    results = list(captioner.caption_files([first, path, last], batch_size=4, progress=shrink))

    assert [type(result) for result in results] == [TrackCaption, FailedFile, TrackCaption]
    assert [result.path for result in results] == [str(first), str(path), str(last)]
    assert "\n" not in results[1].error
    assert [len(results[0].segments), len(results[2].segments)] == [2, 2]


@pytest.fixture(scope="module")
def long_files(tmp_path_factory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("long")
    ten_seconds = (noise(10, 22050) * 32768).astype(np.int16)
    paths = {}
    for minutes in (SHORT, LONG):
        paths[minutes] = folder / f"{minutes}.wav"
        with soundfile.SoundFile(paths[minutes], "w", 22050, 1, "PCM_16") as file:
            for _ in range(minutes * 6):
                file.write(ten_seconds)
    return paths


def peak_bytes(work: Callable[[], object]) -> int:
    """Of what Python and numpy allocate during `work()`."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", ["windows", "captioner", "pipeline"])
def test_memory_does_not_grow_with_the_length_of_a_file(long_files, captioner, pipe, way):
    segments = {}

    def caption(path: Path) -> None:
        if way == "captioner":
            (result,) = captioner.caption_files([path])
            segments[path] = len(result.segments)
        elif way == "pipeline":
            segments[path] = len(pipe(str(path)))
        else:
            track = open_track(path)
            bounds = LpmcFeatureExtractor().chunk_bounds(track.num_samples)
            segments[path] = sum(1 for _ in track_windows(track, bounds))

    peaks = {minutes: peak_bytes(lambda: caption(path)) for minutes, path in long_files.items()}

    assert segments == {long_files[SHORT]: SHORT * 6, long_files[LONG]: LONG * 6}
    whole = LONG * 60 * RATE * 4
    assert peaks[LONG] < 0.5 * whole
    assert peaks[LONG] - peaks[SHORT] < 0.03 * whole
