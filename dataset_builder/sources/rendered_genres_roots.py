"""Genres of the rendered corpus with roots in American song: blues, gospel, folk and bluegrass."""

from __future__ import annotations

from .rendered_composer import Chair, Genre, Mood
from .rendered_parts import TRIPLET_SWING, bass, drums
from .rendered_parts_harmony import chords
from .rendered_parts_melody import answer, melody
from .rendered_theory import MAJOR, MINOR

BLUES = Genre(
    "blues",
    (
        Mood("sad", MINOR, 56, 72, 0.2),
        Mood("soulful", MAJOR, 66, 90, 0.4),
        Mood("groovy", MAJOR, 104, 132, 0.9),
    ),
    {
        MAJOR: (
            "I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7",
            "I7 IV7 I7 I7 IV7 IV7 I7 VI7 ii7 V7 I7_VI7 ii7_V7",
            "I7 IV9 I7 V7",
            "I7 I7 IV7 #ivdim7 I7 V7",
        ),
        MINOR: ("i7 iv7 i7 i7 iv7 iv7 i7 i7 VI7 V7 i7 V7", "i7 i7 iv7 i7 VI7 V7", "i7 iv7 i7 V7"),
    },
    (
        Chair(
            "drums",
            ("drums", "brushed drums"),
            drums(
                kick=("X.......X.......", "X.....x.X.....x.", "X...........X...........", "X....x......X....x......"),
                snare=("....X.......X...", "......X...........X.....", "......X.........o.X....."),
                closed_hat=("x...x...x...x...", "x.x.x.x.x.x.x.x.", "x.x.x.x.x.x.x.x.x.x.x.x."),
            ),
            -3.0,
        ),
        Chair(
            "bass",
            ("bass guitar", "double bass"),
            bass("r---3---5---6---", "r-3-5-6-7-6-5-3-", "r-....r-5-..r-..r-5-6-5-", "r---r-3---3-5---5-6---5-"),
            -1.0,
        ),
        Chair(
            "chords",
            ("piano", "hammond organ", "clean guitar", "honky tonk piano"),
            chords(
                "x-------x-------",
                "..x-..x-..x-..x-",
                "x---x-x---x-x---x-x---x-",
                "x-x-x-x-x-x-x-x-x-x-x-x-",
                low=54,
                voices=4,
            ),
            -5.0,
        ),
        Chair(
            "melody",
            ("overdriven guitar", "harmonica", "clean guitar", "saxophone"),
            melody(
                "x---x-x-------..",
                "x-xxx-x---..x-x-",
                "x---x-x-----......x-x---",
                "x-x-x-x---x-x-----......",
                low=60,
                high=82,
                scale="blues",
                rest=0.15,
                ornament=0.3,
            ),
            0.0,
        ),
        Chair(
            "answer",
            ("piano", "harmonica"),
            answer("........x-x-x-x-", "............x-x-x-x-x-x-", low=64, high=84, scale="blues"),
            -5.0,
            0.4,
        ),
    ),
    metres=("4/4", "12/8"),
    swing=TRIPLET_SWING * 0.8,
    looseness=0.012,
    solos=(
        (
            Chair(
                "chords",
                ("piano",),
                chords(
                    "b-3-b-4-b-3-b-4-", "b-x-b-x-b-x-b-x-", "b---3-b---4-b---3-b---4-", low=50, voices=4, velocity=76
                ),
                -3.0,
            ),
            Chair(
                "melody",
                ("piano",),
                melody("x-xxx-x---..x-x-", "x---x-x-----......x-x---", low=67, high=88, scale="blues", ornament=0.3),
                0.0,
            ),
        ),
    ),
    form="jazz",
)

GOSPEL = Genre(
    "gospel",
    (
        Mood("spiritual", MAJOR, 54, 72, 0.3),
        Mood("uplifting", MAJOR, 76, 100, 0.6),
        Mood("joyful", MAJOR, 112, 140, 1.0),
    ),
    {
        MAJOR: (
            "I I7 IV #ivdim7 I V7/ii ii7 V7",
            "I V/vi vi I7 IV iv I V",
            "IV I V/V V",
            "I IV I V7",
            "I7 IV7 I V7",
            "I vi ii V7sus4",
        )
    },
    (
        Chair(
            "drums",
            ("drums",),
            drums(
                ("snare", "high tom", "low tom"),
                kick=(
                    "X.......X.......",
                    "X.....x.X.x...x.",
                    "X...........",
                    "6/8 X...........",
                    "X...........X...........",
                ),
                snare=(
                    "....x.......x...",
                    "....X.......X...",
                    "........x...",
                    "6/8 ......x.....",
                    "......x...........x.....",
                ),
                ride=(
                    "x...x...x...x...",
                    "x.x.x.x.x.x.x.x.",
                    "x...x...x...",
                    "6/8 x.x.x.x.x.x.",
                    "x.x.x.x.x.x.x.x.x.x.x.x.",
                ),
            ),
            -4.0,
            0.8,
        ),
        Chair(
            "percussion",
            ("hand claps",),
            drums(clap=("....x.......x...", "....X.......X...", "......x...........x.....")),
            -7.0,
            0.6,
        ),
        Chair("percussion", ("tambourine",), drums(tambourine=("o.x.o.x.o.x.o.x.", "oxX.oxX.oxX.oxX.")), -12.0, 0.4),
        Chair(
            "bass",
            ("bass guitar",),
            bass("r-------5-----a-", "r---3---5---6-a-", "r-----5---a-", "r-----------5-------a---"),
            -1.0,
        ),
        Chair(
            "organ",
            ("hammond organ",),
            chords(
                "x---------------", "x-------x-------", "x-----------", "x-----------x-----------", low=55, voices=4
            ),
            -1.0,
        ),
        Chair(
            "chords",
            ("piano",),
            chords(
                "b-------x---x---", "b-x-x-x-b-x-x-x-", "b---x---x---", "b-----x-x-x-b-----x-x-x-", low=55, voices=4
            ),
            -2.0,
        ),
        Chair(
            "melody",
            ("organ", "saxophone", "trumpet"),
            melody(
                "x---x-x-x-------",
                "x-x-x-x-x---x---",
                "x---x-x-x---",
                "x-----x---x-x-----------",
                low=62,
                high=84,
                scale="pentatonic",
                ornament=0.3,
            ),
            -1.0,
            0.7,
        ),
    ),
    metres=("4/4", "4/4", "3/4", "12/8"),
    swing=0.08,
    looseness=0.012,
    room_s=1.2,
    room_level=0.2,
)

