"""Real files of every kind, written here, read by `load_audio`; and one line for each that is of no use."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from interpreters import PROJECT, client

from lpmc_errors import AudioError
from modeling_lpmc.audio import check_has_sound, has_sound, load_audio, open_track, without_offset


def tone(seconds: float, rate: int, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int, **kwargs: object) -> Path:
    soundfile.write(path, samples, rate, **kwargs)
    return path


def strongest_hertz(samples: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


def refusal(path: Path, **kwargs: float) -> str:
    with pytest.raises(AudioError) as caught:
        load_audio(path, **kwargs)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert caught.value.remedy
    return message


@pytest.mark.parametrize(
    ("name", "rate", "options"),
    [
        ("16k.wav", 16000, {"subtype": "PCM_16"}),
        ("telephone.wav", 8000, {"subtype": "PCM_16"}),
        ("studio.wav", 96000, {"subtype": "PCM_24"}),
        ("float.wav", 44100, {"subtype": "FLOAT"}),
        ("cd.flac", 44100, {"subtype": "PCM_24"}),
        ("song.mp3", 44100, {"format": "MP3"}),
        ("song.ogg", 44100, {"format": "OGG", "subtype": "VORBIS"}),
        ("song.opus", 48000, {"format": "OGG", "subtype": "OPUS"}),
        ("song.aiff", 22050, {"subtype": "PCM_16"}),
        ("misnamed.raw", 16000, {"format": "FLAC"}),
    ],
)
def test_every_common_format_and_rate_gives_the_same_tone(tmp_path, name, rate, options):
    clip = load_audio(write(tmp_path / name, tone(2.0, rate), rate, **options))

    assert clip.samples.dtype == np.float32
    assert clip.samples.ndim == 1
    assert clip.sampling_rate == 16000
    assert (clip.source_sampling_rate, clip.channels) == (rate, 1)
    assert clip.duration == pytest.approx(2.0, abs=0.001)
    assert len(clip.samples) == pytest.approx(32000, abs=16)
    assert strongest_hertz(clip.samples, 16000) == pytest.approx(440, abs=1)
    assert np.abs(clip.samples[4000:-4000]).max() == pytest.approx(0.5, abs=0.02)


def test_sixteen_kilohertz_mono_arrives_bit_exact(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32767, 20_000).astype(np.int16)

    clip = load_audio(write(tmp_path / "a.wav", samples, 16000))

    assert np.array_equal(clip.samples, samples.astype(np.float32) / 32768)


def test_an_mp3_is_whole_across_the_blocks_it_is_read_in(tmp_path):
    rate = 22_050
    time = np.arange(10 * rate) / rate
    tone = (0.5 * np.sin(2 * np.pi * 440 * time) * np.hanning(len(time))).astype(np.float32)
    soundfile.write(tmp_path / "tone.mp3", tone, rate, format="MP3")

    whole, _ = soundfile.read(tmp_path / "tone.mp3", dtype="float32")

    np.testing.assert_allclose(load_audio(tmp_path / "tone.mp3", sampling_rate=rate).samples, whole, atol=1e-6)


def test_reading_in_blocks_equals_decoding_and_resampling_in_one_go(recordings):
    for path in recordings:
        whole, rate = soundfile.read(path, dtype="float32", always_2d=True)
        expected = soxr.resample(whole.mean(axis=1), rate, 16000, "HQ")

        clip = load_audio(path)

        assert clip.duration == len(whole) / rate
        assert clip.channels == whole.shape[1]
        assert len(clip.samples) == pytest.approx(len(expected), abs=2)
        shared = min(len(expected), len(clip.samples))
        expected = expected / max(1.0, np.abs(expected).max())
        assert np.abs(clip.samples[:shared] - expected[:shared]).max() < 1e-4


def test_stereo_is_averaged_to_mono(tmp_path):
    left, right = tone(1.0, 16000, 300), tone(1.0, 16000, 900, level=0.25)

    clip = load_audio(write(tmp_path / "a.wav", np.stack([left, right], 1), 16000, subtype="FLOAT"))

    assert clip.channels == 2
    assert np.allclose(clip.samples, (left + right) / 2, atol=1e-6)


def test_a_float_file_above_full_scale_is_scaled_not_clipped(tmp_path):
    loud = tone(1.0, 16000, level=4.0)

    clip = load_audio(write(tmp_path / "a.wav", loud, 16000, subtype="FLOAT"))

    assert np.abs(clip.samples).max() <= 1.0
    assert np.allclose(clip.samples, loud / np.abs(loud).max(), atol=1e-6)


def test_memory_beyond_the_result_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16", format="FLAC") as file:
        for _ in range(30):
            file.write(np.zeros((441000, 2), np.int16))  # 5 minutes: 106 MB as float32 stereo
    tracemalloc.start()
    try:
        clip = load_audio(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert clip.duration == 300.0
    assert peak < 2 * clip.samples.nbytes + 8e6


def test_a_missing_file_an_empty_file_and_a_folder_are_told_apart(tmp_path):
    (tmp_path / "empty.wav").touch()

    assert "no such file" in refusal(tmp_path / "nowhere.wav")
    assert "is empty (0 bytes)" in refusal(tmp_path / "empty.wav")
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")

    assert "not a regular file" in refusal(tmp_path / "pipe.wav")


@pytest.mark.parametrize("length", [300, 70_000])
def test_a_name_that_no_disk_holds_is_one_line(tmp_path, length):
    assert "cannot be opened" in refusal(tmp_path / ("x" * length + ".wav"))


def test_a_file_without_read_permission_is_named():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = write(Path(folder) / "secret.wav", tone(1.0, 16000), 16000)
        path.chmod(0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # root may read anything
        try:
            message = refusal(path)
        finally:
            if root:
                os.seteuid(0)
    assert "no permission" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.wav", b"these are notes about a song, not the song\n" * 50),
        ("cover.mp3", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40),
        ("zeros.wav", bytes(5000)),
        ("header.wav", b"RIFF\x24\x00\x00\x00WAVE"),
        ("page.flac", b"<!doctype html><title>404</title>"),
        ("one.ogg", b"O"),
    ],
)
def test_what_is_no_audio_is_refused_whatever_its_name(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)

    assert "is not an audio file that can be read" in refusal(path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "PCM_16"}),
        ("a.aiff", {"subtype": "PCM_16"}),
        ("a.au", {"subtype": "PCM_16"}),
        ("a.flac", {}),
        ("a.mp3", {}),
    ],
)
def test_a_file_that_holds_less_than_its_header_promises_is_refused(tmp_path, name, options):
    noise = np.random.default_rng(0).normal(0, 0.1, 20 * 16000)
    path = write(tmp_path / name, noise, 16000, **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

    message = refusal(path)

    assert "cut short" in message
    assert "20.0 s" in message
    assert "copy or download it again" in message


def test_a_file_that_lacks_only_its_last_moment_is_read(tmp_path):
    path = write(tmp_path / "a.wav", tone(5.0, 16000), 16000)
    path.write_bytes(path.read_bytes()[:-3200])  # 0.1 s

    assert load_audio(path).duration == pytest.approx(4.9)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_written_to_a_pipe_is_read_to_its_end(tmp_path, size):
    path = write(tmp_path / "piped.wav", tone(3.0, 16000), 16000)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(content)

    if size:
        assert load_audio(path).duration == pytest.approx(3.0)
    else:
        assert "holds no sound" in refusal(path)


def two_mp3_in_one(folder: Path) -> Path:
    noise = np.random.default_rng(0).normal(0, 0.1, (20 * 44100, 2))
    one = write(folder / "one.mp3", noise, 44100).read_bytes()
    path = folder / "two.mp3"
    path.write_bytes(one + one)
    return path


@pytest.fixture
def no_ffmpeg_decoder(monkeypatch):
    """As if neither PyAV nor torchcodec were installed."""
    for name in ("av", "torchcodec", "torchcodec.decoders"):
        monkeypatch.setitem(sys.modules, name, None)


def test_an_mp3_that_goes_on_after_its_declared_end_is_not_cut_silently(tmp_path, no_ffmpeg_decoder):
    path = two_mp3_in_one(tmp_path)

    message = refusal(path)

    assert "hides part of its sound" in message
    assert "pip install av" in message


def test_pyav_reads_an_mp3_beyond_its_declared_end(tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")

    assert load_audio(two_mp3_in_one(tmp_path)).duration == pytest.approx(40.0, abs=0.2)


def test_an_mp3_without_a_length_header_is_no_truncated_file(tmp_path):
    calm_then_loud = np.concatenate([np.zeros(3 * 44100), np.random.default_rng(0).normal(0, 0.2, 5 * 44100)])
    path = write(tmp_path / "a.mp3", calm_then_loud, 44100, bitrate_mode="VARIABLE")
    content = path.read_bytes()
    assert b"Xing" in content[:200]
    path.write_bytes(content[content.index(b"\xff\xfb", 100) :])  # drops the frame that declares the length

    assert load_audio(path).duration == pytest.approx(8.0, abs=0.2)


def test_too_short_and_too_long_are_refused_with_the_reason(tmp_path):
    short = write(tmp_path / "short.wav", tone(0.2, 22050), 22050)
    edge = write(tmp_path / "edge.wav", tone(0.5, 22050), 22050)
    long = write(tmp_path / "long.wav", tone(5.0, 22050), 22050)

    assert "lasts 0.20 s; a caption needs at least 0.5 s" in refusal(short)
    assert load_audio(edge).duration == 0.5
    assert "is longer than 4 s" in refusal(long, max_seconds=4.0)
    assert load_audio(long, max_seconds=5.0).duration == 5.0


def test_a_file_without_any_sound_in_it_is_refused(tmp_path):
    assert "holds no sound" in refusal(write(tmp_path / "a.wav", np.zeros(0), 16000))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_sound_are_refused_with_their_place(tmp_path, bad):
    samples = tone(6.0, 44100)
    samples[200_000] = bad

    message = refusal(write(tmp_path / "a.wav", samples, 44100, subtype="FLOAT"))

    assert "NaN, infinity" in message
    assert f"at {200_000 / 44100:.2f} s" in message


@pytest.mark.parametrize("rate", [0, 7, 4_000_000])
def test_an_absurd_sampling_rate_is_refused(tmp_path, rate):
    path = write(tmp_path / "a.wav", tone(1.0, 16000), 16000)
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate)
    path.write_bytes(content)

    assert ("is not an audio file" if rate == 0 else "sampling rate") in refusal(path)


def test_silence_is_loaded_but_refused_for_captioning(tmp_path):
    zeros = load_audio(write(tmp_path / "zeros.wav", np.zeros(32000), 16000))
    dither = np.random.default_rng(0).integers(-2, 3, 32000).astype(np.int16)
    dithered = load_audio(write(tmp_path / "dither.wav", dither, 16000))
    quiet = load_audio(write(tmp_path / "quiet.wav", tone(2.0, 16000, level=0.001), 16000))

    for clip in (zeros, dithered):
        assert not has_sound(clip.samples)
        with pytest.raises(AudioError, match=r"song\.wav: silence: nothing to caption"):
            check_has_sound(clip, "song.wav")
    check_has_sound(quiet, "song.wav")


def test_an_offset_is_no_sound(tmp_path):
    dither = np.random.default_rng(0).integers(-2, 3, 32000) / 32768
    for number, samples in enumerate((np.full(32000, 0.25), 0.25 + dither, np.full(32000, -0.5))):
        path = write(tmp_path / f"{number}.wav", samples, 22050)
        assert not open_track(path, 22050).sounding
        clip = load_audio(path, 22050)
        assert not has_sound(clip.samples)
        with pytest.raises(AudioError, match="silence"):
            check_has_sound(open_track(path, 22050), path)
    assert has_sound(0.25 + tone(2.0, 16000, level=0.001))
    assert not has_sound(np.zeros(0, np.float32))


def test_music_keeps_the_mean_it_may_have_bit_for_bit(recordings):
    windows = 0
    for path in recordings:
        samples = load_audio(path).samples
        for start in range(0, len(samples) - 160_000, 40_000):
            window = samples[start : start + 160_000]
            assert without_offset(window, 16000) is window, (path.name, start)
            windows += 1
    for hertz in (20, 20.04, 440.0):  # 20.04 Hz leaves half a period over
        wave = tone(10.0, 16000, hertz, 0.9)
        assert without_offset(wave, 16000) is wave
    assert windows > 10


@pytest.mark.parametrize("offset", [0.01, -0.1, 0.5])
def test_an_offset_of_the_recorder_is_taken_out(recordings, offset):
    samples = load_audio(recordings[1]).samples[:160_000] * np.float32(0.5)
    samples -= samples.mean()

    cleaned = without_offset(samples + np.float32(offset), 16000)

    assert np.abs(cleaned - samples).max() < 1e-6
    assert without_offset(np.full(100, offset, np.float32), 16000).max() == pytest.approx(0, abs=1e-7)


def encode(path: Path, samples: np.ndarray, rate: int, codec: str) -> Path:
    """Write mono samples with FFmpeg's encoders through PyAV."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate, frame_size=1024)
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="fltp", layout="mono")
        frame.sample_rate = rate
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "rate"), [("a.m4a", "aac", 44100), ("a.aac", "aac", 44100), ("a.webm", "libopus", 48000)]
)
def test_pyav_reads_what_libsndfile_cannot(tmp_path, monkeypatch, name, codec, rate):
    pytest.importorskip("av", reason="PyAV is not installed")
    path = encode(tmp_path / name, tone(3.0, rate), rate, codec)

    clip = load_audio(path)

    assert clip.duration == pytest.approx(3.0, abs=0.1)
    assert clip.source_sampling_rate == rate
    assert strongest_hertz(clip.samples, 16000) == pytest.approx(440, abs=1)


