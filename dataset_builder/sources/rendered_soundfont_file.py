"""Reads what a SoundFont 2 or 3 file holds: presets, instruments, samples. Nothing in it is believed unchecked.

The samples stay on the disk: SF2 waves are read through a memory map, those of SF3 (Ogg Vorbis) are decoded when a
note first needs them. A file of many gigabytes on paper asks for no memory, as every size is held against the file's.
Section numbers are those of the SoundFont Technical Specification 2.04; SF3 is MuseScore's extension of it.
"""

from __future__ import annotations

import io
import itertools
import mmap
import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lpmc_errors import AudioError

INSTRUMENT, KEY_RANGE, VELOCITY_RANGE, SAMPLE = 41, 43, 44, 53  # generators (section 8.1.2) that say where one belongs

_HEADER_LAYOUT = "<20s5IBb2H"  # of a sample (section 7.10)
_VORBIS, _ROM = 0x10, 0x8000  # flags of a sample's type: compressed (SF3), in the ROM of a sound card
SLOWEST_HZ, FASTEST_HZ = 400, 192_000  # sampling rates that a recorded wave can have (section 7.10 and above)
LONGEST_SAMPLE_S = 120.0  # an SF3 sample that decodes to more is no note of an instrument
MOST_ZONES = 4_096  # of one preset; the largest here has 300
REMEDY = "name another SoundFont, or fetch this one again"


@dataclass(frozen=True)
class Sample:
    """A recorded wave: where it lies in the file's pool, its loop from its own start, its rate in Hz, its key.

    `offset` and `size` count 16-bit samples, for a compressed wave bytes. `length` counts samples, None until the
    wave was looked at. `correction` is in cents.
    """

    offset: int
    size: int
    length: int | None
    loop_start: int
    loop_end: int
    rate: int
    key: int
    correction: int
    compressed: bool
    name: str = ""


@dataclass(frozen=True)
class Modulator:
    """A source (velocity, key) that moves a generator (section 8.2): `amount` where the source is at its end."""

    source: int
    destination: int
    amount: int
    amount_source: int


@dataclass(frozen=True)
class Bag:
    """The generators and modulators of one zone of a preset or an instrument."""

    generators: dict[int, int]
    modulators: tuple[Modulator, ...]


class Waves:
    """A cache of waves that is bounded in bytes: the one that was used longest ago goes first."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._kept: OrderedDict[object, NDArray[np.float32]] = OrderedDict()

    def get(self, key: object, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """The wave under `key`, made where it is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        wave = make()
        self._kept[key] = wave
        self.bytes += wave.nbytes
        while self.bytes > self.most_bytes and len(self._kept) > 1:
            self.bytes -= self._kept.popitem(last=False)[1].nbytes
        return wave


class SoundFontFile:
    """The presets and samples of a SoundFont. Raises `AudioError` in one line where the file is none or is damaged.

    Attributes:
        presets: bank and program -> zones. instruments: zones by number. samples: by number.
        identity: the file's name, its size and a checksum of all but the waves, to tell one release from another.
    """

    def __init__(self, path: Path, decoded: Waves) -> None:
        self.path = path
        self._decoded = decoded
        try:
            with path.open("rb") as file:
                # The map outlives the file handle; an empty file has none.
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            chunks = _chunks(data)
            self._pool = chunks[b"smpl"]
            self.samples = [
                self._sample(row) for row in struct.iter_unpack(_HEADER_LAYOUT, _records(chunks, b"shdr", 46))
            ][:-1]
            self.instruments = _zones(chunks, b"inst", "<20sH", 1, (b"ibag", b"igen", b"imod"))
            headers = list(struct.iter_unpack("<20s3H3I", _records(chunks, b"phdr", 38)))
            bodies = _zones(chunks, b"phdr", "<20s3H3I", 3, (b"pbag", b"pgen", b"pmod"))
        except KeyError as error:
            name = error.args[0].decode("ascii", "replace")
            raise AudioError(path, f"is no whole SoundFont: the part {name!r} is missing", REMEDY) from error
        except (struct.error, ValueError) as error:
            raise AudioError(path, f"cannot be read as a SoundFont 2 or 3 file ({error})", REMEDY) from error
        except OSError as error:
            raise AudioError(path, f"cannot be read ({error.strerror or error})", REMEDY) from error
        self.presets = {(row[2], row[1]): body for row, body in zip(headers[:-1], bodies, strict=True)}
        checksum = 0
        for part in (b"phdr", b"pgen", b"pmod", b"inst", b"igen", b"imod", b"shdr"):
            checksum = zlib.crc32(chunks.get(part, b""), checksum)
        self.identity = f"{path.name} {len(data)} bytes {checksum:08x}"

    def _sample(self, row: tuple[bytes, int, int, int, int, int, int, int, int, int]) -> Sample:
        raw_name, start, end, loop_start, loop_end, rate, key, correction, _, kind = row
        compressed = bool(kind & _VORBIS)
        unit = 1 if compressed else 2
        size = end - start
        if kind & _ROM or not SLOWEST_HZ <= rate <= FASTEST_HZ or size < 0 or end * unit > len(self._pool):
            size = 0  # a wave that is not here; zones that want it are left out
        begin = 0 if compressed else start  # SF3 counts loops from the wave's own start
        return Sample(
            offset=start,
            size=size,
            length=None if compressed else size,
            loop_start=loop_start - begin,
            loop_end=loop_end - begin,
            rate=rate,
            key=key if key < 128 else 60,  # 255: unpitched
            correction=correction,
            compressed=compressed,
            name=raw_name.split(b"\0")[0].decode("latin-1"),
        )

    def sized(self, sample: Sample) -> Sample:
        """`sample` with its length known; 0 where its wave cannot be had. Raises `AudioError` for a broken wave."""
        if sample.size == 0:
            return replace(sample, length=0)
        return sample if sample.length is not None else replace(sample, length=len(self._vorbis(sample)))

    def wave(self, sample: Sample, start: int, end: int) -> NDArray[np.float32]:
        """The samples `start` to `end` of a wave as float32 in [-1, 1]."""
        if sample.compressed:
            return self._vorbis(sample)[start:end]
        first = 2 * (sample.offset + start)
        pool = np.frombuffer(self._pool[first : first + 2 * (end - start)], "<i2")
        return pool.astype(np.float32) / np.float32(32_768)

    def _vorbis(self, sample: Sample) -> NDArray[np.float32]:
        return self._decoded.get((self.path, sample.offset), lambda: self._decode(sample))

    def _decode(self, sample: Sample) -> NDArray[np.float32]:
        import soundfile

        blob = io.BytesIO(self._pool[sample.offset : sample.offset + sample.size])
        try:
            with soundfile.SoundFile(blob) as file:
                if file.frames > LONGEST_SAMPLE_S * FASTEST_HZ or file.channels != 1:
                    raise AudioError(self.path, f"its sample {sample.name!r} is no wave of a note", REMEDY)
                wave: NDArray[np.float32] = file.read(dtype="float32")
        except soundfile.LibsndfileError as error:
            why = error.error_string  # the whole text would name the memory that it was read from
            raise AudioError(self.path, f"its sample {sample.name!r} cannot be decoded ({why})", REMEDY) from error
        return wave


