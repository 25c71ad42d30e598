"""Audio files in, float32 mono at the model's rate out; and one clear line for every file that is of no use.

libsndfile decodes (WAV, FLAC, MP3, Ogg Vorbis, Opus, AIFF, ...), libsoxr resamples. Both work block by block, so the
memory used beyond the result does not grow with the file. What libsndfile cannot read (M4A, AAC, WebM, WMA) goes
through PyAV where it is installed. No torch here: the data-set rooms may import this file.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr

from lpmc_errors import AudioError

SAMPLING_RATE = 16_000  # Hz; what the model hears (paper 5.1)
MIN_SECONDS = (
    0.5  # a 0.24 s tail made a captioner invent vocals (SonicVerse issue 2); the extractor drops such tails too
)
SILENCE_DBFS = -80.0  # peak; 16-bit silence with TPDF dither reaches -84 dBFS, music never stays this low
RESAMPLER_QUALITY = "HQ"  # soxr; 100 dB of rejection, twice as fast as VHQ
BLOCK_VALUES = 131_072  # samples times channels read at once; 1.5 s of 44.1 kHz stereo

_MIN_RATE, _MAX_RATE = 1_000, 768_000  # Hz; outside of these the header is damaged
_MAX_SAMPLE = 2.0**31  # floats that hold 32-bit integers; anything larger is a damaged file
_UNKNOWN_LENGTH = 0x7FFF_F000  # bytes; programs that write to a pipe put this or more (sox, ffmpeg) into a WAV header
_MP3_TAIL_BYTES = 65_536  # tags after the sound; more unread bytes than this are sound that the header hides
_LENGTHS = re.compile(r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_INSTALL_PYAV = "pip install av, or convert it to WAV, FLAC or MP3 first"

_READ_BY_LIBSNDFILE = {
    *(".wav", ".wave", ".rf64", ".w64", ".flac", ".mp3", ".ogg", ".oga", ".opus"),
    *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
}
_READ_BY_PYAV = {".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma"}
AUDIO_SUFFIXES = frozenset(_READ_BY_LIBSNDFILE | _READ_BY_PYAV)
"""File name endings that are taken for audio when a folder is searched (lower case)."""


@dataclass(frozen=True, eq=False)
class AudioClip:
    """Decoded audio: `samples` (n,) float32 mono in [-1, 1] at `sampling_rate` Hz, and what the file was before.

    `duration` is that of the original in seconds, counted in its own frames at `source_sampling_rate`.
    """

    samples: np.ndarray
    sampling_rate: int
    duration: float
    source_sampling_rate: int
    channels: int


@dataclass(frozen=True)
class _Source:
    """An open file: its rate, its channels, the frames its header promises (None: unknown), and its sound."""

    sampling_rate: int
    channels: int
    promised_frames: int | None
    blocks: Iterator[np.ndarray]  # (frames, channels) float32


def load_audio(
    path: str | os.PathLike[str], sampling_rate: int = SAMPLING_RATE, *, max_seconds: float | None = None
) -> AudioClip:
    """Decode an audio file to float32 mono at `sampling_rate` Hz.

    Channels are averaged. A float file that exceeds [-1, 1], and the overshoot of a lossy decoder or of the
    resampler, is scaled down as a whole rather than clipped. Silence is loaded like anything else
    (see `check_has_sound`).

    Raises `AudioError` in one line for a file that is missing, empty, a folder, forbidden, not audio, shorter than
    `MIN_SECONDS`, longer than `max_seconds`, damaged (NaN, infinity), or cut short: when more than `MIN_SECONDS` of
    what the header promises is missing, the file is refused, since a caption of the rest would pass for one of the
    whole. An Ogg file declares no length, so a cut one is only shorter.
    """
    path = Path(path)
    try:
        with _opened(path) as source:
            return _decode(path, source, sampling_rate, max_seconds)
    except _HiddenSoundError:
        with _opened(path, hidden_sound=True) as source:
            return _decode(path, source, sampling_rate, max_seconds)


def has_sound(samples: np.ndarray) -> bool:
    """Whether the peak of `samples` (n,) in [-1, 1] lies above `SILENCE_DBFS`."""
    return _peak(samples) > 10 ** (SILENCE_DBFS / 20)


def check_has_sound(clip: AudioClip, item: object) -> None:
    """Raise `AudioError` naming `item` when the whole clip is silent: a captioner would invent music."""
    if not has_sound(clip.samples):
        raise AudioError(
            item,
            f"silence: nothing to caption (its peak lies below {SILENCE_DBFS:.0f} dBFS)",
            "choose a file with sound",
        )


def _peak(samples: np.ndarray) -> float:
    return float(max(samples.max(), -samples.min())) if len(samples) else 0.0  # no copy, unlike abs()


def _decode(path: Path, source: _Source, sampling_rate: int, max_seconds: float | None) -> AudioClip:
    rate = source.sampling_rate
    if not _MIN_RATE <= rate <= _MAX_RATE:
        raise AudioError(path, f"claims a sampling rate of {rate} Hz", "export the file again")
    if max_seconds is not None and (source.promised_frames or 0) > max_seconds * rate:
        raise _too_long(path, max_seconds)
    samples, frames = _mono(path, source, sampling_rate, max_seconds)
    promised = source.promised_frames or 0
    if promised - frames > MIN_SECONDS * rate:
        raise AudioError(
            path,
            f"is cut short: its header promises {promised / rate:.1f} s, {frames / rate:.1f} s could be read",
            "copy or download it again",
        )
    if frames < MIN_SECONDS * rate:
        raise AudioError(path, f"lasts {frames / rate:.2f} s", f"a caption needs at least {MIN_SECONDS} s of sound")
    peak = _peak(samples)
    if peak > 1.0:
        samples /= np.float32(peak)
        np.clip(samples, -1.0, 1.0, out=samples)  # the division may leave the peak one rounding step above 1
    return AudioClip(samples, sampling_rate, frames / rate, rate, source.channels)


def _mono(path: Path, source: _Source, sampling_rate: int, max_seconds: float | None) -> tuple[np.ndarray, int]:
    """The samples (n,) at `sampling_rate` and the number of frames read from the source."""
    resampler = None
    if source.sampling_rate != sampling_rate:
        resampler = soxr.ResampleStream(source.sampling_rate, sampling_rate, 1, "float32", RESAMPLER_QUALITY)
    chunks: list[np.ndarray] = []
    frames = 0
    for block in source.blocks:
        frames += len(block)
        if max_seconds is not None and frames > max_seconds * source.sampling_rate:
            raise _too_long(path, max_seconds)
        sane = (np.abs(block) <= _MAX_SAMPLE).all(axis=1)  # False for NaN as well
        if not sane.all():
            second = (frames - len(block) + int(sane.argmin())) / source.sampling_rate
            raise AudioError(
                path, f"holds samples that are no sound (NaN, infinity) at {second:.2f} s", "export the file again"
            )
        mono = block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]
        chunks.append(resampler.resample_chunk(mono) if resampler else mono)
    if not frames:
        raise AudioError(path, "holds no sound", "choose another file")
    if resampler:
        chunks.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(chunks), frames


def _too_long(path: Path, max_seconds: float) -> AudioError:
    return AudioError(path, f"is longer than {max_seconds:g} s", "cut it into shorter pieces")


class _HiddenSoundError(Exception):
    """libsndfile believed an MP3's header and stopped before the end of its sound."""