@pytest.mark.parametrize(
    ("head", "kind"),
    [(b"\x00\x00\x00\x20ftypM4A ", "M4A"), (b"\x1aE\xdf\xa3", "WebM"), (b"\xff\xf1\x50\x80", "AAC")],
)
def test_m4a_and_webm_without_a_decoder_name_the_remedy(tmp_path, no_ffmpeg_decoder, head, kind):
    path = tmp_path / "a.m4a"
    path.write_bytes(head + bytes(2000))

    message = refusal(path)

    assert kind in message
    assert "av is not installed, torchcodec is not installed; pip install av" in message


def test_damaged_m4a_and_video_without_sound_are_refused(tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")
    path = encode(tmp_path / "a.m4a", tone(3.0, 44100), 44100, "aac")
    path.write_bytes(path.read_bytes()[:4000])

    assert "damaged" in refusal(path)
    assert "without a sound track" in refusal(video(tmp_path / "silent-film.mp4"))


def test_a_webm_that_was_cut_short_is_refused_and_one_that_tells_no_length_is_not(tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")
    path = encode(tmp_path / "a.webm", tone(12.0, 48000), 48000, "libopus")
    cut = path.read_bytes()
    (tmp_path / "cut.webm").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "live.webm").write_bytes(cut.replace(b"DURATION", b"DURATIO_"))  # as recorders in browsers write it

    assert load_audio(path).duration == pytest.approx(12.0, abs=0.1)
    assert load_audio(tmp_path / "live.webm").duration == pytest.approx(12.0, abs=0.1)
    assert "cut short: its header promises 12.0 s" in refusal(tmp_path / "cut.webm")


def video(path: Path) -> Path:
    """One second of black, without sound."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    return path


DECODED_BY_TORCHCODEC = """
import json, sys
sys.modules["av"] = None
sys.path[:0] = sys.argv[1].split(";")
from lpmc_errors import AudioError
from modeling_lpmc.audio import load_audio
import numpy
result = []
for number, path in enumerate(sys.argv[2:]):
    try:
        clip = load_audio(path)
        numpy.save(f"{number}.npy", clip.samples)
        result.append([clip.duration, clip.source_sampling_rate, clip.channels])
    except AudioError as error:
        result.append(str(error))
print(json.dumps(result))
"""


def test_torchcodec_decodes_as_pyav_does_where_pyav_is_not_there(tmp_path, torchcodec):
    pytest.importorskip("av", reason="PyAV is not installed")
    rate = {"a.m4a": 44100, "a.aac": 44100, "a.webm": 48000}
    codec = {"a.m4a": "aac", "a.aac": "aac", "a.webm": "libopus"}
    files = [encode(tmp_path / name, tone(25.0, rate[name]), rate[name], codec[name]) for name in rate]
    broken = tmp_path / "cut.m4a"
    broken.write_bytes(files[0].read_bytes()[:4000])
    film = video(tmp_path / "film.mp4")

    *found, cut, soundless = client(
        DECODED_BY_TORCHCODEC, tmp_path, PROJECT, *files, broken, film, environment=torchcodec
    )

    for number, (path, (duration, source_rate, channels)) in enumerate(zip(files, found, strict=True)):
        by_pyav = load_audio(path)
        samples = np.load(tmp_path / f"{number}.npy")
        assert (source_rate, channels) == (rate[path.name], 1)
        assert duration == pytest.approx(by_pyav.duration, abs=0.05), path.name
        shared = min(len(samples), len(by_pyav.samples))
        assert np.abs(samples[:shared] - by_pyav.samples[:shared]).max() < 1e-4, path.name
    assert "damaged M4A/MP4" in cut
    assert "without a sound track" in soundless


def test_torchcodec_without_ffmpeg_is_no_decoder_and_says_why(tmp_path, torchcodec_without_ffmpeg):
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\x00\x00\x00\x20ftypM4A " + bytes(2000))

    (message,) = client(DECODED_BY_TORCHCODEC, tmp_path, PROJECT, path, environment=torchcodec_without_ffmpeg)

    assert message.startswith(f"{path}: is of a kind that needs PyAV or torchcodec (M4A/MP4): av is not installed")
    assert "torchcodec cannot be loaded (RuntimeError" in message
    assert "pip install av" in message
    assert "\n" not in message


def test_reading_audio_loads_no_torch():
    code = "import sys, modeling_lpmc.audio; print('torch' in sys.modules, 'av' in sys.modules)"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "False False"


SOUNDFILE_BROKEN = """
import sys
sys.path[:0] = sys.argv[1].split(";")
from lpmc_errors import MissingExtraError
from modeling_lpmc.audio import load_audio
try:
    load_audio(sys.argv[2])
except MissingExtraError as error:
    print(error)
"""


def test_soundfile_without_its_c_library_is_one_line(tmp_path):
    path = write(tmp_path / "a.wav", tone(1.0, 16000), 16000)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "soundfile.py").write_text("raise OSError('sndfile library not found\\nusing what?')")

    done = subprocess.run(
        [sys.executable, "-c", SOUNDFILE_BROKEN, f"{broken};{PROJECT}", path], capture_output=True, text=True
    )

    assert done.stdout == (
        "soundfile: cannot be loaded (OSError: sndfile library not found); pip install --force-reinstall soundfile\n"
    ), done.stderr[-2000:]
