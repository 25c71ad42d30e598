"""The music-captioning pipeline: every form of input, windows in seconds, the same captions at any batch size."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from interpreters import PROJECT, client
from small_captioner import small_model, small_processor
from torch.utils.data import Dataset
from transformers.pipelines.pt_utils import KeyDataset

from modeling_lpmc import MusicCaptioningPipeline
from modeling_lpmc.captioner import SILENCE_TEXT, Captioner, TrackCaption

RATE = 16000


@pytest.fixture(scope="module")
def captions() -> MusicCaptioningPipeline:
    processor = small_processor()
    model = small_model(vocab_size=len(processor.tokenizer))
    model.generation_config.max_length = 16
    return pipeline_of(model, processor)


def pipeline_of(model: Any, processor: Any, **options: Any) -> MusicCaptioningPipeline:
    return MusicCaptioningPipeline(
        model=model,
        feature_extractor=processor.feature_extractor,
        tokenizer=processor.tokenizer,
        device=-1,
        **options,
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
        (np.zeros(RATE, np.int16), "has int16 samples; .*divide by 32768"),
        ({"array": np.zeros(RATE, np.int16), "sampling_rate": RATE, "path": "song.wav"}, "^song.wav: has int16"),
        (np.array([0.5, np.nan] * RATE, np.float32), "NaN, infinity.* at 0.00 s"),
        (np.ones(1, np.float32), None),
        (7, "type int"),
        ({"other": 1}, "this one holds 'other'"),
        ({"bytes": None, "path": None}, "this one holds 'bytes', 'path'"),
        ("nowhere.wav", "^nowhere.wav: no such file"),
        (b"RIFF", "^audio: is not an audio file"),
        ("http://127.0.0.1:9/song.mp3", "^http://127.0.0.1:9/song.mp3: cannot be fetched .*refused"),
    ],
)
def test_what_is_no_audio_is_refused(captions: MusicCaptioningPipeline, audio: Any, problem: str | None) -> None:
    if problem is None:
        assert captions(audio)[0]["end"] == pytest.approx(1 / RATE)
        return
    with pytest.raises(ValueError, match=problem):
        captions(audio)


@pytest.fixture
def waves(tmp_path: Path) -> list[Path]:
    """Four files of 12, 3, 25 and 10 seconds, each with a spectrum of its own: nine windows."""
    paths = []
    for number, seconds in enumerate((12, 3, 25, 10)):
        random = np.random.default_rng(number)
        wave = np.convolve(random.normal(0, 0.05, seconds * RATE), random.normal(0, 1, 12 * number + 1), "same")
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], 0.5 * wave / np.abs(wave).max(), RATE, subtype="FLOAT")
    return paths


def rows_given(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with the number of windows of each call of `generate` from now on."""
    rows: list[int] = []
    generate = model.generate

    def counted(**given: Any) -> Any:
        rows.append(len(given["input_features"]))
        return generate(**given)

    monkeypatch.setattr(model, "generate", counted)
    return rows


class Table(Dataset):
    """A dataset with an audio column."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> dict[str, Any]:
        array, rate = soundfile.read(self.paths[row], dtype="float32")
        return {"audio": {"array": array, "sampling_rate": rate, "path": self.paths[row].name}, "id": row}


class Column:
    """An iterable that is neither list, generator nor dataset, as a column of `datasets` is."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __iter__(self) -> Iterator[str]:
        return iter(map(str, self.paths))


def test_every_collection_gives_the_results_of_its_inputs_in_order(
    captions: MusicCaptioningPipeline, waves: list[Path]
) -> None:
    expected = [captions(str(path)) for path in waves]
    assert [len(track) for track in expected] == [2, 1, 3, 1]
    assert len({window["text"] for track in expected for window in track}) > 1
    for collection in (
        [str(path) for path in waves],
        tuple(waves),
        (path for path in waves),
        Column(waves),
        KeyDataset(Table(waves), "audio"),
    ):
        results = captions(collection)
        assert isinstance(results, list) == isinstance(collection, (list, tuple))
        assert list(results) == expected
    assert captions([]) == captions(()) == []


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 64])
def test_the_batch_size_changes_no_caption(
    captions: MusicCaptioningPipeline, waves: list[Path], batch_size: int
) -> None:
    assert captions([*waves], batch_size=batch_size) == captions([*waves])