def with_global(zones: Sequence[Bag], link: int) -> list[Bag]:
    """Zones that link to something, each on top of the global zone (a first zone without a link)."""
    shared = zones[0] if zones and link not in zones[0].generators else Bag({}, ())
    merged = []
    for zone in zones:
        if link in zone.generators:
            own = {(each.source, each.destination, each.amount_source) for each in zone.modulators}
            inherited = tuple(
                each for each in shared.modulators if (each.source, each.destination, each.amount_source) not in own
            )
            merged.append(Bag(shared.generators | zone.generators, inherited + zone.modulators))
    return merged


def _chunks(data: mmap.mmap) -> dict[bytes, memoryview]:
    """The innermost RIFF chunks by name."""
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        raise ValueError("no RIFF sfbk header")
    found: dict[bytes, memoryview] = {}
    view, position = memoryview(data), 12
    while position + 8 <= len(data):
        name, size = bytes(view[position : position + 4]), struct.unpack_from("<I", view, position + 4)[0]
        if name == b"LIST":
            position += 12  # step into it: its chunks follow its type
            continue
        end = position + 8 + size
        if end > len(data):
            raise ValueError(f"cut short: {name!r} should end at byte {end}, the file has {len(data)}")
        found[name] = view[position + 8 : end]
        # A chunk of odd size is followed by a zero, which MuseScore's SF3 writer leaves out.
        position = end + (size % 2 and end < len(data) and view[end] == 0)
    return found


def _records(chunks: dict[bytes, memoryview], name: bytes, size: int) -> memoryview:
    chunk = chunks[name]
    if len(chunk) % size or len(chunk) < size:
        raise ValueError(f"{name.decode()} has {len(chunk)} bytes, no multiple of {size}")
    return chunk


def _zones(
    chunks: dict[bytes, memoryview], headers: bytes, layout: str, column: int, parts: tuple[bytes, bytes, bytes]
) -> list[list[Bag]]:
    """For each preset or instrument (the last header is a terminator) the bags of its zones."""
    rows = [row[column] for row in struct.iter_unpack(layout, _records(chunks, headers, struct.calcsize(layout)))]
    bags = list(struct.iter_unpack("<HH", _records(chunks, parts[0], 4)))
    amounts = list(struct.iter_unpack("<Hh", _records(chunks, parts[1], 4)))
    modulators = [
        Modulator(source, destination, amount, amount_source)
        for source, destination, amount, amount_source, _ in struct.iter_unpack("<HHhHH", chunks.get(parts[2], b""))
    ]
    for what, firsts, limit in (
        (headers, rows, len(bags) - 1),
        (parts[0], [bag[0] for bag in bags], len(amounts)),
        (parts[0], [bag[1] for bag in bags], len(modulators)),
    ):
        if any(later < earlier for earlier, later in itertools.pairwise(firsts)) or firsts[-1] > limit:
            raise ValueError(f"{what.decode()} points out of its table")
    zones = [
        Bag(dict(amounts[gen:next_gen]), tuple(modulators[mod:next_mod]))
        for (gen, mod), (next_gen, next_mod) in itertools.pairwise(bags)
    ]
    return [zones[row:next_row] for row, next_row in itertools.pairwise(rows)]
