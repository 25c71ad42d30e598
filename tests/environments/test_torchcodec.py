"""With torchcodec and FFmpeg the `Audio` feature decodes; with torchcodec alone everything but decoding still works."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from interpreters import PROJECT, client

from dataset_builder import lp_musiccaps

RESAMPLERS_DIFFER = 2e-5  # of full scale; FFmpeg's and libsoxr's, which differ by 4e-6 on a tone at a steady level
DECODERS_DIFFER = {".wav": 0.0, ".flac": 0.0, ".mp3": 5e-6, ".ogg": 5e-6}  # of full scale; measured: MP3 1.5e-6

DECODING = """
import json, sys
import numpy
from datasets import Audio, load_dataset
sys.path.insert(0, sys.argv[1])
import lp_musiccaps

builder = lp_musiccaps.LPMusicCaps(data_dir=sys.argv[2], audio_root=sys.argv[3])
builder.download_and_prepare()
directory = load_dataset("lp-musiccaps", "with-audio")
ways = {
    "directory": directory,
    "directory-streaming": load_dataset("lp-musiccaps", "with-audio", streaming=True),
    "builder": builder.as_dataset(),
    "builder-streaming": builder.as_streaming_dataset(),
    "own-rate": directory.cast_column("audio", Audio()),
}
described, samples = {}, {}
for way, splits in ways.items():
    described[way] = {}
    for rows in splits.values():
        for row in rows:
            clip = row["audio"]
            if clip is None:
                described[way][row["track_id"]] = None
                continue
            samples[f"{way} {row['track_id']}"] = clip["array"]
            described[way][row["track_id"]] = [clip["sampling_rate"], clip.get_all_samples().data.shape[0]]
numpy.savez("decoded.npz", **samples)
print(json.dumps(described))
"""


@pytest.fixture(scope="module")
def decoded(torchcodec, built, tmp_path_factory) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Way -> track -> [sampling rate, channels], and "way track" -> samples, as `datasets` decodes them."""
    alone = tmp_path_factory.mktemp("alone")
    shutil.copy(lp_musiccaps.__file__, alone)
    described = client(
        DECODING, built.folder, alone, built.corpus.tracks.parent, built.corpus.audio, environment=torchcodec
    )
    with np.load(built.folder / "decoded.npz") as samples:
        return described, dict(samples)


def _files(built: Any) -> dict[str, Path]:
    files = {track.track_id: built.corpus.audio / track.audio_path for track in built.corpus.tagged}
    return {name: path for name, path in files.items() if path.exists()}


@pytest.mark.parametrize("way", ["directory", "directory-streaming", "builder", "builder-streaming"])
def test_the_audio_column_decodes_to_mono_at_16_khz_as_soundfile_and_soxr_do(decoded, built, way):
    described, samples = decoded
    for track_id, path in _files(built).items():
        original, rate = soundfile.read(path, dtype="float32", always_2d=True)
        expected = soxr.resample(original.mean(axis=1), rate, lp_musiccaps.SAMPLING_RATE, "HQ")
        found = samples[f"{way} {track_id}"]
        assert (found.dtype, found.shape) == (np.float32, expected.shape), path.name
        assert described[way][track_id][0] == lp_musiccaps.SAMPLING_RATE == 16_000
        assert np.abs(found - expected).max() < RESAMPLERS_DIFFER, path.name
        assert np.abs(expected).max() > 0.1, "silence would equal silence"


def test_a_clip_keeps_its_channels_for_those_who_want_them(decoded, built):
    described, _ = decoded
    channels = {name: soundfile.info(path).channels for name, path in _files(built).items()}
    assert sorted(set(channels.values())) == [1, 2]
    assert {name: clip[1] for name, clip in described["directory"].items() if clip} == channels


@pytest.mark.parametrize("way", ["directory", "directory-streaming", "builder", "builder-streaming"])
def test_a_track_without_audio_has_none_and_stops_nothing(decoded, built, way):
    described, _ = decoded
    assert described[way].keys() == {track.track_id for track in built.corpus.tagged}
    assert [name for name, clip in described[way].items() if clip is None] == ["t4"]


def test_decoding_at_the_own_rate_equals_soundfile(decoded, built):
    described, samples = decoded
    for track_id, path in _files(built).items():
        expected, rate = soundfile.read(path, dtype="float32", always_2d=True)
        found = samples[f"own-rate {track_id}"]
        assert (described["own-rate"][track_id][0], found.shape) == (rate, expected.shape[:1])
        assert np.abs(found - expected.mean(axis=1)).max() <= DECODERS_DIFFER[path.suffix], path.name


WITHOUT_FFMPEG = """
import io, json, sys
from pathlib import Path
import datasets, soundfile
from datasets import Audio, load_dataset
from dataset_builder.build import build_dataset

tables, audio, output = map(Path, sys.argv[1:])
for config, root in (("text", None), ("with-audio", audio)):
    build_dataset(tables / "captions.parquet", tables / "tracks.parquet", config=config, output=output, audio_root=root)
found = {"available": datasets.config.TORCHCODEC_AVAILABLE, "imported": "torchcodec" in sys.modules}
for way, streaming in (("plain", False), ("streaming", True)):
    rows = load_dataset("lp-musiccaps", "with-audio", split="train", streaming=streaming)
    clips = rows.cast_column("audio", Audio(decode=False))
    found[way] = [row["audio"] and len(soundfile.read(io.BytesIO(row["audio"]["bytes"]))[0]) for row in clips]
try:
    load_dataset("lp-musiccaps", "with-audio", split="train")[0]["audio"]
except RuntimeError as error:
    found["error"] = str(error)
print(json.dumps(found))
"""


def test_torchcodec_without_ffmpeg_spoils_decoding_and_nothing_else(torchcodec_without_ffmpeg, built, tmp_path):
    environment = replace(torchcodec_without_ffmpeg, packages=(*torchcodec_without_ffmpeg.packages, PROJECT))

    found = client(
        WITHOUT_FFMPEG,
        tmp_path,
        built.corpus.tracks.parent,
        built.corpus.audio,
        tmp_path / "lp-musiccaps",
        environment=environment,
    )

    assert found["available"], "datasets looks for the package only"
    assert not found["imported"], "a build must not need torchcodec, nor be stopped by one that cannot be loaded"
    assert _contents(tmp_path / "lp-musiccaps") == _contents(built.directory)
    assert found["plain"] == found["streaming"] == [10 * 22_050, 10 * 22_050, None, 10 * 44_100]
    assert "Could not load libtorchcodec" in found["error"]


def _contents(directory: Path) -> dict[str, bytes]:
    files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    assert "README.md" in files
    return {name: path.read_bytes() for name, path in sorted(files.items())}


def test_the_extra_and_the_pin_name_one_release_of_torchcodec():
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = [name for name in extras["audio"] if name.startswith("torchcodec")]
    assert json.dumps(asked) == '["torchcodec==0.13.*"]'
    assert "\ntorchcodec==0.13." in (PROJECT / "constraints.txt").read_text()
