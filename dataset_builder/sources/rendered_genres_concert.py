"""Genres of the rendered corpus from the concert hall and the screen."""

from __future__ import annotations

from .rendered_composer import Chair, Genre, Mood
from .rendered_parts import bass, drums
from .rendered_parts_harmony import arpeggio, chords, tremolo
from .rendered_parts_melody import canon, counterpoint, melody, riff
from .rendered_theory import MAJOR, MINOR

_SONATA_LEFT = chords(
    "b---3---2---3---", "1-3-2-3-1-3-2-3-", "1323132313231323", "b---3---2---", "1-3-2-3-2-3-", low=50, voices=3
)

_SONATA_RIGHT = melody(
    "x-------x---x---",
    "x---x-x-x---x---",
    "x-x-xxxxx-x-x-x-",
    "x-------x---",
    "x-x-x-x-x-x-",
    low=67,
    high=90,
    ornament=0.2,
)

CLASSICAL = Genre(
    "classical",
    (
        Mood("melancholic", MINOR, 60, 84, 0.2),
        Mood("elegant", MAJOR, 92, 120, 0.6),
        Mood("lively", MAJOR, 122, 148, 1.0),
    ),
    {
        MAJOR: ("I IV V7 I", "I vi ii V7", "I V7 I V7", "I IV I V7", "I V7/V V I", "I V7/ii ii V7", "I viidim I V7"),
        MINOR: ("i iv V7 i", "i VI iv V7", "i V7 i V7", "i VI iidim V7", "i V7/iv iv V", "i III VII i"),
    },
    (
        Chair(
            "melody",
            ("violin", "violin", "oboe", "flute", "clarinet"),
            melody(
                "x-------x---x---",
                "x---x-x-x---x---",
                "x-x-x-x-x---x---",
                "x-x-xxxxx-x-x-x-",
                "x-------x---",
                "x---x-x-x---",
                "x-x-x-x-x-x-",
                low=67,
                high=88,
                detached=0.97,
                ornament=0.1,
            ),
            0.0,
        ),
        Chair(
            "second",
            ("violin",),
            chords(
                "3---------------",
                "3---3---3---3---",
                "1-3-2-3-1-3-2-3-",
                "3-----------",
                "..3-3-..3-3-",
                low=60,
                voices=3,
            ),
            -5.0,
        ),
        Chair(
            "middle",
            ("viola",),
            chords(
                "2-------1-------",
                "2---2---2---2---",
                "..2-..2-..2-..2-",
                "2-----------",
                "..2-2-..2-2-",
                low=53,
                voices=3,
            ),
            -4.0,
        ),
        Chair(
            "bass",
            ("cello",),
            bass("r---------------", "r-------5-------", "r---3---5---3---", "r-----------", "r---3---5---"),
            -2.0,
        ),
        Chair(
            "counter",
            ("french horn", "bassoon", "english horn"),
            counterpoint("x---------------", "x-------x-------", "x-----------", low=50, high=70),
            -6.0,
            0.4,
        ),
        Chair(
            "drums", ("timpani",), bass("r-----------....", "r---....5---....", "r-------....", detached=0.7), -8.0, 0.2
        ),
    ),
    metres=("4/4", "3/4"),
    looseness=0.012,
    room_s=1.4,
    room_level=0.25,
    form="classical",
    solos=tuple(
        (Chair("chords", (name,), _SONATA_LEFT, -3.0), Chair("melody", (name,), _SONATA_RIGHT, 0.0))
        for name in ("piano", "piano", "nylon guitar", "harp")
    ),
)

_HARPSICHORD = chords(
    "b-1-2-3-b-1-2-3-", "b12341-2b12341-2", "b-1-2-3-2-1-", "b1234321b-2-", low=55, voices=4, detached=0.9
)

