"""Genres of the rendered corpus from Latin America, the Caribbean, Spain and West Africa."""

from __future__ import annotations

from .rendered_composer import Chair, Genre, Mood
from .rendered_parts import bass, drums
from .rendered_parts_harmony import chords
from .rendered_parts_melody import answer, harmonised, melody, riff
from .rendered_theory import MAJOR, MINOR

SALSA = Genre(
    "salsa",
    (
        Mood("sensual", MINOR, 84, 94, 0.2),
        Mood("lively", MAJOR, 92, 104, 0.6),
        Mood("festive", MINOR, 100, 114, 1.0),
    ),
    {
        MINOR: ("i7 iv7 V7 i7", "i iv V7 V7", "i VII VI V7", "i7 V7 V7 i7"),
        MAJOR: ("I IV V IV", "Imaj7 vi7 ii7 V7", "I ii7 V7 I", "I I7 IV V7"),
    },
    (
        Chair(
            "percussion",
            ("congas",),
            drums(
                high_conga=("......xx......xx", "x.....xxx.....xx"),
                conga_slap=("..x.......x.....", "..X...o...X...o."),
                low_conga=("..............o.", "............x..."),
            ),
            -4.0,
        ),
        Chair(
            "percussion",
            ("timbales",),
            drums(
                high_timbale=("x..x..x...x.x...", "x.x.xx.x.xx.x.xx"),
                low_timbale=("........x.......", "....x.......x..."),
            ),
            -7.0,
            0.7,
        ),
        Chair("percussion", ("cowbell",), drums(cowbell=("x...x...x...x...", "x.x.x.x.x.xxx.x.")), -9.0, 0.6),
        Chair("percussion", ("claves",), drums(claves=("x..x..x...x.x...", "..x.x...x..x..x.")), -10.0, 0.6),
        Chair(
            "percussion",
            ("guiro",),
            drums(long_guiro=("x.......x.......",), short_guiro=("....x.x.....x.x.",)),
            -12.0,
            0.35,
        ),
        # The tumbao comes in before the chord does: the fifth on the "and" of two, the next root on four.
        Chair(
            "bass",
            ("double bass", "bass guitar"),
            bass("r-----5-----8---", "......r-----5---", "r-.r..5-..r-5-8-"),
            0.0,
        ),
        Chair(
            "montuno",
            ("piano",),
            chords("1-x-.x.x.x-x-1.x", "x-1x-1x-.x-1x-1x", "b.3x.2x.3x.2x.3x", low=60, voices=4, detached=0.8),
            -1.0,
        ),
        Chair(
            "melody",
            ("trumpet", "trombone", "flute"),
            melody("x---x-x-..x-x---", "..x-x-x-x--x--x-", "x-xx-x-x..xx-x-x", low=60, high=82, rest=0.15),
            0.0,
            0.85,
        ),
        Chair("second", ("trombone", "saxophone"), harmonised(-2, -5), -4.0, 0.5),
    ),
    looseness=0.008,
    room_s=0.6,
)

SAMBA = Genre(
    "samba",
    (
        Mood("relaxed", MAJOR, 84, 94, 0.2),
        Mood("happy", MAJOR, 94, 108, 0.6),
        Mood("festive", MINOR, 106, 126, 1.0),
    ),
    {
        MAJOR: ("I6 VI7 ii7 V7", "Imaj7 ii7 V7 I6", "I6 #idim7 ii7 V7", "I IV V7 I"),
        MINOR: ("i7 iv7 V7 i7", "i6 V7/iv iv7 V7", "i7 iim7b5_V7 i7 V7"),
    },
    (
        Chair(
            "percussion",
            ("agogo",),
            drums(
                high_agogo=("x.x...x..x...x..", "x.xx..x.x.x..x.."), low_agogo=("....x..x..xx..x.", "....xx.x.x..xx.x")
            ),
            -8.0,
            0.7,
        ),
        Chair("percussion", ("tambourine",), drums(tambourine=("xoxXxoxXxoxXxoxX", "XoxXXoxXXoxXXoxX")), -9.0, 0.8),
        Chair("percussion", ("shaker",), drums(cabasa=("xooxxooxxooxxoox",)), -12.0, 0.5),
        Chair(
            "drums",
            ("drums",),
            drums(
                kick=("X..xX..xX..xX..x",), rim=("x..x..x..x..x...", "x.x..x.x.x.xx.x."), low_tom=("....X.......X...",)
            ),
            -3.0,
        ),
        Chair("bass", ("bass guitar", "double bass"), bass("r--r5--5r--r5--5", "r--r5--5r--r5-a5", detached=0.8), 0.0),
        Chair(
            "chords",
            ("nylon guitar",),
            chords(
                "x.x..x.x.x.x..x.", "b.x.x.bxx.bx.xx.", "x.xx.x.x.xx.x.xx", low=56, voices=4, strum=0.005, detached=0.6
            ),
            -1.0,
        ),
        Chair(
            "melody",
            ("flute", "trombone", "clarinet", "accordion"),
            melody("x--x--x---x-x---", "x-xx-x-x-xx-x---", "xxx-xx-x-xx-xx-x", low=62, high=86, rest=0.1, ornament=0.1),
            0.0,
        ),
    ),
    metres=("4/4", "4/4"),
    looseness=0.009,
    room_s=0.5,
)

