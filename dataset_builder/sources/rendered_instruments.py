"""The instruments of the rendered corpus: General-MIDI programs, the tag a listener would use, and a register."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """A General-MIDI program: `tag` is what a caption calls it, `low` to `high` the MIDI pitches it plays.

    For drums `program` is the kit, and the register is unused.
    """

    tag: str
    program: int
    low: int = 0
    high: int = 127
    drum: bool = False


def _kit(tag: str, program: int = 0) -> Instrument:
    return Instrument(tag, program, drum=True)


# Ranges are the comfortable ones of orchestration handbooks, narrowed to where the SoundFont sounds natural.
INSTRUMENTS: dict[str, Instrument] = {
    "piano": Instrument("piano", 0, 28, 96),
    "electric piano": Instrument("electric piano", 4, 36, 88),
    "vibraphone": Instrument("vibraphone", 11, 53, 89),
    "bells": Instrument("bells", 9, 67, 96),
    "harp": Instrument("harp", 46, 36, 91),
    "nylon guitar": Instrument("acoustic guitar", 24, 40, 80),
    "steel guitar": Instrument("acoustic guitar", 25, 40, 83),
    "clean guitar": Instrument("electric guitar", 27, 40, 84),
    "overdriven guitar": Instrument("electric guitar", 29, 40, 86),
    "distorted guitar": Instrument("distorted electric guitar", 30, 36, 88),
    "banjo": Instrument("banjo", 105, 48, 84),
    "double bass": Instrument("double bass", 32, 28, 55),
    "bass guitar": Instrument("bass guitar", 33, 28, 55),
    "synth bass": Instrument("synth bass", 38, 28, 52),
    "organ": Instrument("organ", 16, 36, 88),
    "harmonica": Instrument("harmonica", 22, 60, 88),
    "violin": Instrument("violin", 40, 55, 93),
    "viola": Instrument("viola", 41, 48, 79),
    "cello": Instrument("cello", 42, 36, 67),
    "fiddle": Instrument("fiddle", 110, 55, 91),
    "strings": Instrument("strings", 48, 40, 88),
    "trumpet": Instrument("trumpet", 56, 55, 82),
    "trombone": Instrument("trombone", 57, 40, 70),
    "tuba": Instrument("tuba", 58, 28, 52),
    "saxophone": Instrument("saxophone", 66, 46, 78),
    "clarinet": Instrument("clarinet", 71, 52, 86),
    "piccolo": Instrument("piccolo", 72, 74, 98),
    "flute": Instrument("flute", 73, 60, 91),
    "synth lead": Instrument("synth lead", 81, 52, 88),
    "synth pluck": Instrument("synth", 80, 48, 91),
    "synth stab": Instrument("synth", 90, 48, 84),
    "synth pad": Instrument("synth pad", 89, 40, 84),
    "sweep pad": Instrument("synth pad", 95, 40, 84),
    "drums": _kit("drums"),
    "jazz drums": _kit("drums", 32),
    "power drums": _kit("drums", 16),
    "drum machine": _kit("drum machine", 25),
    "electronic drums": _kit("drum machine", 24),
    "maracas": _kit("maracas"),
    "claves": _kit("claves"),
    "tambourine": _kit("tambourine"),
    "snare drum": _kit("snare drum", 48),
    "bass drum": _kit("bass drum", 48),
    "cymbals": _kit("cymbals", 48),
}

# General-MIDI percussion keys.
DRUM_KEYS = {
    "kick": 36,
    "rim": 37,
    "snare": 38,
    "clap": 39,
    "low tom": 45,
    "mid tom": 47,
    "high tom": 50,
    "closed hat": 42,
    "pedal hat": 44,
    "open hat": 46,
    "crash": 49,
    "ride": 51,
    "tambourine": 54,
    "clash cymbals": 57,
    "maracas": 70,
    "claves": 75,
}