FOLK = Genre(
    "folk",
    (
        Mood("melancholic", MINOR, 66, 88, 0.2),
        Mood("peaceful", MAJOR, 76, 100, 0.5),
        Mood("cheerful", MAJOR, 104, 128, 0.9),
    ),
    {
        MAJOR: ("I V vi IV", "I IV I V", "I iii IV I", "I Vsus4 IV I", "vi IV I V", "I bVII IV I"),
        MINOR: ("i VII VI VII", "i III VII i", "i iv i v", "i VI III VII"),
    },
    (
        Chair(
            "chords",
            ("steel guitar",),
            chords(
                "b-3-2-4-f-3-2-4-",
                "b-32b-42f-32b-42",
                "b-x-xux-f-xuxux-",
                "b-3-2-4-3-2-",
                "b-x-xuxux-xu",
                "6/8 b-3-4-b-3-4-",
                low=50,
                voices=4,
                strum=0.012,
                velocity=78,
            ),
            0.0,
        ),
        Chair(
            "melody",
            ("harmonica", "fiddle", "flute", "recorder", "accordion"),
            melody(
                "x-------x---x---",
                "x---x-x-x-------",
                "x-x-x---x-x-x---",
                "x---x-x-x---",
                "6/8 x---x-x---x-",
                low=64,
                high=86,
                scale="pentatonic",
                rest=0.1,
                ornament=0.15,
            ),
            0.0,
            0.8,
        ),
        Chair(
            "bass",
            ("double bass",),
            bass("r-------5-------", "r---5---r---5-a-", "r-------5---", "6/8 r-----5-----"),
            -3.0,
            0.6,
        ),
        Chair(
            "second",
            ("banjo", "dulcimer"),
            chords("..2-..3-..4-..3-", "1-3-2-4-1-3-2-4-", "1-3-2-4-3-2-", "6/8 1-2-3-4-3-2-", low=62, voices=4),
            -6.0,
            0.4,
        ),
        Chair(
            "percussion",
            ("tambourine", "shaker"),
            drums(tambourine=("....x.......x...", "......x.....", "6/8 ......x....."), cabasa=("x.o.x.o.x.o.x.o.",)),
            -13.0,
            0.3,
        ),
    ),
    metres=("4/4", "4/4", "3/4", "6/8"),
    looseness=0.013,
    room_s=0.6,
    solos=(
        (
            Chair(
                "chords",
                ("steel guitar", "nylon guitar"),
                chords("b-3-2-4-f-3-2-4-", "b13-243-f13-2431", "b-3-2-4-3-2-", "6/8 b-3-4-b-3-4-", low=50, voices=4),
                0.0,
            ),
        ),
    ),
)

BLUEGRASS = Genre(
    "bluegrass",
    (
        Mood("longing", MINOR, 84, 110, 0.2),
        Mood("lively", MAJOR, 118, 140, 0.7),
        Mood("wild", MAJOR, 138, 164, 1.0),
    ),
    {
        MAJOR: ("I I IV I I I V I", "I IV I V", "I bVII I V", "I IV V I", "I V/V V I"),
        MINOR: ("i VII i v", "i iv VII i", "i III VII i"),
    },
    (
        Chair("bass", ("double bass",), bass("r---5---r---5---", "r---5---r---5-a-"), 0.0),
        # The mandolin's chop falls on every off-beat; here the guitar does it.
        Chair(
            "chords",
            ("steel guitar",),
            chords("b---x---f---x---", "b-x-xux-f-x-xuxu", low=50, voices=4, strum=0.01, detached=0.7),
            -2.0,
        ),
        Chair(
            "roll",
            ("banjo",),
            chords("1-3-4-2-3-4-1-3-", "1342134213421342", "1324341213243412", low=60, voices=4, detached=1.0),
            0.0,
        ),
        Chair(
            "melody",
            ("fiddle",),
            melody(
                "x---x-x-x-x-x---",
                "x-xxx-xxx-xxx-x-",
                "xxxxxxxxxxxxxxxx",
                low=62,
                high=88,
                scale="pentatonic",
                ornament=0.25,
            ),
            1.0,
        ),
        Chair(
            "answer",
            ("harmonica",),
            answer("........x-x-x-x-", low=65, high=84, scale="pentatonic", chance=0.5),
            -5.0,
            0.3,
        ),
    ),
    metres=("4/4",),
    looseness=0.01,
    room_s=0.4,
)
