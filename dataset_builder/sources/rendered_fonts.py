"""Which SoundFonts there are, where they lie, under which licences, and which of them share recordings.

find_soundfont("fluid")             # the file of a known font, in the places Linux distributions put it
related(find_soundfont("fluid"), find_soundfont("musescore"))   # 0.54: more than half of Fluid's waves
"""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lpmc_errors import AudioError, MissingExtraError, UsageError

from .rendered_soundfont_file import SoundFontFile, Waves

DEFAULT = "default"
PLACES = (
    Path("/usr/share/sounds/sf2"),  # Debian, Ubuntu
    Path("/usr/share/sounds/sf3"),
    Path("/usr/share/soundfonts"),  # Fedora, Arch
    Path("/usr/local/share/soundfonts"),
    Path("/usr/local/share/sounds/sf2"),
)
# Of the fonts measured, those of one origin share 23 to 66 % of their waves, others none; the names of waves (all that
# can be compared cheaply where they are compressed) agree for 26 to 95 % and for at most 8 %.
RELATED_FROM = 0.15  # share of a font's waves
_FINGERPRINT = slice(64, 576)  # samples of a wave; its first ones are often cut differently
_SHORTEST_WAVE = 640  # samples; shorter ones (single periods of a synthesizer) may agree by chance


@dataclass(frozen=True)
class KnownFont:
    """A free General-MIDI font: its short name, file names, licence and where it comes from."""

    name: str
    files: tuple[str, ...]
    licence: str
    package: str


KNOWN = (
    KnownFont(DEFAULT, ("TimGM6mb.sf2",), "GPL-2.0 (Tim Brechbill, David Bolton)", "Python package pretty_midi"),
    KnownFont("fluid", ("FluidR3_GM.sf2",), "MIT (Frank Wen and others)", "Debian package fluid-soundfont-gm"),
    KnownFont(
        "musescore",
        ("MuseScore_General_Full.sf2", "MuseScore_General.sf2"),
        "MIT, parts CC0 and public domain (S. Christian Collins, Michael Cowgill, Frank Wen and others)",
        "Debian package musescore-general-soundfont-lossless",
    ),
    KnownFont(
        "musescore-lite",
        ("MuseScore_General_Lite.sf3", "MuseScore_General.sf3"),
        "MIT, parts CC0 and public domain (S. Christian Collins, Michael Cowgill, Frank Wen and others)",
        "Debian package musescore-general-soundfont-small",
    ),
    KnownFont("opl3", ("OPL-3_FM_128M.sf2",), "CC-BY-SA-4.0 (Zandro Reveille)", "Debian package opl3-soundfont"),
    KnownFont("csound", ("sf_GMbank.sf2",), "public domain", "Debian package csound-soundfont"),
)
LICENCE_UNKNOWN = "licence not stated"


def file_name(wanted: str) -> str:
    """The file name that stands for a font, given by short name or by path, whether or not it is installed."""
    known = _known(wanted)
    return known.files[0] if known else Path(wanted).name


def find_soundfont(wanted: str) -> Path:
    """The file of a font, given by short name (`fluid`) or by path.

    Raises `UsageError` where there is none and `MissingExtraError` for `default` without the extra `render`.
    """
    known = _known(wanted)
    if known is None:
        path = Path(wanted)
        if not path.is_file():
            names = ", ".join(font.name for font in KNOWN)
            raise UsageError(f"SoundFont {wanted}", "no such file", f"give a path or one of {names}")
        return path
    if known.name == DEFAULT:
        return _of_the_package(known.files[0])
    for place in PLACES:
        for file in known.files:
            if (place / file).is_file():
                return place / file
    raise UsageError(f"SoundFont {wanted}", f"{known.files[0]} is not installed", f"install the {known.package}")


def licence_of(file: str) -> str:
    """The licence of the font with this file name, with its holders."""
    known = next((font for font in KNOWN if file in font.files), None)
    return known.licence if known else LICENCE_UNKNOWN


def check_held_out(fonts: Sequence[Path], held_out: Path) -> None:
    """Raise `UsageError` where the held-out font shares recordings with one that is trained on."""
    for font in fonts:
        share = related(font, held_out)
        if share >= RELATED_FROM:
            raise UsageError(
                f"held_out_soundfont {held_out.name}",
                f"shares {100 * share:.0f} % of its waves with {font.name}, so it would be no new sound",
                f"hold another font out, or leave {font.name} out of soundfonts",
            )


def related(one: Path, other: Path) -> float:
    """The largest share of the waves of either font that the other has as well, 0 to 1.

    Waves are compared by their data, or by name where one of the fonts is compressed. Raises `AudioError`.
    """
    if one.resolve() == other.resolve():
        return 1.0
    (data, names), (other_data, other_names) = _fingerprints(one), _fingerprints(other)
    mine, theirs = (data, other_data) if data and other_data else (names, other_names)
    shared = len(mine & theirs)
    return shared / max(1, min(len(mine), len(theirs)))


@lru_cache(maxsize=16)
def _fingerprints(path: Path) -> tuple[frozenset[int], frozenset[str]]:
    font = SoundFontFile(path, Waves(0))
    usable = [sample for sample in font.samples if sample.size >= _SHORTEST_WAVE]
    if not usable:
        raise AudioError(path, "has no waves", "name another SoundFont")
    data = frozenset(
        zlib.crc32(font.wave(sample, _FINGERPRINT.start, _FINGERPRINT.stop).tobytes())
        for sample in usable
        if not sample.compressed
    )
    return data, frozenset(sample.name.strip().lower() for sample in usable)


def _known(wanted: str) -> KnownFont | None:
    return next((font for font in KNOWN if wanted == font.name), None)


def _of_the_package(file: str) -> Path:
    package = importlib.util.find_spec("pretty_midi")  # found, not imported: only its data file is of use
    if package is None or package.origin is None:
        raise MissingExtraError("pretty_midi", extra="render")
    return Path(package.origin).with_name(file)