BAROQUE = Genre(
    "baroque",
    (
        Mood("solemn", MINOR, 56, 76, 0.2),
        Mood("majestic", MAJOR, 76, 96, 0.5),
        Mood("lively", MAJOR, 100, 126, 1.0),
    ),
    {
        MAJOR: ("I V vi iii IV I IV V", "I IV viidim iii vi ii V I", "I V I V7", "I V7/V V I", "I vi ii V7"),
        MINOR: ("i iv VII III VI iidim V i", "i V i V7", "i VII VI V", "i iv V7 i", "i V7/iv iv V7"),
    },
    (
        Chair("continuo", ("harpsichord", "harpsichord", "church organ"), _HARPSICHORD, -3.0),
        Chair(
            "bass",
            ("cello", "bassoon"),
            bass(
                "r---3---5---r-a-", "r-3-5-3-r-3-5-a-", "r-5-3-5-r-5-3-a-", "r---3---5---", "r-3-5-3-r-a-", detached=0.8
            ),
            -1.0,
        ),
        Chair(
            "melody",
            ("violin", "oboe", "recorder", "flute"),
            melody(
                "x---x-x-x---x---",
                "x-xxx-x-x-xxx-x-",
                "xxxxxxxxxxxxxxxx",
                "x---x-x-x-x-",
                "xxxxx-x-xxx-",
                low=66,
                high=89,
                scale="harmonic",
                ornament=0.35,
            ),
            0.0,
        ),
        Chair("canon", ("violin", "oboe", "recorder"), canon(1, 1, 2), -2.0, 0.55),
        Chair(
            "inner",
            ("viola",),
            counterpoint("x-------x-------", "x---x---x---x---", "x---x---x---", low=50, high=72),
            -5.0,
            0.5,
        ),
    ),
    metres=("4/4", "4/4", "3/4"),
    looseness=0.009,
    room_s=1.2,
    room_level=0.2,
    form="classical",
    solos=(
        (
            Chair("continuo", ("harpsichord",), _HARPSICHORD, -2.0),
            Chair(
                "melody",
                ("harpsichord",),
                melody(
                    "x---x-x-x---x---",
                    "x-xxx-x-x-xxx-x-",
                    "xxxxxxxxxxxxxxxx",
                    "x---x-x-x-x-",
                    low=69,
                    high=86,
                    ornament=0.3,
                ),
                0.0,
            ),
        ),
        (
            Chair(
                "continuo",
                ("church organ",),
                chords("x-------x-------", "x---x---x---x---", "x-----------", low=52, voices=4),
                -2.0,
            ),
            Chair(
                "melody",
                ("church organ",),
                melody("x---x-x-x---x---", "x-xxx-x-x-xxx-x-", "x---x-x-x-x-", low=67, high=88, ornament=0.2),
                0.0,
            ),
        ),
    ),
)

MINIMALISM = Genre(
    "minimalism",
    (
        Mood("meditative", MAJOR, 84, 104, 0.2),
        Mood("hypnotic", MINOR, 104, 128, 0.6),
        Mood("restless", MINOR, 126, 150, 1.0),
    ),
    {
        MAJOR: ("I I vi vi", "Iadd9 iii", "I IVmaj7", "Imaj7 Imaj7 ii7 ii7"),
        MINOR: ("i i VI VI", "iadd9 III", "i VImaj7 III VII", "i v"),
    },
    (
        Chair("cell", ("piano", "marimba"), arpeggio(2, 1, 1, low=60, octaves=1, detached=0.9), 0.0),
        Chair(
            "phase",
            ("marimba", "vibraphone", "xylophone"),
            riff(
                "1.?.1.?.1.?.1.?.",
                "1??.1?.?1??.1?.?",
                "1?.?1?.?1?.?",
                "1?.1?.?1?.",
                "1?.?1?.1?.?1?.1?.?1?",
                "1.?.1.?.1.??1?",
                low=67,
                scale="pentatonic",
                follow=False,
            ),
            -3.0,
        ),
        Chair(
            "pulse",
            ("clarinet", "saxophone", "organ"),
            chords(
                "1.1.1.1.1.1.1.1.",
                "2.2.2.2.2.2.2.2.",
                "1.1.1.1.1.1.",
                "1.1.1.1.1.1.1.1.1.1.",
                "1.1.1.1.1.1.1.",
                low=55,
                voices=3,
                detached=0.7,
            ),
            -5.0,
            0.7,
        ),
        Chair(
            "long notes",
            ("strings", "cello"),
            chords("x---------------", "x-----------", "x-------------------", "x-------------", low=52, voices=3),
            -5.0,
            0.6,
        ),
    ),
    metres=("4/4", "3/4", "5/4", "7/8"),
    bars_per_chord=2,
    looseness=0.004,
    room_s=1.2,
    room_level=0.2,
    form="drift",
)

