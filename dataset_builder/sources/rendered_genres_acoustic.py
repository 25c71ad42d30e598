"""Genres of the rendered corpus that are played on acoustic instruments."""

from __future__ import annotations

from .rendered_composer import Chair, Genre, Mood
from .rendered_parts import TRIPLET_SWING, bass, drums, walking_bass
from .rendered_parts_harmony import chords
from .rendered_parts_melody import melody
from .rendered_theory import MAJOR, MINOR

JAZZ = Genre(
    "jazz",
    (
        Mood("melancholic", MINOR, 84, 104, 0.2),
        Mood("relaxed", MAJOR, 100, 132, 0.4),
        Mood("playful", MAJOR, 150, 208, 1.0),
    ),
    {
        MAJOR: (
            "Imaj7 vi7 ii7 V7",
            "Imaj7 VI7 ii7 V7",
            "ii7 V7 Imaj7 Imaj7",
            "iii7 VI7 ii7 V7",
            "Imaj7 #idim7 ii7 V7",
            "Imaj7 IV7 iii7_VI7 ii7_V7",
            "I6 IV7 iii7_VI7 ii7_V13",
        ),
        MINOR: (
            "i7 iv7 iim7b5 V7",
            "iim7b5 V7 i7 i7",
            "i7 VImaj7 iim7b5 V7",
            "i6 iv7 VII7 IIImaj7",
            "i9 IV9 iim7b5 V7b9",
        ),
    },
    (
        Chair(
            "drums",
            ("jazz drums", "brushed drums"),
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
            ("saxophone", "soprano saxophone", "trumpet", "vibraphone", "clarinet"),
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
    form="jazz",
    solos=(
        (
            Chair(
                "chords",
                ("piano",),
                chords(
                    "b---x---f---x---", "b-x-..x-f-..x-x-", "b---x---x---", low=52, voices=4, detached=0.7, velocity=76
                ),
                -4.0,
            ),
            Chair(
                "melody",
                ("piano",),
                melody(
                    "x---..x-x---....",
                    "x-x-x---x-x---..",
                    "x-x-x-x-x---x-x-",
                    "x-x-x---..x-",
                    low=65,
                    high=88,
                    rest=0.1,
                ),
                0.0,
            ),
        ),
    ),
)

BOSSA_NOVA = Genre(
    "bossa nova",
    (
        Mood("romantic", MINOR, 104, 124, 0.2),
        Mood("relaxed", MAJOR, 112, 132, 0.5),
        Mood("cheerful", MAJOR, 130, 148, 1.0),
    ),
    {
        MAJOR: (
            "Imaj7 II7 ii7 V7",
            "Imaj9 vi7 ii7 V7",
            "Imaj7 Imaj7 ii7 V7",
            "Imaj7 bVII9 Imaj7 VI7b9",
            "I6 #idim7 ii7 V7",
            "Imaj9 iv6 iii7 VI7_ii7",
        ),
        MINOR: ("i7 iv7 VII7 IIImaj7", "i7 iim7b5 V7 i7", "i7 iv7 i7 V7", "i9 IV9 i9 V7b9", "i7 VImaj7 iim7b5 V7"),
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
            ("flute", "piano", "vibraphone", "soprano saxophone", "saxophone"),
            melody("x-----x-x-------", "x---x-x-..x-x---", "x-x-..x---x-x-..", low=60, high=84, rest=0.1),
            0.0,
        ),
    ),
    looseness=0.01,
    room_s=0.7,
    solos=(
        (
            Chair(
                "chords",
                ("nylon guitar",),
                chords("b-.x-.x-b-.x-.x-", "b.x..x.xb.x..x.x", "bx.x.x.xb.x.xx.x", low=52, voices=4, strum=0.008),
                0.0,
            ),
        ),
    ),
)

BALLAD = Genre(
    "ballad",
    (
        Mood("sad", MINOR, 54, 70, 0.3),
        Mood("peaceful", MAJOR, 56, 70, 0.4),
        Mood("romantic", MAJOR, 62, 80, 0.8),
    ),
    {
        MAJOR: ("I V vi IV", "I iii IV V", "I vi IV V", "Iadd9 IVmaj7", "I V/vi vi IV", "I iii IV iv", "vi IV I V"),
        MINOR: ("i VI III VII", "i iv VII III", "i VI iv V", "i v VI iv", "i VII VI V"),
    },
    (
        Chair(
            "chords",
            ("piano", "piano", "electric piano", "steel guitar"),
            chords(
                "b-----2-3-------",
                "b-1-2-3-4-3-2-3-",
                "b-12341-b-1-2343",
                "b-1-3-2-3-1-",
                "b-1-2-3-4-2-",
                "6/8 b-2-3-4-3-2-",
                low=50,
                voices=4,
                velocity=70,
            ),
            -3.0,
        ),
        Chair(
            "melody",
            ("piano", "cello", "soprano saxophone", "english horn", "clean guitar", "oboe"),
            melody(
                "x-------x---x---",
                "x-----x-x---x-x-",
                "x---x-x---x-x-x-",
                "x-------x---",
                "x---x-x-x-x-",
                "6/8 x-----x---x-",
                low=64,
                high=86,
                rest=0.1,
                ornament=0.1,
            ),
            0.0,
        ),
        Chair(
            "pads",
            ("strings", "slow strings"),
            chords("x---------------", "x-----------", "6/8 x-----------", low=55, voices=3),
            -7.0,
            0.5,
        ),
        Chair(
            "bass",
            ("fretless bass", "double bass"),
            bass("r---------------", "r-----r-5-------", "r-----------", "r-------5---", "6/8 r-----5-----"),
            -3.0,
            0.4,
        ),
        Chair(
            "drums",
            ("brushed drums", "drums"),
            drums(
                kick=("X.......X.......", "X...........", "6/8 X..........."),
                rim=("....x.......x...", "........x...", "6/8 ......x....."),
                closed_hat=("x...x...x...x...", "x.x.x.x.x.x.x.x.", "x...x...x...", "6/8 x.x.x.x.x.x."),
            ),
            -7.0,
            0.35,
        ),
    ),
    metres=("4/4", "4/4", "3/4", "6/8"),
    looseness=0.015,
    room_s=1.2,
    room_level=0.2,
    solos=(
        (
            Chair(
                "chords",
                ("piano",),
                chords(
                    "b-----2-3-------",
                    "b-1-2-3-4-3-2-3-",
                    "b-12341-b-1-2343",
                    "b-1-3-2-3-1-",
                    "6/8 b-2-3-4-3-2-",
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
                    "6/8 x-----x---x-",
                    low=67,
                    high=88,
                    rest=0.1,
                ),
                0.0,
            ),
        ),
    ),
)

COUNTRY = Genre(
    "country",
    (
        Mood("nostalgic", MAJOR, 84, 104, 0.2),
        Mood("cheerful", MAJOR, 108, 130, 0.6),
        Mood("lively", MAJOR, 130, 156, 1.0),
    ),
    {MAJOR: ("I IV I V", "I I IV V", "I V IV I", "I vi IV V", "I I7 IV V7", "I V/V V I", "vi IV I V")},
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
                scale="pentatonic",
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
    {
        MAJOR: ("I IV V7 I", "I I IV V7", "I vi IV V7", "I V7/V V7 I", "I V I V"),
        MINOR: ("i iv V7 i", "i VI iv V7", "i iv i V7", "i VII VI V"),
    },
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
            ("trumpet", "clarinet", "french horn"),
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
