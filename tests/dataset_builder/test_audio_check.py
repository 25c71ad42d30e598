"""Files that are not audio, not whole or not what they are called, made from real ones by breaking them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from dataset_builder.audio_check import _mp3_frame, check_audio

RATE = 22_050
KINDS = {
    "wav": ("WAV", None),
    "flac": ("FLAC", None),
    "mp3": ("MP3", None),
    "ogg": ("OGG", "VORBIS"),
    "aiff": ("AIFF", None),
}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    time = np.arange(4 * RATE) / RATE
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(time))
    wave = (0.3 * np.sin(2 * np.pi * 440 * time) + noise).astype(np.float32)
    made = {}
    for suffix, (format_name, subtype) in KINDS.items():
        buffer = io.BytesIO()
        soundfile.write(buffer, wave, RATE, format=format_name, subtype=subtype)
        made[suffix] = buffer.getvalue()
    return made


@pytest.mark.parametrize("suffix", KINDS)
def test_a_whole_file_passes_with_its_length(files, suffix):
    verdict = check_audio(files[suffix], f"clip.{suffix}")

    assert (verdict.problem, verdict.doubt) == (None, None)
    assert (verdict.frames, verdict.sampling_rate, verdict.channels) == (4 * RATE, RATE, 1)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize("kept", [0.95, 0.5, 0.1])
def test_a_download_that_broke_off_is_noticed_in_every_format(files, suffix, kept):
    content = files[suffix]

    verdict = check_audio(content[: int(kept * len(content))], f"clip.{suffix}")

    assert verdict.problem is not None
    assert "cut short" in verdict.problem or "cannot be decoded to its end" in verdict.problem


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg"])
def test_bytes_that_were_overwritten_in_the_middle_are_noticed_where_the_format_can_tell(files, suffix):
    content = files[suffix]
    middle = len(content) // 2

    verdict = check_audio(content[:middle] + bytes(3_000) + content[middle + 3_000 :], f"clip.{suffix}")

    assert verdict.problem is not None


def test_a_single_changed_bit_is_found_by_the_checksums_of_flac_and_ogg(files):
    for suffix in ("flac", "ogg"):
        content = bytearray(files[suffix])
        content[len(content) // 2] ^= 1
        assert check_audio(bytes(content), f"clip.{suffix}").problem, suffix


@pytest.mark.parametrize(
    ("suffix", "name", "problem"),
    [
        ("wav", "clip.mp3", "is named .mp3 but holds WAV; rename it to .wav"),
        ("mp3", "clip.WAV", "is named .wav but holds MP3; rename it to .mp3"),
        ("flac", "clip.ogg", "is named .ogg but holds FLAC; rename it to .flac"),
    ],
)
def test_a_mislabelled_file_is_told_what_it_is(files, suffix, name, problem):
    assert check_audio(files[suffix], name).problem == problem


def test_endings_that_mean_the_same_or_nothing_are_no_mislabelling(files):
    assert check_audio(files["ogg"], "clip.oga").problem is None
    assert check_audio(files["wav"], "clip.wave").problem is None
    assert check_audio(files["mp3"], "clip").problem is None
    assert check_audio(files["mp3"], "clip.clip").problem is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty (0 bytes)"),
        (b"<!DOCTYPE html><html>Video unavailable</html>", "is an HTML page, not audio"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a PNG image, not audio"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"RIFF", "cannot be decoded"),
        (bytes(5_000), "cannot be decoded"),
        (b"a text about music, " * 40, "cannot be decoded"),
        (b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00" + bytes(300), "is named .mp3 but holds MP4"),
    ],
)
def test_what_is_no_audio_is_called_by_its_name(content, expected):
    assert expected in (check_audio(content, "clip.mp3").problem or "")


def test_m4a_is_named_with_the_way_out():
    content = b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00" + bytes(300)

    assert check_audio(content, "clip.m4a").problem == (
        "is MP4, which soundfile cannot read; convert it to FLAC or MP3, e.g. with ffmpeg"
    )


def test_a_header_without_sound_and_silence_are_told_apart(tmp_path):
    def wav(samples: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, RATE, format="WAV")
        return buffer.getvalue()

    assert check_audio(wav(np.zeros(0, np.float32)), "clip.wav").problem == "holds no sound"
    silent = check_audio(wav(np.zeros(500, np.float32)), "clip.wav")
    assert (silent.problem, silent.doubt) == (None, "holds digital silence from beginning to end")


def test_an_mp3_with_a_tag_in_front_and_behind_is_whole(files):
    tag = b"ID3\x03\x00\x00" + bytes([0, 0, 2, 0]) + bytes(256)

    verdict = check_audio(tag + files["mp3"] + b"TAG" + bytes(125), "clip.mp3")

    assert (verdict.problem, verdict.doubt) == (None, None)


def test_an_mp3_that_does_not_say_how_long_it_is_is_only_doubted(files):
    content = files["mp3"]
    start = content.find(b"Xing") if b"Xing" in content else content.find(b"Info")
    bare = content[:start] + b"None" + content[start + 4 :]  # the frame count is no longer recognised
    whole = check_audio(bare, "clip.mp3")
    cut = check_audio(bare[: len(bare) * 2 // 3], "clip.mp3")

    assert (whole.problem, whole.doubt) == (None, None)
    assert cut.problem is None
    assert cut.doubt is not None
    assert cut.doubt.startswith("may be cut short (its last frame lacks")


def test_an_mp3_without_a_frame_count_is_whole_whatever_its_tags_and_layer(files):
    """The length that the decoder guesses then counts the tag as sound."""
    content = files["mp3"]
    first = _mp3_frame(content, 0)
    bare = content[first:]  # the first frame holds nothing but the Xing header

    for behind in (b"", b"TAG" + bytes(125), b"APETAGEX" + bytes(20_000)):
        verdict = check_audio(bare + behind, "clip.mp3")
        assert (verdict.problem, verdict.doubt) == (None, None), behind[:8]


def test_an_mp3_without_a_frame_count_is_doubted_where_bytes_in_the_middle_are_no_sound(files):
    content = files["mp3"]
    bare = content[_mp3_frame(content, 0) :]
    middle = len(bare) // 2

    verdict = check_audio(bare[:middle] + bytes(200) + bare[middle + 200 :], "clip.mp3")

    assert verdict.problem or "are no sound" in (verdict.doubt or "")


def other_container(format_name: str, **options) -> bytes:
    noise = (0.1 * np.random.default_rng(1).standard_normal(RATE)).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, noise, RATE, format=format_name, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip.aiff", {"format_name": "AIFF", "subtype": "PCM_24"}),
        ("clip.aifc", {"format_name": "AIFF", "subtype": "ULAW"}),
        ("clip.w64", {"format_name": "W64"}),
        ("clip.wav", {"format_name": "RF64"}),
        ("clip.wav", {"format_name": "WAV", "endian": "BIG"}),
        ("clip.wav", {"format_name": "WAVEX", "subtype": "PCM_24"}),
        ("clip.au", {"format_name": "AU"}),
        ("clip.caf", {"format_name": "CAF"}),
    ],
)
def test_the_rarer_containers_are_whole_or_noticed_to_be_cut(name, options):
    content = other_container(**options)

    assert (check_audio(content, name).problem, check_audio(content, name).doubt) == (None, None)
    for kept in (0.97, 0.5):
        assert check_audio(content[: int(kept * len(content))], name).problem, kept


def test_tags_in_front_of_any_format_and_behind_flac_and_ogg_are_no_damage(files):
    front, behind = b"ID3\x03\x00\x00" + bytes([0, 0, 0, 10]) + bytes(10), b"TAG" + bytes(125)

    for name, content in (
        ("clip.wav", front + files["wav"]),
        ("clip.flac", front + files["flac"]),
        ("clip.flac", files["flac"] + behind),
        ("clip.ogg", files["ogg"] + behind),
    ):
        verdict = check_audio(content, name)
        assert (verdict.problem, verdict.doubt) == (None, None), (name, content[:4])
    assert "page" in (check_audio(files["ogg"][:-200] + behind, "clip.ogg").problem or "")


def test_a_flac_from_a_pipe_never_knew_its_length_and_is_whole(files):
    content = bytearray(files["flac"])
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count samples
    content[22:26] = bytes(4)

    verdict = check_audio(bytes(content), "clip.flac")

    assert (verdict.problem, verdict.doubt, verdict.frames) == (None, None, 4 * RATE)


def test_a_wav_from_a_pipe_never_knew_its_size_and_is_whole(files):
    content = bytearray(files["wav"])
    place = content.find(b"data") + 4
    content[place : place + 4] = b"\xff\xff\xff\xff"

    assert check_audio(bytes(content), "clip.wav").problem is None


def test_a_recorded_stream_without_a_marked_end_is_only_doubted(files):
    content = files["ogg"]
    last = content.rfind(b"OggS")

    verdict = check_audio(content[:last], "clip.ogg")

    assert verdict.problem is None
    assert verdict.doubt == "may be cut short (the stream has no marked end)"


def test_the_decoders_own_complaints_do_not_reach_the_terminal(files, capfd):
    content = files["mp3"]
    middle = len(content) // 2

    check_audio(content[:middle] + bytes(3_000) + content[middle + 3_000 :], "clip.mp3")

    assert capfd.readouterr().err == ""


def test_real_recordings_are_whole(recordings):
    for path in recordings:
        verdict = check_audio(path.read_bytes(), path.name)
        assert (verdict.problem, verdict.doubt) == (None, None), path.name
        assert verdict.frames > 10 * verdict.sampling_rate