NEW_AGE = Genre(
    "new age",
    (
        Mood("relaxing", MAJOR, 58, 72, 0.2),
        Mood("spiritual", MINOR, 60, 74, 0.4),
        Mood("magical", MAJOR, 70, 88, 0.8),
    ),
    {
        MAJOR: ("Iadd9 V vi IV", "Imaj7 iii7 IVmaj7 Vsus4", "I bVII IV I", "IVadd9 I ii7 V"),
        MINOR: ("iadd9 VI III VII", "i VII VI VII", "i7 iv7 VII III"),
    },
    (
        Chair("pad", ("synth pad", "slow strings"), chords("x---------------", "x-----------", low=52, voices=4), -4.0),
        Chair("arpeggio", ("harp", "piano", "nylon guitar"), arpeggio(4, 2, 2, low=55, octaves=2), -2.0),
        Chair(
            "melody",
            ("pan flute", "flute", "ocarina", "shakuhachi", "piano"),
            melody(
                "x-----------x---",
                "x-------x---x---",
                "x---x-------x-x-",
                "x-------x---",
                "x---x---x-x-",
                low=64,
                high=86,
                scale="pentatonic",
                rest=0.2,
                ornament=0.25,
            ),
            0.0,
        ),
        Chair(
            "sparkle",
            ("glockenspiel", "celesta"),
            chords("?.......~.......", "?..........?....", "?...........", low=76, voices=5),
            -10.0,
            0.5,
        ),
    ),
    metres=("4/4", "4/4", "3/4"),
    looseness=0.02,
    room_s=2.4,
    room_level=0.4,
    form="drift",
)

SOUNDTRACK = Genre(
    "soundtrack",
    (
        Mood("mysterious", MINOR, 60, 80, 0.1),
        Mood("tense", MINOR, 84, 110, 0.4),
        Mood("heroic", MAJOR, 96, 120, 0.7),
        Mood("epic", MINOR, 112, 140, 1.0),
    ),
    {
        MINOR: ("i VI III VII", "i VI iv V", "i i VI VI", "i bII i VII", "i v VI iv", "i III VII IV"),
        MAJOR: ("I V vi IV", "I bVI bVII I", "I bIII IV I", "I IV ii V", "I iv I V"),
    },
    (
        Chair(
            "strings",
            ("tremolo strings", "strings"),
            chords(
                "x---------------",
                "x-------x-------",
                "x-x-xxx-x-x-xxx-",
                "x-----------",
                "x-x-xxx-x-x-",
                low=55,
                voices=4,
            ),
            -1.0,
        ),
        Chair(
            "ostinato",
            ("cello", "pizzicato strings"),
            riff(
                "1-..5-..1-..5-..",
                "1.1?1.1?1.1?1.1?",
                "1.115.111.115.11",
                "1-..5-..3-..",
                "1.115.111.11",
                low=40,
                detached=0.6,
            ),
            -2.0,
        ),
        Chair("bass", ("bowed bass", "tuba"), bass("r---------------", "r-------r-------", "r-----------"), -3.0),
        Chair(
            "melody",
            ("french horn", "trumpet", "strings", "english horn"),
            melody(
                "x-----------x---",
                "x-------x---x-x-",
                "X---x-x-X---x---",
                "x-------x---",
                "x---x-x-x---",
                low=55,
                high=79,
            ),
            0.0,
            0.85,
        ),
        Chair(
            "brass",
            ("trombone", "brass"),
            chords("x---------------", "X-----x-X-------", "x-----------", low=46, voices=3),
            -4.0,
            0.6,
        ),
        Chair(
            "drums",
            ("timpani",),
            tremolo(
                bass("r-----------5---", "r---r---r-5-r---", "r-rrr-r-r-rrr-r-", "r-------5---", "r---r-5-r---"),
                every=2,
            ),
            -3.0,
            0.7,
        ),
        Chair(
            "percussion",
            ("taiko",),
            bass("r-------r-------", "r..r..r.r..r..r.", "r-rrr.rrr-rrr.rr", "r-----r-r---", detached=0.9),
            -2.0,
            0.5,
        ),
        Chair("percussion", ("cymbals",), drums(clash_cymbals=("x...............", "x...........")), -10.0, 0.4),
    ),
    metres=("4/4", "4/4", "3/4"),
    looseness=0.01,
    room_s=2.0,
    room_level=0.3,
    form="classical",
)