TANGO = Genre(
    "tango",
    (
        Mood("melancholic", MINOR, 54, 64, 0.2),
        Mood("passionate", MINOR, 60, 70, 0.6),
        Mood("dramatic", MINOR, 66, 78, 1.0),
        Mood("elegant", MAJOR, 58, 70, 0.5),
    ),
    {
        MINOR: ("i i V7 V7 V7 V7 i i", "i iv V7 i", "i VI iv V7", "i V7/iv iv V7b9", "i VII VI V7"),
        MAJOR: ("I V7 V7 I", "I V7/ii ii V7", "I #idim7 ii V7"),
    },
    (
        Chair("bass", ("bowed bass", "double bass"), bass("r---5---r---5-a-", "r-..r-..r-..r-a-", detached=0.6), -1.0),
        # Marcato in four, or the syncopated figure.
        Chair(
            "chords",
            ("piano",),
            chords("x-..x-..x-..x-..", "X-..x-..X-..x-xx", "X..x..x.X..x..x.", low=54, voices=4, detached=0.7),
            -2.0,
        ),
        Chair(
            "melody",
            ("bandoneon", "violin"),
            melody(
                "x-----xxx---x---",
                "x-x-x---xxx-x---",
                "xxxxx---xxxxx-..",
                low=62,
                high=84,
                scale="harmonic",
                ornament=0.3,
            ),
            1.0,
        ),
        Chair("second", ("violin", "bandoneon"), harmonised(-2, -5, 7), -3.0, 0.6),
        Chair(
            "answer",
            ("violin", "bandoneon"),
            answer("........xxxxx---", "..x-x-..xxx-x-..", low=66, high=88, scale="harmonic", chance=0.5),
            -4.0,
            0.4,
        ),
    ),
    looseness=0.012,
    room_s=0.9,
)

_FLAMENCO_RUN = melody(
    "x-------xxxxx---",
    "x-xxx---xxxxxxxx",
    "xxxxxxxxx-------",
    "x-----xxx---",
    "xxxxxxx-x---",
    low=57,
    high=78,
    scale="phrygian",
    ornament=0.4,
)

_RASGUEADO = chords(
    "X-uux-..X-uux-..", "XuxuXuxuX-..X-uu", "X-uux-X-uux-", "XuxuXuX-..X-", low=50, voices=5, strum=0.018
)

FLAMENCO = Genre(
    "flamenco",
    (
        Mood("longing", MINOR, 76, 96, 0.2),
        Mood("passionate", MINOR, 100, 128, 0.6),
        Mood("fiery", MINOR, 130, 168, 1.0),
    ),
    {MINOR: ("i VII VI V", "i i VII VI V V V V", "iv i V i", "i V V i", "i VII VI V7b9")},
    (
        Chair("chords", ("nylon guitar",), _RASGUEADO, -1.0),
        Chair("melody", ("nylon guitar",), _FLAMENCO_RUN, 0.0),
        Chair(
            "percussion",
            ("hand claps",),
            drums(clap=("....x.......x...", "x.x.X.x.x.x.X.x.", "....x...x...", "x.o.x.o.x.o.")),
            -8.0,
            0.7,
        ),
        Chair(
            "bass",
            ("fretless bass", "double bass"),
            bass("r-------5---r---", "r-----5-r---5-a-", "r-----5-----", "r---5---r-a-"),
            -4.0,
            0.4,
        ),
        Chair(
            "answer",
            ("flute", "violin"),
            answer("........x-x-x---", "......x-x---", low=65, high=86, scale="harmonic", chance=0.6),
            -3.0,
            0.3,
        ),
    ),
    metres=("4/4", "3/4"),
    looseness=0.014,
    room_s=0.9,
    solos=(
        (Chair("chords", ("nylon guitar",), _RASGUEADO, -1.0), Chair("melody", ("nylon guitar",), _FLAMENCO_RUN, 0.0)),
    ),
)

