# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""Audio files decoded block by block, with one clear line for every file that is of no use.

libsndfile decodes WAV, FLAC, MP3, Ogg Vorbis, Opus, AIFF and more; PyAV, or torchcodec where PyAV is not there, what it
cannot read (M4A, AAC, WebM, WMA). Each of the three is imported when a file first needs it.

This file travels to the Hub as remote code and imports numpy alone, so that the data-set rooms may use it as well.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, BinaryIO

import numpy as np

BLOCK_VALUES = 131_072  # samples times channels read at once; 1.5 s of 44.1 kHz stereo

_UNKNOWN_LENGTH = 0x7FFF_F000  # bytes; programs that write to a pipe put this or more (sox, ffmpeg) into a WAV header
_MP3_TAIL_BYTES = 65_536  # tags after the sound; more unread bytes than this are sound that the header hides
_LENGTHS = re.compile(r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_TOLD_DURATION = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_COPY_AGAIN = "copy or download it again"

# torchcodec decodes from the start again when it is asked for a second that lies within the frame it decoded last.
_ALIGNED_CODECS = ("aac", "alac")  # their frames begin at multiples of this many samples ...
_ALIGNED_SAMPLES = 4096 * 108  # ... so that blocks of ten seconds (at 44.1 kHz) are read in one go
_UNALIGNED_SECONDS = 600.0  # for other codecs: few restarts, and 230 MB of 48 kHz stereo at a time


class UnreadableAudioError(ValueError):
    """Audio that is of no use: `item: problem; remedy`, in one line."""

    def __init__(self, item: object, problem: str = "", remedy: str = "") -> None:
        self.item, self.problem, self.remedy = str(item), problem, remedy
        super().__init__(": ".join(filter(None, [self.item, problem])) + (f"; {remedy}" if remedy else ""))


class MissingDecoderError(UnreadableAudioError, ImportError):
    """A file of a kind that no decoder installed here reads."""


class BrokenLibraryError(ImportError):
    """soundfile or soxr, which all files need, is missing or cannot be loaded: `library: problem; remedy`."""

    def __init__(self, library: str, problem: str = "", remedy: str = "") -> None:
        self.library, self.problem, self.remedy = library, problem, remedy
        super().__init__(": ".join(filter(None, [library, problem])) + (f"; {remedy}" if remedy else ""))


class HiddenSoundError(Exception):
    """libsndfile believed an MP3's header and stopped before the end of its sound; open it with `hidden_sound`."""


@dataclass(frozen=True)
class AudioSource:
    """Open audio: its rate in Hz, its channels, the frames its header promises (None: unknown), and its sound."""

    sampling_rate: int
    channels: int
    promised_frames: int | None
    blocks: Iterator[np.ndarray]  # (frames, channels) float32


def needed_library(name: str, remedy: str) -> Any:
    """The module `name`. Raises `BrokenLibraryError` in one line when it is missing or fails to load."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # soundfile without its C library: OSError; other damage fails in its own ways
        raise BrokenLibraryError(name, _why(name, error), remedy) from error


@contextmanager
def open_audio(path: str | os.PathLike[str], *, hidden_sound: bool = False) -> Iterator[AudioSource]:
    """Open an audio file with the decoder that can read it.

    Raises `UnreadableAudioError` for a file that is missing, empty, a folder, forbidden, damaged or not audio,
    `MissingDecoderError` or `BrokenLibraryError` if a library is lacking, and while its blocks are read
    `HiddenSoundError` for an MP3 that has to be opened again with `hidden_sound`.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):
            kind = "is a folder" if S_ISDIR(status.st_mode) else "is not a regular file"
            raise UnreadableAudioError(path, f"{kind}, expected an audio file", "name a file")
        if not status.st_size:
            raise UnreadableAudioError(path, "is empty (0 bytes)", _COPY_AGAIN)
        file = path.open("rb")
    except FileNotFoundError as error:
        raise UnreadableAudioError(path, "no such file", "check the path") from error
    except PermissionError as error:
        raise UnreadableAudioError(path, "no permission to read it", "change its permissions") from error
    except UnreadableAudioError:
        raise
    except (OSError, ValueError) as error:  # a name that is too long, a link to itself, a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UnreadableAudioError(path, f"cannot be opened ({reason})", "check the path") from error
    with file, ExitStack() as stack:
        foreign = "MP3 whose header hides part of its sound" if hidden_sound else _foreign_container(file.read(16))
        yield _open_soundfile(path, file, stack) if foreign is None else _open_foreign(path, foreign, stack)