@contextmanager
def _opened(path: Path, *, hidden_sound: bool = False) -> Iterator[_Source]:
    """Open `path` with the decoder that can read it. Raises `AudioError`."""
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):
            kind = "is a folder" if S_ISDIR(status.st_mode) else "is not a regular file"
            raise AudioError(path, f"{kind}, expected an audio file", "name a file")
        if not status.st_size:
            raise AudioError(path, "is empty (0 bytes)", "copy or download it again")
        file = path.open("rb")
    except FileNotFoundError as error:
        raise AudioError(path, "no such file", "check the path") from error
    except PermissionError as error:
        raise AudioError(path, "no permission to read it", "change its permissions") from error
    except (OSError, ValueError) as error:  # a name that is too long, a link to itself, a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(path, f"cannot be opened ({reason})", "check the path") from error
    with file, ExitStack() as stack:
        container = "MP3 whose header hides part of its sound" if hidden_sound else _foreign_container(file.read(16))
        if container is None:
            yield _open_soundfile(path, file, stack)
        elif importlib.util.find_spec("av") is None:
            raise AudioError(path, f"is of a kind that needs PyAV ({container})", _INSTALL_PYAV)
        else:
            yield _open_av(path, container, stack)


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


def _open_soundfile(path: Path, file: BinaryIO, stack: ExitStack) -> _Source:
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    try:
        # By descriptor, so that a name such as x.raw cannot choose the format.
        sound = stack.enter_context(soundfile.SoundFile(file.fileno(), closefd=False))
    except soundfile.SoundFileError as error:
        raise AudioError(
            path, "is not an audio file that can be read", "expected WAV, FLAC, MP3, Ogg, Opus or AIFF"
        ) from error
    promised: int | None = max(sound.frames, _declared_frames(sound))
    if sound.format == "MP3" and not _mp3_declares_length(path):
        promised = None  # libsndfile's estimate from the bit rate of the first frame
    return _Source(sound.samplerate, sound.channels, promised, _soundfile_blocks(path, file.fileno(), sound))


def _soundfile_blocks(path: Path, descriptor: int, sound: Any) -> Iterator[np.ndarray]:
    sound.seekable = lambda: False  # else soundfile seeks after each read, at which an MP3 loses its bit reservoir
    done = 0
    while True:
        try:
            block = sound.read(max(1, BLOCK_VALUES // sound.channels), dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            rate = sound.samplerate
            raise AudioError(
                path,
                f"is damaged or cut short: {done / rate:.1f} s of {sound.frames / rate:.1f} s could be read",
                "copy or download it again",
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
            raise _HiddenSoundError


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


def _open_av(path: Path, kind: str, stack: ExitStack) -> _Source:
    import av

    av.logging.set_level(av.logging.PANIC)  # FFmpeg writes to stderr; the AudioError below says it once
    try:
        container = stack.enter_context(av.open(str(path)))
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(path, f"is a damaged {kind} file", "copy or download it again") from error
    if not container.streams.audio:
        raise AudioError(path, f"is a {kind} file without a sound track", "choose another file")
    stream = container.streams.audio[0]
    rate, channels = stream.rate, stream.channels
    promised = None
    if kind == "M4A/MP4" and stream.duration and stream.time_base:  # the other containers only estimate
        promised = int(stream.duration * stream.time_base * rate)
    return _Source(rate, channels, promised, _av_blocks(path, kind, container, stream))


def _av_blocks(path: Path, kind: str, container: Any, stream: Any) -> Iterator[np.ndarray]:
    import av

    planar = av.AudioResampler(format="fltp")  # sample format only; the rate stays the file's own
    try:
        for frame in container.decode(stream):
            for part in planar.resample(frame):
                yield np.ascontiguousarray(part.to_ndarray().T)
        for part in planar.resample(None):
            yield np.ascontiguousarray(part.to_ndarray().T)
    except av.FFmpegError as error:
        raise AudioError(path, f"is a damaged {kind} file", "copy or download it again") from error
