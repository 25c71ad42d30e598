"""Genres of the rendered corpus from the ballroom and the parlour."""

from __future__ import annotations

from .rendered_composer import Chair, Genre, Mood
from .rendered_parts import TRIPLET_SWING, bass, drums, walking_bass
from .rendered_parts_harmony import chords
from .rendered_parts_melody import answer, counterpoint, harmonised, melody
from .rendered_theory import MAJOR, MINOR

_RAG_LEFT = chords("b---x---f---x---", "b---x---b---x---", "b-x-f-x-", low=52, voices=3, detached=0.6)

_RAG_RIGHT = melody(
    "x-x-x--xx--x--..", "xx-xx-x-xx-xx---", "x-xx-xx-x-xx-xx-", "xx-xx-x-", "x-x--xx-", low=64, high=88, detached=0.85
)

RAGTIME = Genre(
    "ragtime",
    (
        Mood("nostalgic", MINOR, 66, 78, 0.2),
        Mood("playful", MAJOR, 76, 92, 0.6),
        Mood("cheerful", MAJOR, 88, 104, 0.9),
    ),
    {
        MAJOR: ("I V7/ii V7/V V7", "I I V7 I", "IV #ivdim7 I V7/ii V7/V V7 I I", "I V7/V V7 I"),
        MINOR: ("i V7 i V7", "i iv V7 i", "i V7/iv iv V7"),
    },
    (
        Chair("stride", ("honky tonk piano", "piano"), _RAG_LEFT, -2.0),
        Chair("melody", ("clarinet", "trumpet", "xylophone", "banjo"), _RAG_RIGHT, 0.0),
        Chair("bass", ("tuba",), bass("r-------5-------", "r---....5---....", "r---5---", detached=0.7), -2.0, 0.7),
        Chair(
            "percussion",
            ("woodblock",),
            drums(
                high_woodblock=("x...x...x...x...", "x.xxx.x.x.xxx.x.", "x.x.x.x."), low_woodblock=("..x...x...x...x.",)
            ),
            -10.0,
            0.4,
        ),
    ),
    metres=("4/4", "2/4"),
    looseness=0.008,
    room_s=0.4,
    solos=tuple(
        (Chair("stride", (name,), _RAG_LEFT, -2.0), Chair("melody", (name,), _RAG_RIGHT, 0.0))
        for name in ("piano", "honky tonk piano")
    ),
)

SWING = Genre(
    "swing",
    (
        Mood("romantic", MAJOR, 96, 116, 0.2),
        Mood("elegant", MAJOR, 124, 152, 0.6),
        Mood("exciting", MINOR, 160, 208, 1.0),
    ),
    {
        MAJOR: ("I6 VI7 ii7 V7", "I6 I7 IV6 iv6", "I6 #idim7 ii7 V7", "ii7 V7 I6 I6", "I6 V7/V ii7 V7"),
        MINOR: ("i6 iim7b5_V7 i6 V7", "i6 iv6 i6 V7", "i6 VI7 iim7b5 V7"),
    },
    (
        Chair(
            "drums",
            ("jazz drums", "brushed drums"),
            drums(
                ("snare", "snare", "high tom", "low tom"),
                crash=True,
                kick=("x...x...x...x...",),
                ride=("X...x.x.X...x.x.",),
                pedal_hat=("....x.......x...",),
                snare=("................", "....o.......o...", "....X.......X..x"),
            ),
            -3.0,
        ),
        Chair("bass", ("double bass",), walking_bass, -1.0),
        Chair(
            "chords", ("jazz guitar",), chords("x---x---x---x---", low=53, voices=4, detached=0.6, velocity=76), -7.0
        ),
        Chair(
            "section",
            ("brass",),
            chords("......x-x---....", "x-..x-....x-..X.", "x.X...x.x-..X.X.", low=58, voices=4, detached=0.7),
            -1.0,
        ),
        Chair("reeds", ("saxophone",), harmonised(-2, -5), -4.0, 0.6),
        Chair(
            "melody",
            ("clarinet", "saxophone", "trumpet", "muted trumpet"),
            melody("x---x-x---x-x---", "x-x-x---x-x-x-..", "x-x-x-x-x-x-X---", low=60, high=86, rest=0.1, ornament=0.2),
            1.0,
        ),
        Chair("answer", ("trombone", "piano"), answer("........x-x-x-x-", low=55, high=72), -4.0, 0.4),
    ),
    swing=TRIPLET_SWING,
    looseness=0.012,
    room_s=0.9,
    form="jazz",
)