def _foreign_container(head: bytes) -> str | None:
    """Name of the container that begins with `head` if FFmpeg can read it and libsndfile cannot, else None."""
    if head[4:8] == b"ftyp":
        return "M4A/MP4"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "WebM/Matroska"
    if head.startswith(b"0&\xb2u\x8ef\xcf\x11"):
        return "WMA"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:  # ADTS: sync word, layer 0
        return "AAC"
    return None


def _open_soundfile(path: Path, file: BinaryIO, stack: ExitStack) -> AudioSource:
    soundfile = needed_library("soundfile", "pip install --force-reinstall soundfile")
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    try:
        # By descriptor, so that a name such as x.raw cannot choose the format.
        sound = stack.enter_context(soundfile.SoundFile(file.fileno(), closefd=False))
    except soundfile.SoundFileError as error:
        raise UnreadableAudioError(
            path, "is not an audio file that can be read", "expected WAV, FLAC, MP3, Ogg, Opus or AIFF"
        ) from error
    promised: int | None = max(sound.frames, _declared_frames(sound))
    if sound.format == "MP3" and not _mp3_declares_length(path):
        promised = None  # libsndfile's estimate from the bit rate of the first frame
    blocks = _soundfile_blocks(path, file.fileno(), sound, soundfile.SoundFileError)
    return AudioSource(sound.samplerate, sound.channels, promised, blocks)