AFROBEAT = Genre(
    "afrobeat",
    (
        Mood("hypnotic", MINOR, 98, 106, 0.3),
        Mood("groovy", MINOR, 104, 116, 0.7),
        Mood("uplifting", MAJOR, 110, 126, 1.0),
    ),
    {MINOR: ("i7 i7 IV7 IV7", "i7 v7", "i7 VII", "i7"), MAJOR: ("I IV V IV", "I7 bVII", "I ii7", "I IV")},
    (
        Chair(
            "drums",
            ("drums",),
            drums(
                kick=("X..x..x...x.x...", "X..x..x.X.x.x.x."),
                snare=("....o..x....x..o", "...x..o.x..o..x."),
                closed_hat=("x.xxx.xxx.xxx.xx", "xxx.xxx.xxx.xxx."),
                open_hat=("......x.........",),
            ),
            -1.0,
        ),
        Chair(
            "percussion",
            ("congas",),
            drums(high_conga=("x..xx..xx..xx..x",), low_conga=("..x...x...x...xx",)),
            -7.0,
            0.7,
        ),
        Chair("percussion", ("shaker",), drums(cabasa=("xoxoxoxoxoxoxoxo", "XoxoxoxoXoxoxoxo")), -11.0, 0.7),
        Chair("percussion", ("woodblock",), drums(high_woodblock=("x..x..x...x.x...", "x.x.xx.x.x.xx.x.")), -11.0, 0.4),
        Chair(
            "bass",
            ("bass guitar",),
            bass("r..r..5.7..5..~.", "r.~r.5..7.8..5r.", "rr.5.7.rr.8.7.5.", detached=0.7),
            1.0,
        ),
        Chair(
            "riff",
            ("muted guitar", "clean guitar", "kalimba"),
            riff("?.x?..?.x.?..?x.", "x?.??.x?.??.x?.?", low=62, scale="pentatonic", follow=False, detached=0.5),
            -3.0,
        ),
        Chair(
            "organ",
            ("organ", "electric piano"),
            chords("..x...x...x...x.", "x..x..x...x.x...", low=57, voices=3, detached=0.6),
            -6.0,
            0.7,
        ),
        Chair(
            "melody",
            ("saxophone", "trumpet", "baritone saxophone"),
            melody(
                "x---x-x---......", "x-x-x-..x-x-x---", "xx-xx-x-..xx-x--", low=56, high=79, scale="modal", rest=0.2
            ),
            0.0,
            0.8,
        ),
        Chair("second", ("brass", "trombone"), harmonised(-2, 0), -4.0, 0.4),
    ),
    bars_per_chord=1,
    looseness=0.008,
    room_s=0.4,
)

CALYPSO = Genre(
    "calypso",
    (
        Mood("carefree", MAJOR, 92, 106, 0.3),
        Mood("summery", MAJOR, 104, 118, 0.6),
        Mood("festive", MAJOR, 116, 134, 1.0),
    ),
    {MAJOR: ("I IV V I", "I I V7 V7", "I V7/ii ii V7", "I IV I V7", "I vi ii V7")},
    (
        Chair(
            "melody",
            ("steel drums",),
            melody("x--x--x-x---x---", "x-x-x--x-xx-x---", "xxx-x-xxx-x-x-x-", low=62, high=84, ornament=0.1),
            1.0,
        ),
        Chair("second", ("steel drums", "marimba"), harmonised(-2, -5), -4.0, 0.6),
        Chair(
            "chords",
            ("marimba", "clean guitar", "steel drums"),
            chords("..x-..x-..x-..x-", "x..x..x.x..x..x.", low=57, voices=3, detached=0.6),
            -4.0,
        ),
        Chair("bass", ("bass guitar",), bass("r--r--5-r--r--5-", "r--5--8-5--3--r-", detached=0.8), 0.0),
        Chair(
            "percussion",
            ("bongos",),
            drums(high_bongo=("x.xxx.xxx.xxx.xx", "x.x.xxx.x.x.xxx."), low_bongo=("......x.......x.",)),
            -8.0,
            0.6,
        ),
        Chair("percussion", ("maracas",), drums(maracas=("x.xxx.xxx.xxx.xx",)), -12.0, 0.5),
        Chair("percussion", ("cowbell",), drums(cowbell=("x..x..x.x.x.x...",)), -12.0, 0.3),
        Chair(
            "drums",
            ("drums",),
            drums(kick=("X...X...X...X...",), rim=("...x..x....x..x.",), closed_hat=("..x...x...x...x.",)),
            -6.0,
            0.7,
        ),
    ),
    looseness=0.008,
    room_s=0.5,
)