WALTZ = Genre(
    "waltz",
    (
        Mood("melancholic", MINOR, 92, 120, 0.2),
        Mood("romantic", MAJOR, 112, 144, 0.5),
        Mood("elegant", MAJOR, 140, 180, 0.9),
    ),
    {
        MAJOR: ("I I V7 V7 V7 V7 I I", "I IV V7 I", "I V7/ii ii V7", "I vi ii V7", "I #idim7 ii V7"),
        MINOR: ("i i V7 V7 V7 V7 i i", "i iv V7 i", "i VI iv V7", "i V7/iv iv V7"),
    },
    (
        Chair("bass", ("double bass", "cello"), bass("r---........", "r-----------", detached=0.8), -1.0),
        # Oom-pah-pah without the oom.
        Chair(
            "chords",
            ("strings", "accordion", "harp", "french horn"),
            chords("....x---x---", "....x-..x-..", low=57, voices=3, detached=0.7),
            -4.0,
        ),
        Chair(
            "melody",
            ("violin", "flute", "accordion", "clarinet", "strings"),
            melody("x-------x---", "x---x---x-x-", "x-x-x-x-x-x-", low=64, high=88, ornament=0.2),
            0.0,
        ),
        Chair("second", ("violin", "clarinet"), harmonised(-2, -5), -5.0, 0.5),
        Chair(
            "counter",
            ("cello", "french horn"),
            counterpoint("x-----------", "x-------x---", low=50, high=66),
            -5.0,
            0.4,
        ),
        Chair("percussion", ("triangle",), drums(open_triangle=("x...........",)), -14.0, 0.25),
    ),
    metres=("3/4",),
    looseness=0.014,
    room_s=1.3,
    room_level=0.22,
    form="classical",
    solos=(
        (
            Chair("chords", ("piano",), chords("b---x---x---", low=54, voices=3, detached=0.8), -3.0),
            Chair(
                "melody",
                ("piano",),
                melody("x-------x---", "x---x---x-x-", "x-x-x-x-x-x-", low=67, high=90, ornament=0.15),
                0.0,
            ),
        ),
    ),
)

POLKA = Genre(
    "polka",
    (
        Mood("funny", MINOR, 104, 116, 0.3),
        Mood("cheerful", MAJOR, 110, 122, 0.6),
        Mood("festive", MAJOR, 120, 138, 1.0),
    ),
    {MAJOR: ("I I V7 V7 V7 V7 I I", "I V7 V7 I", "I IV V7 I", "I V7/V V7 I"), MINOR: ("i V7 V7 i", "i iv V7 i")},
    (
        Chair(
            "drums", ("drums",), drums(kick=("x...x...", "X...x..."), snare=("..x...x.", "..x.o.x.", "..xx..xx")), -6.0
        ),
        Chair("bass", ("tuba",), bass("r---5---", "r-..5-..", detached=0.7), 0.0),
        Chair(
            "chords", ("accordion", "trombone"), chords("..x-..x-", "..x...x.", low=58, voices=3, detached=0.6), -4.0
        ),
        Chair(
            "melody",
            ("accordion", "clarinet", "trumpet"),
            melody("x-x-x---", "xxx-x-x-", "xxxxx-x-", low=64, high=88, detached=0.75, ornament=0.15),
            0.0,
        ),
        Chair("second", ("clarinet", "trumpet"), harmonised(-2, -5), -4.0, 0.6),
    ),
    metres=("2/4",),
    looseness=0.008,
    room_s=0.6,
)

LULLABY = Genre(
    "lullaby",
    (
        Mood("sleepy", MAJOR, 52, 64, 0.2),
        Mood("innocent", MAJOR, 62, 78, 0.5),
        Mood("dreamy", MINOR, 60, 76, 0.8),
    ),
    {
        MAJOR: ("I V7 V7 I", "I IV I V", "I vi IV V", "I I IV I", "I iii IV iv"),
        MINOR: ("i iv i v", "i VI III VII", "i VII III VI"),
    },
    (
        Chair(
            "melody",
            ("music box", "celesta", "glockenspiel", "kalimba"),
            melody(
                "x-------x---",
                "x---x---x-------",
                "x---x-x-x---",
                "x-----x-x---x---",
                "6/8 x---x-x-----",
                "6/8 x---x-x---x-",
                low=67,
                high=88,
                rest=0.05,
            ),
            0.0,
        ),
        Chair(
            "cradle",
            ("music box", "harp", "nylon guitar", "celesta"),
            chords(
                "b---2---3---",
                "b-1-2-3-2-1-",
                "b---2---3---2---",
                "b-1-2-3-b-1-2-3-",
                "6/8 b-2-3-b-2-3-",
                low=58,
                voices=4,
                velocity=70,
            ),
            -3.0,
        ),
        Chair(
            "strings",
            ("slow strings",),
            chords("x-----------", "x---------------", "6/8 x-----------", low=52, voices=3),
            -9.0,
            0.4,
        ),
    ),
    metres=("3/4", "6/8", "4/4"),
    looseness=0.015,
    room_s=1.4,
    room_level=0.25,
    solos=(
        (
            Chair(
                "cradle",
                ("music box", "kalimba"),
                chords(
                    "b---2---3---",
                    "b-1-2-3-2-1-",
                    "b---2---3---2---",
                    "6/8 b-2-3-b-2-3-",
                    low=62,
                    voices=3,
                    velocity=70,
                ),
                -3.0,
            ),
            Chair(
                "melody",
                ("music box", "kalimba"),
                melody("x-------x---", "x---x---x-------", "6/8 x---x-x-----", low=72, high=90),
                0.0,
            ),
        ),
    ),
)