def _soundfile_blocks(path: Path, descriptor: int, sound: Any, fault: type[Exception]) -> Iterator[np.ndarray]:
    sound.seekable = lambda: False  # else soundfile seeks after each read, at which an MP3 loses its bit reservoir
    done = 0
    while True:
        try:
            block = sound.read(max(1, BLOCK_VALUES // sound.channels), dtype="float32", always_2d=True)
        except fault as error:
            rate = sound.samplerate
            raise UnreadableAudioError(
                path,
                f"is damaged or cut short: {done / rate:.1f} s of {sound.frames / rate:.1f} s could be read",
                _COPY_AGAIN,
            ) from error
        if not len(block):
            break
        done += len(block)
        yield block
    if sound.format == "MP3":
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        unread = path.stat().st_size - position
        # Two MP3s in one file, or a variable bit rate without a header: libsndfile stops where it guessed the end.
        if unread > _MP3_TAIL_BYTES and b"APETAGEX" not in os.read(descriptor, 4096):
            raise HiddenSoundError


def _declared_frames(sound: Any) -> int:
    """Frames that a WAV, AIFF or AU header declares where the file holds fewer, else 0.

    libsndfile quietly corrects such a header; its log keeps what it said.
    """
    found = _LENGTHS.search(sound.extra_info)
    if found is None:
        return 0
    declared, held = int(found[1]), int(found[2])
    if held <= 0 or not held < declared < _UNKNOWN_LENGTH:
        return 0
    return int(sound.frames * declared / held)


def _mp3_declares_length(path: Path) -> bool:
    """Whether the first frame of an MP3 carries a Xing, Info or VBRI header, which counts the frames."""
    with path.open("rb") as file:
        head = file.read(10)
        if head.startswith(b"ID3"):  # its size: four bytes of seven bits
            size = 0
            for byte in head[6:10]:
                size = size << 7 | byte & 0x7F
            file.seek(10 + size)
        else:
            file.seek(0)
        frame = file.read(4096)
    return any(tag in frame for tag in (b"Xing", b"Info", b"VBRI"))


def _open_foreign(path: Path, kind: str, stack: ExitStack) -> AudioSource:
    """PyAV if it loads, else torchcodec: PyAV decodes every codec in one go, torchcodec only some (see above)."""
    reasons = []
    for name, opened in (("av", _open_av), ("torchcodec.decoders", _open_torchcodec)):
        try:
            module = importlib.import_module(name)
        except Exception as error:  # torchcodec without FFmpeg: RuntimeError; each damage fails in its own way
            package = name.partition(".")[0]
            reasons.append(f"{package} {_why(package, error)}")
        else:
            return opened(path, kind, module, stack)
    raise MissingDecoderError(
        path,
        f"is of a kind that needs PyAV or torchcodec ({kind}): {', '.join(reasons)}",
        "pip install av, or convert it to WAV, FLAC or MP3 first",
    )


def _why(package: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in (package, f"{package}.decoders"):
        return "is not installed"
    lines = str(error).strip().splitlines()
    return f"cannot be loaded ({type(error).__name__}{': ' + lines[0] if lines else ''})"


def _open_av(path: Path, kind: str, av: Any, stack: ExitStack) -> AudioSource:
    av.logging.set_level(av.logging.PANIC)  # FFmpeg writes to stderr; the error below says it once
    try:
        container = stack.enter_context(av.open(str(path)))
    except (av.FFmpegError, ValueError) as error:
        raise _damaged(path, kind) from error
    if not container.streams.audio:
        raise _soundless(path, kind)
    stream = container.streams.audio[0]
    rate, channels = stream.rate, stream.channels
    promised = None
    if kind == "M4A/MP4" and stream.duration and stream.time_base:  # the other containers only estimate
        promised = int(stream.duration * stream.time_base * rate)
    elif told := _TOLD_DURATION.fullmatch(stream.metadata.get("DURATION", "")):  # Matroska, when it was closed
        promised = int((3600 * int(told[1]) + 60 * int(told[2]) + float(told[3])) * rate)
    return AudioSource(rate, channels, promised, _av_blocks(path, kind, av, container, stream))


def _av_blocks(path: Path, kind: str, av: Any, container: Any, stream: Any) -> Iterator[np.ndarray]:
    planar = av.AudioResampler(format="fltp")  # sample format only; the rate stays the file's own
    try:
        for frame in container.decode(stream):
            for part in planar.resample(frame):
                yield np.ascontiguousarray(part.to_ndarray().T)
        for part in planar.resample(None):
            yield np.ascontiguousarray(part.to_ndarray().T)
    except av.FFmpegError as error:
        raise _damaged(path, kind) from error


def _open_torchcodec(path: Path, kind: str, decoders: Any, stack: ExitStack) -> AudioSource:
    try:
        decoder = decoders.AudioDecoder(str(path))
    except (RuntimeError, ValueError) as error:
        if "audio stream is unknown" in str(error):
            raise UnreadableAudioError(
                path, f"is a {kind} file without a sound track", "choose another file"
            ) from error
        raise _damaged(path, kind) from error
    told = decoder.metadata
    promised = None
    if kind == "M4A/MP4" and told.duration_seconds_from_header:
        promised = int(told.duration_seconds_from_header * told.sample_rate)
    return AudioSource(told.sample_rate, told.num_channels, promised, _torchcodec_blocks(path, kind, decoder))


def _torchcodec_blocks(path: Path, kind: str, decoder: Any) -> Iterator[np.ndarray]:
    told = decoder.metadata
    rate = told.sample_rate
    step = _ALIGNED_SAMPLES if told.codec in _ALIGNED_CODECS else round(_UNALIGNED_SECONDS * rate)
    margin = 1e-6  # s; less than a sample, more than the rounding of times in the decoder
    position = 0
    while True:
        try:
            samples = decoder.get_samples_played_in_range(position / rate + margin, (position + step) / rate - margin)
        except (RuntimeError, ValueError) as error:
            if position and "No audio frames were decoded" in str(error):
                return  # the last block ended with the file
            raise _damaged(path, kind) from error
        block = samples.data.numpy()  # (channels, frames)
        for first in range(0, block.shape[1], BLOCK_VALUES):
            yield np.ascontiguousarray(block[:, first : first + BLOCK_VALUES].T)
        if block.shape[1] < step - rate // 10:  # 0.1 s: blocks of codecs with other frames lack some samples
            return
        position += step


def _soundless(path: Path, kind: str) -> UnreadableAudioError:
    return UnreadableAudioError(path, f"is a {kind} file without a sound track", "choose another file")


def _damaged(path: Path, kind: str) -> UnreadableAudioError:
    return UnreadableAudioError(path, f"is a damaged {kind} file", _COPY_AGAIN)


__all__ = [
    "AudioSource",
    "BrokenLibraryError",
    "HiddenSoundError",
    "MissingDecoderError",
    "UnreadableAudioError",
    "needed_library",
    "open_audio",
]