def test_windows_of_several_files_fill_a_batch(waves: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    processor = small_processor()
    model = small_model(vocab_size=len(processor.tokenizer))
    model.generation_config.max_length = 8
    rows = rows_given(model, monkeypatch)
    pipeline_of(model, processor)([*waves, *waves])
    pipeline_of(model, processor, batch_size=5)([*waves])
    pipeline_of(model, processor)([*waves], batch_size=3)
    assert rows == [8, 6, 5, 2, 3, 3, 1]


def test_a_generator_is_read_no_further_than_its_results_are_asked_for(
    captions: MusicCaptioningPipeline, waves: list[Path]
) -> None:
    taken: list[Path] = []

    def source() -> Iterator[Path]:
        for path in waves * 5:
            taken.append(path)
            yield path

    results = iter(captions(source(), batch_size=2))
    next(results)
    assert len(taken) <= 3


def test_the_pipeline_says_what_the_captioner_says(
    captions: MusicCaptioningPipeline, recordings: list[Path], waves: list[Path]
) -> None:
    processor = small_processor()
    captioner = Captioner(captions.model, processor)
    files = [*waves, *recordings]
    for result, track in zip(captioner.caption_files(files), captions(files), strict=True):
        assert isinstance(result, TrackCaption)
        assert [segment.text for segment in result.segments] == [window["text"] for window in track]
        assert [segment.start for segment in result.segments] == [round(window["start"], 3) for window in track]


def test_windows_without_sound_are_not_given_to_the_model(
    captions: MusicCaptioningPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 30 * RATE).astype(np.float32)
    loud = captions(wave)
    wave[10 * RATE : 20 * RATE] = 0.25  # an offset is no sound
    rows = rows_given(captions.model, monkeypatch)
    for batch_size in (1, 2, 8):
        found = captions(wave, batch_size=batch_size)
        assert [window["text"] for window in found] == [loud[0]["text"], SILENCE_TEXT, loud[2]["text"]]
    assert rows == [1, 1, 1, 1, 2]
    silent = captions([np.zeros(12 * RATE, np.float32), np.full(RATE, 0.5, np.float32)])
    assert [[window["text"] for window in track] for track in silent] == [[SILENCE_TEXT] * 2, [SILENCE_TEXT]]
    assert len(rows) == 5


def test_a_file_above_full_scale_and_an_offset_are_heard_as_the_captioner_hears_them(
    captions: MusicCaptioningPipeline, waves: list[Path]
) -> None:
    array, _ = soundfile.read(waves[0], dtype="float32")
    plain = captions(array / np.abs(array).max())
    assert captions(array * 8 / np.abs(array).max()) == plain
    assert captions(array * 0.5 + np.float32(0.4)) == captions(array * 0.5)


def test_a_bad_file_among_others_is_named(captions: MusicCaptioningPipeline, waves: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.mp3").write_text("not music")
    files = [waves[0], tmp_path / "notes.mp3", waves[1]]
    with pytest.raises(ValueError, match=r"notes\.mp3: is not an audio file that can be read"):
        captions(files)
    results = iter(captions((path for path in files), batch_size=1))
    assert next(results) == captions(waves[0])
    with pytest.raises(ValueError, match=r"notes\.mp3"):
        next(results)


def test_audio_at_an_address_is_fetched(captions: MusicCaptioningPipeline, waves: list[Path]) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(waves[0].parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert captions(f"{address}/0.wav") == captions(waves[0])
        with pytest.raises(ValueError, match=f"^{address}/no.wav: cannot be fetched .*404"):
            captions(f"{address}/no.wav")
        server.shutdown()


def test_generation_settings_may_be_given_as_they_are_or_in_a_dict(
    captions: MusicCaptioningPipeline, waves: list[Path]
) -> None:
    short = captions(waves[0], generate_kwargs={"max_length": 5, "num_beams": 1})
    assert captions(waves[0], max_length=5, num_beams=1) == short != captions(waves[0])
    with pytest.raises(ValueError, match="num_return_sequences"):
        captions(waves[0], num_return_sequences=2)
    with pytest.raises((TypeError, ValueError), match="beans"):
        captions(waves[0], num_beans=2)


BESIDE_DATASETS = """
import json, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
paths = sys.argv[2:]
import torch
torch.set_num_threads(1)
from datasets import Audio, Dataset
from small_captioner import small_model, small_processor
from torchcodec.decoders import AudioDecoder
from transformers.pipelines.pt_utils import KeyDataset
from modeling_lpmc import MusicCaptioningPipeline

processor = small_processor()
model = small_model(vocab_size=len(processor.tokenizer))
model.generation_config.max_length = 8
captions = MusicCaptioningPipeline(
    model=model, feature_extractor=processor.feature_extractor, tokenizer=processor.tokenizer, device=-1
)
table = Dataset.from_dict({"audio": paths}).cast_column("audio", Audio())
assert hasattr(table[0]["audio"], "get_all_samples")
print(json.dumps({
    "paths": captions(paths),
    "decoders": [captions(AudioDecoder(path)) for path in paths],
    "rows": [captions(row["audio"]) for row in table],
    "list": captions([row["audio"] for row in table]),
    "column": list(captions(table["audio"])),
    "dataset": list(captions(KeyDataset(table, "audio"))),
}))
"""


def test_the_decoders_that_datasets_gives_are_heard_as_the_files(
    torchcodec: Any, waves: list[Path], tmp_path: Path
) -> None:
    stereo = tmp_path / "stereo.flac"
    soundfile.write(stereo, np.random.default_rng(5).normal(0, 0.1, (6 * 44100, 2)), 44100)
    found = client(BESIDE_DATASETS, tmp_path, PROJECT, *waves[:2], stereo, environment=torchcodec)
    expected = found.pop("paths")
    assert len(expected) == 3
    assert found == dict.fromkeys(found, expected)


BROKEN = """
import json, sys
sys.path[:0] = sys.argv[1].split(";")
{hide}
import numpy
from small_captioner import small_model, small_processor
from modeling_lpmc import MusicCaptioningPipeline
from modeling_lpmc.captioner import Captioner
from lpmc_errors import LpmcError
import torch
torch.set_num_threads(1)
processor = small_processor()
model = small_model(vocab_size=len(processor.tokenizer))
model.generation_config.max_length = 6
captions = MusicCaptioningPipeline(
    model=model, feature_extractor=processor.feature_extractor, tokenizer=processor.tokenizer, device=-1
)
print(len(captions(numpy.random.default_rng(0).normal(0, 0.1, 16000).astype("float32"))))
try:
    captions(sys.argv[2])
except ImportError as error:
    print(type(error).__name__, error)
try:
    print(next(Captioner(model, processor).caption_files([sys.argv[2]])).error)
except LpmcError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("hide", "file", "said"),
    [
        ("sys.modules['soundfile'] = None", "a.wav", "soundfile: is not installed; pip install --force-reinstall"),
        ("sys.modules['soxr'] = None", "b.wav", "soxr: is not installed; pip install soxr, which resamples"),
        ("", "a.m4a", "av cannot be loaded (ImportError: libavcodec.so.62: cannot open"),
    ],
)
def test_a_library_that_is_missing_or_broken_is_one_line_and_arrays_need_none(
    tmp_path: Path, hide: str, file: str, said: str
) -> None:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    soundfile.write(tmp_path / "b.wav", np.random.default_rng(0).normal(0, 0.1, 44100), 44100)
    (tmp_path / "a.m4a").write_bytes(b"\x00\x00\x00\x20ftypM4A " + bytes(2000))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "av.py").write_text("raise ImportError('libavcodec.so.62: cannot open shared object file')")
    done = subprocess.run(
        [sys.executable, "-c", BROKEN.format(hide=hide), f"{broken};{PROJECT};{PROJECT}/tests", tmp_path / file],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    windows, by_pipeline, by_captioner = done.stdout.strip().splitlines()
    assert windows == "1"
    assert said in by_pipeline
    assert said in by_captioner


def test_the_features_of_a_window_with_an_offset_are_those_without_it(
    captions: MusicCaptioningPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 10 * RATE)
    wave -= wave.mean()
    given: list[torch.Tensor] = []
    generate = captions.model.generate

    def noted(**inputs: Any) -> Any:
        given.append(inputs["input_features"])
        return generate(**inputs)

    monkeypatch.setattr(captions.model, "generate", noted)
    captions(wave)
    captions(wave + 0.2)
    lowest = (given[1] - given[0])[0, :2]
    assert lowest.abs().median() < 0.1  # dB; the offset would raise them by 20
