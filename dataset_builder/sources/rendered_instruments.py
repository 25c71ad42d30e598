"""The instruments of the rendered corpus: General-MIDI programs, the tag a listener would use, and a register.

Nobody sings in the corpus, so the programs that imitate voices stay out, and so do whistles and sound effects.
"""

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
    # keyboards
    "piano": Instrument("piano", 0, 28, 96),
    "honky tonk piano": Instrument("honky tonk piano", 3, 33, 93),
    "electric piano": Instrument("electric piano", 4, 36, 88),
    "harpsichord": Instrument("harpsichord", 6, 36, 86),
    "clavinet": Instrument("clavinet", 7, 40, 84),
    "celesta": Instrument("celesta", 8, 60, 98),
    "organ": Instrument("organ", 16, 36, 88),
    "hammond organ": Instrument("hammond organ", 18, 36, 88),
    "church organ": Instrument("church organ", 19, 36, 88),
    "accordion": Instrument("accordion", 21, 53, 89),
    "bandoneon": Instrument("bandoneon", 23, 50, 86),
    "harmonica": Instrument("harmonica", 22, 60, 88),
    # struck bars and bells
    "glockenspiel": Instrument("glockenspiel", 9, 72, 98),
    "music box": Instrument("music box", 10, 60, 96),
    "vibraphone": Instrument("vibraphone", 11, 53, 89),
    "marimba": Instrument("marimba", 12, 45, 88),
    "xylophone": Instrument("xylophone", 13, 65, 98),
    "bells": Instrument("bells", 14, 55, 79),
    "dulcimer": Instrument("dulcimer", 15, 52, 86),
    "steel drums": Instrument("steel drums", 114, 55, 86),
    "kalimba": Instrument("kalimba", 108, 55, 86),
    # plucked strings
    "harp": Instrument("harp", 46, 36, 91),
    "nylon guitar": Instrument("classical guitar", 24, 40, 80),
    "steel guitar": Instrument("acoustic guitar", 25, 40, 83),
    "jazz guitar": Instrument("electric guitar", 26, 40, 81),
    "clean guitar": Instrument("electric guitar", 27, 40, 84),
    "muted guitar": Instrument("electric guitar", 28, 40, 79),
    "overdriven guitar": Instrument("electric guitar", 29, 40, 86),
    "distorted guitar": Instrument("distorted electric guitar", 30, 36, 88),
    "banjo": Instrument("banjo", 105, 48, 84),
    "sitar": Instrument("sitar", 104, 48, 79),
    "shamisen": Instrument("shamisen", 106, 50, 81),
    "koto": Instrument("koto", 107, 50, 86),
    # basses
    "double bass": Instrument("double bass", 32, 28, 55),
    "bass guitar": Instrument("bass guitar", 33, 28, 55),
    "picked bass": Instrument("bass guitar", 34, 28, 55),
    "fretless bass": Instrument("bass guitar", 35, 28, 55),
    "slap bass": Instrument("bass guitar", 36, 28, 55),
    "synth bass": Instrument("synth bass", 38, 28, 52),
    "round synth bass": Instrument("synth bass", 39, 28, 52),
    # bowed strings
    "violin": Instrument("violin", 40, 55, 93),
    "viola": Instrument("viola", 41, 48, 79),
    "cello": Instrument("cello", 42, 36, 67),
    "bowed bass": Instrument("double bass", 43, 28, 55),
    "fiddle": Instrument("fiddle", 110, 55, 91),
    "tremolo strings": Instrument("strings", 44, 40, 86),
    "pizzicato strings": Instrument("strings", 45, 40, 88),
    "strings": Instrument("strings", 48, 40, 88),
    "slow strings": Instrument("strings", 49, 40, 88),
    # winds
    "trumpet": Instrument("trumpet", 56, 55, 82),
    "muted trumpet": Instrument("trumpet", 59, 55, 82),
    "trombone": Instrument("trombone", 57, 40, 70),
    "tuba": Instrument("tuba", 58, 28, 52),
    "french horn": Instrument("french horn", 60, 41, 74),
    "brass": Instrument("brass", 61, 43, 79),
    "soprano saxophone": Instrument("soprano saxophone", 64, 58, 86),
    "saxophone": Instrument("saxophone", 66, 46, 78),
    "baritone saxophone": Instrument("baritone saxophone", 67, 38, 67),
    "oboe": Instrument("oboe", 68, 60, 87),
    "english horn": Instrument("english horn", 69, 53, 79),
    "bassoon": Instrument("bassoon", 70, 36, 67),
    "clarinet": Instrument("clarinet", 71, 52, 86),
    "piccolo": Instrument("piccolo", 72, 74, 98),
    "flute": Instrument("flute", 73, 60, 91),
    "recorder": Instrument("recorder", 74, 65, 91),
    "pan flute": Instrument("pan flute", 75, 60, 88),
    "shakuhachi": Instrument("shakuhachi", 77, 57, 84),
    "ocarina": Instrument("ocarina", 79, 60, 86),
    "bagpipes": Instrument("bagpipes", 109, 58, 79),
    "shehnai": Instrument("shehnai", 111, 57, 81),
    # synthesizers
    "square lead": Instrument("synth lead", 80, 48, 91),
    "synth lead": Instrument("synth lead", 81, 52, 88),
    "synth pluck": Instrument("synth", 80, 48, 91),
    "synth stab": Instrument("synth", 90, 48, 84),
    "arpeggiator": Instrument("arpeggiated synth", 81, 48, 91),
    "synth pad": Instrument("synth pad", 89, 40, 84),
    "sweep pad": Instrument("synth pad", 95, 40, 84),
    "synth strings": Instrument("synth strings", 50, 40, 86),
    "synth brass": Instrument("synth brass", 62, 43, 84),
    # drums and percussion
    "timpani": Instrument("timpani", 47, 36, 55),
    "taiko": Instrument("taiko", 116, 36, 60),
    "drums": _kit("drums"),
    "jazz drums": _kit("drums", 32),
    "power drums": _kit("drums", 16),
    "brushed drums": _kit("brushed drums", 40),
    "drum machine": _kit("drum machine", 25),
    "electronic drums": _kit("electronic drums", 24),
    "snare drum": _kit("snare drum", 48),
    "bass drum": _kit("bass drum", 48),
    "cymbals": _kit("cymbals", 48),
    "maracas": _kit("maracas"),
    "shaker": _kit("shaker"),
    "claves": _kit("claves"),
    "tambourine": _kit("tambourine"),
    "congas": _kit("congas"),
    "bongos": _kit("bongos"),
    "timbales": _kit("timbales"),
    "cowbell": _kit("cowbell"),
    "agogo": _kit("agogo"),
    "guiro": _kit("guiro"),
    "woodblock": _kit("woodblock"),
    "triangle": _kit("triangle"),
    "hand claps": _kit("hand claps"),
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
    "ride bell": 53,
    "tambourine": 54,
    "cowbell": 56,
    "clash cymbals": 57,
    "high bongo": 60,
    "low bongo": 61,
    "conga slap": 62,
    "high conga": 63,
    "low conga": 64,
    "high timbale": 65,
    "low timbale": 66,
    "high agogo": 67,
    "low agogo": 68,
    "cabasa": 69,
    "maracas": 70,
    "short guiro": 73,
    "long guiro": 74,
    "claves": 75,
    "high woodblock": 76,
    "low woodblock": 77,
    "muted triangle": 80,
    "open triangle": 81,
}
