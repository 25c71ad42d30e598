"""Genres of the rendered corpus that are played on acoustic instruments."""

from __future__ import annotations

from .rendered_composer import Chair, Genre, Mood
from .rendered_parts import TRIPLET_SWING, bass, chords, drums, melody, walking_bass
from .rendered_theory import MAJOR, MINOR

JAZZ = Genre(
    "jazz",
    (
        Mood("melancholic", MINOR, 84, 104, 0.2),
        Mood("relaxed", MAJOR, 100, 132, 0.4),
        Mood("playful", MAJOR, 150, 208, 1.0),
    ),
    {
        MAJOR: ("Imaj7 vi7 ii7 V7", "Imaj7 VI7 ii7 V7", "ii7 V7 Imaj7 Imaj7", "iii7 VI7 ii7 V7"),
        MINOR: ("i7 iv7 iim7b5 V7", "iim7b5 V7 i7 i7", "i7 VImaj7 iim7b5 V7"),
    },
    (
        Chair(
            "drums",
            ("jazz drums",),
            drums(
                ride=("X...x.o.X...x.o.", "X...x.x.X...x.x.", "X...x.x.x.x."),
                pedal_hat=("....x.......x...", "....x...x..."),
                kick=("o.......o.......", "o.....o.....o...", "o..........."),
                snare=("................", "......o.........", "..o...o....o..o.", "......o..o.."),
            ),
            -3.0,
        ),
        Chair("bass", ("double bass",), walking_bass, -1.0),
        Chair(
            "chords",
            ("piano", "electric piano", "clean guitar"),
            chords(
                "x-------x-------",
                "x-....x-......x-",
                "..x-..x-....x-x-",
                "x-....x-....",
                "x-..x-....x-",
                low=53,
                voices=4,
            ),
            -5.0,
        ),
        Chair(
            "melody",
            ("saxophone", "trumpet", "vibraphone", "clarinet"),
            melody(
                "x---..x-x---....",
                "x-x-x---x-x---..",
                "x-x-x-x-x---x-x-",
                "x-x-x-x-x-x-x-x-",
                "x-x-x---..x-",
                "x-x-x-x-x-x-",
                low=58,
                high=84,
                rest=0.15,
            ),
            0.0,
        ),
    ),
    metres=("4/4", "4/4", "4/4", "3/4"),
    swing=TRIPLET_SWING,
    looseness=0.012,
    room_s=0.8,
)

BOSSA_NOVA = Genre(
    "bossa nova",
    (
        Mood("romantic", MINOR, 104, 124, 0.2),
        Mood("relaxed", MAJOR, 112, 132, 0.5),
        Mood("cheerful", MAJOR, 130, 148, 1.0),
    ),
    {
        MAJOR: ("Imaj7 II7 ii7 V7", "Imaj9 vi7 ii7 V7", "Imaj7 Imaj7 ii7 V7"),
        MINOR: ("i7 iv7 VII7 IIImaj7", "i7 iim7b5 V7 i7", "i7 iv7 i7 V7"),
    },
    (
        Chair(
            "drums",
            ("jazz drums",),
            drums(
                kick=("x..ox..ox..ox..o", "x..xx..xx..xx..x"),
                rim=("x.....x.....x...", "x..x..x...x..x.."),
                closed_hat=("x.o.x.o.x.o.x.o.", "xoxoxoxoxoxoxoxo"),
            ),
            -4.0,
        ),
        Chair("percussion", ("maracas",), drums(maracas=("x.x.x.x.x.x.x.x.", "xoxoxoxoxoxoxoxo")), -11.0, 0.6),
        Chair("percussion", ("claves",), drums(claves=("x.....x...x...x.", "x..x..x...x..x..")), -12.0, 0.35),
        Chair("bass", ("double bass",), bass("r-----5-5-----5-", "r--rr-5-5--55-r-"), -1.0),
        Chair(
            "chords",
            ("nylon guitar",),
            chords("x-..x-....x-....", "x-.x-.x-..x-.x-.", "x.x..x.x..x.x..x", low=52, voices=4, strum=0.008),
            -2.0,
        ),
        Chair(
            "melody",
            ("flute", "piano", "vibraphone", "saxophone"),
            melody("x-----x-x-------", "x---x-x-..x-x---", "x-x-..x---x-x-..", low=60, high=84, rest=0.1),
            0.0,
        ),
    ),
    looseness=0.01,
    room_s=0.7,
)

