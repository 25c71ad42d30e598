"""Is this an audio file, is it whole, and is it what its name says? Answered from the bytes, by decoding all of them.

A header is not enough: a download that broke off still announces its full length, and libsndfile plays what is there
without a word. So every file is decoded to its end, and its own accounts of its length (the sizes of RIFF, AIFF, CAF,
W64 and AU, the frame count of an MP3's Xing header, the last page of an Ogg stream) are held against it. What no format
records cannot be found: a changed byte inside a WAV or inside one MP3 frame is sound like any other.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np
import soundfile

BLOCK_FRAMES = 1 << 16  # decoded at a time, so that an hour of music needs no more memory than a second
UNKNOWN_FRAMES = 1 << 62  # libsndfile announces so many where a FLAC was written to a pipe and never knew its length

# What a file begins with -> what it is, and the endings of names that say so.
_SUFFIXES = {
    "WAV": (".wav", ".wave"),
    "FLAC": (".flac",),
    "Ogg": (".ogg", ".oga", ".opus"),
    "MP3": (".mp3",),
    "AIFF": (".aif", ".aiff", ".aifc"),
    "AU": (".au", ".snd"),
    "CAF": (".caf",),
    "W64": (".w64",),
    "MP4": (".m4a", ".mp4", ".m4b"),
    "AAC": (".aac",),
    "WebM": (".webm", ".mka", ".mkv"),
    "WMA": (".wma", ".asf"),
}
_KIND_OF_SUFFIX = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes}
_OTHER_FILES = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML file"),
    (b"\x89png", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"gif8", "a GIF image"),
    (b"%pdf", "a PDF file"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"mthd", "a MIDI file"),
    (b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` fetches the file)"),
)


@dataclass(frozen=True)
class AudioVerdict:
    """What was found: `problem` rules the file out, `doubt` is worth a look. Frames are samples of one channel."""

    problem: str | None = None
    doubt: str | None = None
    frames: int = 0
    sampling_rate: int = 0
    channels: int = 0


def check_audio(content: bytes, name: str) -> AudioVerdict:
    """Decode an audio file to its end and say whether it is whole and what `name` says it is. Raises nothing."""
    if not content:
        return AudioVerdict("is empty (0 bytes)")
    kind = _kind(content)
    if kind is None:
        other = next((what for start, what in _OTHER_FILES if content[:64].lstrip().lower().startswith(start)), None)
        if other:
            return AudioVerdict(f"is {other}, not audio")
    suffix = PurePath(name).suffix.lower()
    claimed = _KIND_OF_SUFFIX.get(suffix)
    if kind and claimed and kind != claimed:
        return AudioVerdict(f"is named {suffix} but holds {kind}; rename it to {_SUFFIXES[kind][0]}")
    try:
        with _quiet_decoder():
            announced, found = _decode(content)
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        if kind in ("MP4", "AAC", "WebM", "WMA"):
            return AudioVerdict(f"is {kind}, which soundfile cannot read; convert it to FLAC or MP3, e.g. with ffmpeg")
        return AudioVerdict(
            f"cannot be decoded to its end ({_reason(error)}); fetch or convert it anew, e.g. with ffmpeg"
        )
    if found.frames == 0:
        return AudioVerdict("holds no sound")
    problem, doubt = _shortfall(content, kind, announced, found.frames)
    if problem:
        return AudioVerdict(f"is damaged or cut short ({problem}); fetch it anew")
    return replace(found, doubt=f"may be cut short ({doubt})" if doubt else found.doubt)


def _decode(content: bytes) -> tuple[int, AudioVerdict]:
    """The frames that the header announces (0: it does not tell), and what decoding gives."""
    frames = 0
    peak = 0.0
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        announced = file.frames if file.frames < UNKNOWN_FRAMES else 0
        if file.subtype.startswith("MPEG_LAYER"):
            announced = _mp3_announced(content, announced)
        file.seekable = lambda: False  # else soundfile seeks after each read, at which an MP3 loses its bit reservoir
        # Not a read more than announced: behind the last sample of a FLAC a tagger may have put an ID3 tag.
        while len(block := file.read(min(BLOCK_FRAMES, file.frames - frames), dtype="float32")):
            frames += len(block)
            if peak == 0.0:
                peak = float(np.abs(block).max())
        doubt = "holds digital silence from beginning to end" if frames and peak == 0.0 else None
        return announced, AudioVerdict(None, doubt, frames, file.samplerate, file.channels)


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return " ".join(str(text).replace("Error :", "").split()).rstrip(".")


@contextmanager
def _quiet_decoder() -> Iterator[None]:
    """libmpg123 writes its complaints about a broken file to the terminal itself; the verdict says it better."""
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, AttributeError, ValueError):  # no standard error at all
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _kind(content: bytes) -> str | None:
    """The container by its first bytes; None when they are of no container that holds audio."""
    start = content[(id3 := _id3_length(content)) :][:12]  # some taggers put ID3 in front of any format
    if start[:4] in (b"RIFF", b"RIFX", b"RF64") and start[8:12] == b"WAVE":
        return "WAV"
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    for magic, kind in ((b"fLaC", "FLAC"), (b"OggS", "Ogg"), (b".snd", "AU"), (b"caff", "CAF"), (b"riff\x2e", "W64")):
        if start.startswith(magic):
            return kind
    if start[4:8] == b"ftyp":
        return "MP4"
    if start.startswith(b"\x1a\x45\xdf\xa3"):
        return "WebM"
    if start.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"):
        return "WMA"
    if len(start) > 1 and start[0] == 0xFF and start[1] & 0xF6 == 0xF0:
        return "AAC"
    return "MP3" if id3 or _mp3_frame(start, 0) else None


def _shortfall(content: bytes, kind: str | None, announced: int, frames: int) -> tuple[str | None, str | None]:
    """What the file says of its own length and does not keep: a problem, or a doubt where good files do so too."""
    if frames < announced:
        return f"{frames} of {announced} samples", None
    if kind == "MP3":
        return None, _mp3_shortfall(content)  # all samples came: at most the last frame lost some of its bytes
    if kind == "Ogg":
        return _ogg_shortfall(content)
    there, size = _sound_bytes(content[_id3_length(content) :], kind)
    return (f"{there} of {size} bytes of sound" if there < size else None), None


def _sound_bytes(content: bytes, kind: str | None) -> tuple[int, int]:
    """Bytes of sound that are there and that the header announces, (0, 0) where it does not tell.

    libsndfile cuts the announced size down to what is there, so it is read here.
    """
    if kind == "AU" and len(content) >= 12:
        begin, size = struct.unpack_from(">II", content, 4)
        return (0, 0) if size == 0xFFFFFFFF else (len(content) - begin, size)
    # begin of the chunks, head of each chunk, its name, what its size is a multiple of, whether it counts the head
    layouts = {
        b"RIFF": (12, "<4sI", b"data", 2, False),
        b"RF64": (12, "<4sI", b"data", 2, False),
        b"RIFX": (12, ">4sI", b"data", 2, False),
        b"FORM": (12, ">4sI", b"SSND", 2, False),
        b"caff": (8, ">4sq", b"data", 1, False),
        b"riff": (40, "<4s12xQ", b"data", 8, True),  # W64: names of 16 bytes
    }
    if content[:4] not in layouts:
        return 0, 0
    place, head, sound, multiple, counts_head = layouts[content[:4]]
    length = struct.calcsize(head)
    real_size = 0  # of the sound in RF64, whose chunk sizes are too small for it
    while place + length <= len(content):
        name, size = struct.unpack_from(head, content, place)
        place += length
        size -= length if counts_head else 0
        if name == b"ds64" and place + 16 <= len(content):
            real_size = struct.unpack_from("<Q", content, place + 8)[0]
        if name == sound:
            streamed = size <= 0 or (head.endswith("I") and size >= 0x7FFFF000)  # written to a pipe: it never knew
            return (0, 0) if streamed and not real_size else (len(content) - place, real_size or size)
        if size < 0:
            break
        place += -(-size // multiple) * multiple
    return 0, 0


# ---- MP3 ------------------------------------------------------------------------------------------------------------

_BITRATES = {  # kbit/s by (MPEG 1?, layer III), ISO 11172-3 and 13818-3
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # Hz by version bits


def _id3_length(content: bytes) -> int:
    """Bytes of the ID3v2 tag in front, 0 without one."""
    if content[:3] != b"ID3" or len(content) < 10:
        return 0
    size = 0
    for byte in content[6:10]:
        size = size << 7 | byte & 0x7F
    return size + (20 if content[5] & 0x10 else 10)


def _mp3_frame(content: bytes, place: int) -> int:
    """Bytes of the layer III frame that begins at `place`, 0 where none does (or its bitrate is free)."""
    head = content[place : place + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or rate == 3 or bitrate in (0, 15):
        return 0
    bits = _BITRATES[version == 3][bitrate] * 1000
    return (144 if version == 3 else 72) * bits // _RATES[version][rate] + (head[2] >> 1 & 1)


def _mp3_xing(content: bytes) -> tuple[int | None, int | None]:
    """The numbers of frames and of bytes that the Xing (or Info) header announces, each None where it does not."""
    place = _id3_length(content)
    frame = content[place : place + _mp3_frame(content, place)]
    found = next((at for name in (b"Xing", b"Info") if (at := frame.find(name)) >= 0), -1)
    with suppress(struct.error):
        if found >= 0:
            flags = struct.unpack_from(">I", frame, found + 4)[0]
            numbers = iter(struct.unpack_from(f">{(flags & 1) + (flags >> 1 & 1)}I", frame, found + 8))
            return (next(numbers) if flags & 1 else None), (next(numbers) if flags & 2 else None)
    return None, None


def _mp3_announced(content: bytes, announced: int) -> int:
    """Samples that must come. Without a Xing header `announced` is a guess from the first frame's bitrate, which every
    tag and every other bitrate makes wrong: then the frames are counted, but for two that a decoder may keep.
    """
    if _mp3_xing(content)[0] is not None:
        return announced
    frames, _ = _mp3_walk(content)
    start = content[_id3_length(content) :][:2]
    samples = (
        1152 if len(start) > 1 and start[1] >> 3 & 3 == 3 else 576
    )  # in a frame of layer III, ISO 11172-3, 13818-3
    return min(announced, max(0, frames - 2) * samples)


def _mp3_walk(content: bytes) -> tuple[int, str | None]:
    """How many layer III frames there are, and what is amiss: bytes in between that are no frame, or a broken end."""
    place, frames, amiss = _id3_length(content), 0, None
    if not _mp3_frame(content, place):
        return 0, None
    while place < len(content):
        length = _mp3_frame(content, place)
        if place + length > len(content):
            return frames, amiss or f"its last frame lacks {place + length - len(content)} bytes"
        if length:
            frames += 1
        elif content.startswith(b"ID3", place):  # two files put together
            length = _id3_length(content[place : place + 10])
        elif not content.startswith((b"TAG", b"APETAGEX", b"LYRICS"), place):
            length = _mp3_next(content, place) - place
            amiss = amiss or (f"{length} bytes at byte {place} are no sound" if length > 0 else None)
        if length <= 0:
            break
        place += length
    return frames, amiss


def _mp3_next(content: bytes, place: int) -> int:
    """Where the next two frames that follow each other begin, -1 without any."""
    while (place := content.find(b"\xff", place + 1)) >= 0:
        length = _mp3_frame(content, place)
        if length and _mp3_frame(content, place + length):
            return place
    return -1


def _mp3_shortfall(content: bytes) -> str | None:
    """Bytes that the Xing header announces and the file lacks; without one, what is amiss with its frames."""
    frames, size = _mp3_xing(content)
    if size is not None:
        there = len(content) - _id3_length(content)
        return f"{there} of {size} bytes" if there < size else None
    return None if frames is not None else _mp3_walk(content)[1]


# ---- Ogg ------------------------------------------------------------------------------------------------------------

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_END_OF_STREAM = 4  # flag of a page


def _ogg_checksum(page: bytes) -> int:
    """The checksum of an Ogg page (RFC 3533): zlib's CRC-32 with every bit mirrored, begun and ended at zero."""
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_REVERSED), "big")


def _ogg_shortfall(content: bytes) -> tuple[str | None, str | None]:
    """The first page that is damaged or cut; as a doubt, that the end is not marked, as in recorded streams."""
    place, number = _id3_length(content), 0
    last_flags = 0
    while content[place : place + 4] == b"OggS" and place + 27 <= len(content):
        segments = content[place + 26]
        length = 27 + segments + sum(content[place + 27 : place + 27 + segments])
        page = content[place : place + length]
        if len(page) < length:
            return f"page {number} lacks {length - len(page)} bytes", None
        if _ogg_checksum(page[:22] + bytes(4) + page[26:]) != int.from_bytes(page[22:26], "little"):
            return f"page {number} is damaged", None
        last_flags = page[5]
        place += length
        number += 1
    # Only a page that lost its beginning, or a stream that has not ended: behind the end there may be a tag.
    if any(content[place:]) and not (last_flags & _END_OF_STREAM and b"OggS" not in content[place:]):
        return f"behind page {number - 1} there is no page", None
    return None, None if last_flags & _END_OF_STREAM else "the stream has no marked end"