CLASSICAL = Genre(
    "classical",
    (
        Mood("melancholic", MINOR, 60, 84, 0.2),
        Mood("elegant", MAJOR, 92, 120, 0.6),
        Mood("lively", MAJOR, 122, 148, 1.0),
    ),
    {
        MAJOR: ("I IV V7 I", "I vi ii V7", "I V7 I V7", "I IV I V7"),
        MINOR: ("i iv V7 i", "i VI iv V7", "i V7 i V7"),
    },
    (
        Chair(
            "melody",
            ("violin",),
            melody(
                "x-------x---x---",
                "x---x-x-x---x---",
                "x-x-x-x-x---x---",
                "x-x-xxxxx-x-x-x-",
                "x-------x---",
                "x---x-x-x---",
                "x-x-x-x-x-x-",
                low=67,
                high=90,
                detached=0.97,
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
    ),
    metres=("4/4", "3/4"),
    looseness=0.012,
    room_s=1.4,
    room_level=0.25,
)

BALLAD = Genre(
    "ballad",
    (
        Mood("sad", MINOR, 54, 70, 0.3),
        Mood("peaceful", MAJOR, 56, 70, 0.4),
        Mood("romantic", MAJOR, 62, 80, 0.8),
    ),
    {
        MAJOR: ("I V vi IV", "I iii IV V", "I vi IV V", "Iadd9 IVmaj7"),
        MINOR: ("i VI III VII", "i iv VII III", "i VI iv V"),
    },
    (
        Chair(
            "chords",
            ("piano",),
            chords(
                "b-----2-3-------",
                "b-1-2-3-4-3-2-3-",
                "b-12341-b-1-2343",
                "b-1-3-2-3-1-",
                "b-1-2-3-4-2-",
                low=50,
                voices=4,
                velocity=70,
            ),
            -3.0,
        ),
        Chair(
            "melody",
            ("piano",),
            melody(
                "x-------x---x---",
                "x-----x-x---x-x-",
                "x---x-x---x-x-x-",
                "x-------x---",
                "x---x-x-x-x-",
                low=67,
                high=88,
                detached=1.0,
            ),
            0.0,
        ),
        Chair("pads", ("strings",), chords("x---------------", "x-----------", low=55, voices=3), -8.0, 0.3),
    ),
    metres=("4/4", "4/4", "3/4"),
    looseness=0.018,
    room_s=1.2,
    room_level=0.2,
)

COUNTRY = Genre(
    "country",
    (
        Mood("nostalgic", MAJOR, 84, 104, 0.2),
        Mood("cheerful", MAJOR, 108, 130, 0.6),
        Mood("lively", MAJOR, 130, 156, 1.0),
    ),
    {MAJOR: ("I IV I V", "I I IV V", "I V IV I", "I vi IV V")},
    (
        Chair(
            "drums",
            ("drums",),
            drums(
                kick=("X.......X.......", "X...x...X...x...", "X..........."),
                snare=("....x.......x...", "o.o.x.o.o.o.x.oo", "ooxoooxoooxoooxo", "....o...o..."),
                closed_hat=("x...x...x...x...", "x...x...x..."),
            ),
            -6.0,
        ),
        Chair(
            "bass",
            ("double bass", "bass guitar"),
            bass("r---....5---....", "r---..a-5---..r-", "r-------5---"),
            -1.0,
        ),
        Chair(
            "chords",
            ("steel guitar",),
            chords(
                "b---x---b---x---",
                "b---x-x-b---x-x-",
                "b-x-x-x-b-x-x-x-",
                "b---x---x---",
                "b---x-x-x-x-",
                low=52,
                voices=5,
                strum=0.012,
            ),
            -2.0,
        ),
        Chair(
            "banjo roll",
            ("banjo",),
            chords("1-3-2-4-1-3-2-4-", "1324132413241324", "1-3-2-3-4-3-", low=60, voices=4, detached=1.0),
            -5.0,
            0.7,
        ),
        Chair(
            "melody",
            ("fiddle", "harmonica"),
            melody(
                "x-------x---x---",
                "x---x-x-x---x-x-",
                "x-x-x-x-x-x-x---",
                "x-------x---",
                "x-x-x---x-x-",
                low=62,
                high=86,
                pentatonic=True,
            ),
            0.0,
        ),
    ),
    metres=("4/4", "4/4", "4/4", "3/4"),
    looseness=0.012,
)

MARCH = Genre(
    "march",
    (
        Mood("solemn", MINOR, 84, 100, 0.2),
        Mood("triumphant", MAJOR, 106, 118, 0.6),
        Mood("festive", MAJOR, 116, 132, 1.0),
    ),
    {MAJOR: ("I IV V7 I", "I I IV V7", "I vi IV V7"), MINOR: ("i iv V7 i", "i VI iv V7", "i iv i V7")},
    (
        Chair(
            "drums",
            ("snare drum",),
            drums(snare=("X..xx.x.X..xx.x.", "X.xxx.xxX.xxx.xx", "XoxxXoxxXoxxXxxx")),
            -4.0,
        ),
        Chair("drums", ("bass drum",), drums(kick=("X.......X.......",)), -3.0),
        Chair("drums", ("cymbals",), drums(clash_cymbals=("X...............", "X.......X.......")), -9.0, 0.7),
        Chair("bass", ("tuba",), bass("r---....5---....", "r-r-....5-5-....", detached=0.8), 0.0),
        Chair(
            "chords",
            ("trombone",),
            chords("....x-......x-..", "..x-..x-..x-..x-", low=50, voices=3, detached=0.7),
            -4.0,
        ),
        Chair(
            "melody",
            ("trumpet", "clarinet"),
            melody("X-------X---x---", "X--xX---X--xX---", "X-x-X-x-X--xX-x-", low=62, high=82, detached=0.8),
            0.0,
        ),
        Chair(
            "descant",
            ("piccolo",),
            melody("x-------x-------", "x-x-x-x-x---x---", "xxxxx-x-xxxxx-x-", low=76, high=96),
            -5.0,
            0.6,
        ),
    ),
    room_s=1.0,
)
