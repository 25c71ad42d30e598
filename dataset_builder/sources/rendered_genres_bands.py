"""Genres of the rendered corpus for a band with a beat: funk, soul, ska, surf and punk."""

from __future__ import annotations

from .rendered_composer import Chair, Genre, Mood
from .rendered_parts import bass, drums
from .rendered_parts_harmony import chords, tremolo
from .rendered_parts_melody import harmonised, melody, riff
from .rendered_theory import MAJOR, MINOR

FUNK = Genre(
    "funk",
    (
        Mood("cool", MINOR, 90, 100, 0.3),
        Mood("groovy", MINOR, 98, 112, 0.7),
        Mood("fun", MAJOR, 108, 122, 1.0),
    ),
    {
        MINOR: ("i7 IV9", "i9 i9 i9 IV9", "i7 i7 iv7 V7", "i7 VII7 VI7 V7"),
        MAJOR: ("I9 I9 IV9 I9", "I7 bVII IV7 I7", "I9 IV9", "I7 I7 ii7 V7"),
    },
    (
        Chair(
            "drums",
            ("drums",),
            drums(
                ("snare", "snare", "high tom", "low tom"),
                kick=("X.....x...x..~..", "X.x...x...x..x..", "X.x....x..x..x.."),
                snare=("....X.......X...", "....X..o.o..X..o", "....X..o.o.oX..o"),
                closed_hat=("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx"),
            ),
            0.0,
        ),
        Chair(
            "percussion",
            ("congas", "cowbell"),
            drums(high_conga=("..x~..x...x~..xx",), cowbell=("x...x...x...x...",)),
            -9.0,
            0.4,
        ),
        Chair(
            "bass",
            ("slap bass", "bass guitar"),
            bass("r..8..~.r..7~.8.", "r.~8.r~.7.~8.5.7", "r.r8.~r.7.8~r7.a", detached=0.6),
            2.0,
        ),
        Chair(
            "chords",
            ("muted guitar", "clean guitar"),
            chords("..xu~.xu..xu~.xu", "xuxu~uxu.uxu~uxu", low=60, voices=3, detached=0.4),
            -4.0,
        ),
        Chair(
            "riff",
            ("clavinet",),
            riff("x.~?.x.?.~x.?.~.", "x?.x.?x.~?.x?.?x", low=55, scale="blues", detached=0.5),
            -3.0,
            0.7,
        ),
        Chair(
            "hits",
            ("brass",),
            chords("X.......~.x.....", "X..x......X.~...", low=60, voices=4, detached=0.5),
            -3.0,
            0.6,
        ),
        Chair(
            "melody",
            ("saxophone", "trumpet", "organ"),
            melody("x-x-..x-x---....", "xx.x-.x.xx.x-...", low=60, high=80, scale="blues", rest=0.2),
            -1.0,
            0.6,
        ),
    ),
    looseness=0.006,
    room_s=0.3,
)

SOUL = Genre(
    "soul",
    (
        Mood("romantic", MAJOR, 62, 80, 0.2),
        Mood("soulful", MINOR, 76, 96, 0.5),
        Mood("happy", MAJOR, 100, 122, 0.9),
    ),
    {
        MAJOR: ("I vi ii V", "Imaj7 iii7 IVmaj7 V7sus4", "I V/vi vi IV_V", "I IV I IV", "I I7 IV iv"),
        MINOR: ("i7 iv7 VII IIImaj7", "i7 VImaj7 iv7 V7", "i7 IV7 i7 V7"),
    },
    (
        Chair(
            "drums",
            ("drums",),
            drums(
                ("snare", "high tom", "low tom"),
                kick=("X.......X.x.....", "X..x....X.x.....", "X...X...X...X..."),
                snare=("....x.......x...", "....X.......X...", "X...X...X...X..."),
                closed_hat=("x.x.x.x.x.x.x.x.",),
            ),
            -2.0,
        ),
        Chair("percussion", ("tambourine",), drums(tambourine=("....x.......x...", "o.x.o.x.o.x.o.x.")), -11.0, 0.6),
        Chair("bass", ("bass guitar",), bass("r-----5-8---5-3-", "r--r3-5-r--r6-5-", "r-r35-6-8-r35-a-"), 1.0),
        Chair(
            "chords",
            ("hammond organ", "electric piano"),
            chords("x---------------", "x-----x-x-----x-", low=55, voices=4),
            -3.0,
        ),
        Chair(
            "offbeats",
            ("clean guitar",),
            chords("....x.......x...", "..x...x...x...x.", low=62, voices=3, detached=0.5),
            -5.0,
            0.7,
        ),
        Chair(
            "horns",
            ("brass", "baritone saxophone"),
            chords("........x---x-..", "x-x.....x-----..", low=56, voices=3),
            -5.0,
            0.6,
        ),
        Chair(
            "melody",
            ("saxophone", "trumpet", "clean guitar"),
            melody(
                "x---x-x---------",
                "x-x-x---x-x-----",
                "x-xxx---x-x-x-..",
                low=60,
                high=82,
                scale="pentatonic",
                rest=0.1,
                ornament=0.2,
            ),
            0.0,
        ),
    ),
    swing=0.03,
    looseness=0.01,
    room_s=0.8,
)

SKA = Genre(
    "ska",
    (
        Mood("carefree", MAJOR, 120, 136, 0.3),
        Mood("happy", MAJOR, 134, 152, 0.6),
        Mood("wild", MINOR, 150, 176, 1.0),
    ),
    {MAJOR: ("I IV V IV", "I vi IV V", "I I IV V", "I V/ii ii V"), MINOR: ("i iv V i", "i VII VI V", "i i iv V")},
    (
        Chair(
            "drums",
            ("drums",),
            drums(
                ("snare", "snare", "high tom", "low tom"),
                crash=True,
                kick=("....X.......X...", "X...X...X...X...", "X.......X.x....."),
                snare=("....X.......X...", "....X.......X..o"),
                closed_hat=("..x...x...x...x.", "x.x.x.x.x.x.x.x."),
            ),
            -2.0,
        ),
        Chair("bass", ("bass guitar", "picked bass"), bass("r---3---5---6---", "r-3-5-6-8-6-5-3-"), 0.0),
        # The skank: short chords between the beats, all the time.
        Chair(
            "chords",
            ("clean guitar",),
            chords("..X...X...X...X.", "..X.~.X.~.X.~.X.", low=60, voices=3, detached=0.45),
            -1.0,
        ),
        Chair(
            "bubble",
            ("organ", "piano"),
            chords("..x...x...x...x.", "~.x.~.x.~.x.~.x.", low=57, voices=3, detached=0.6),
            -5.0,
            0.7,
        ),
        Chair(
            "melody",
            ("trumpet", "saxophone"),
            melody("x---x-x-x---x-x-", "x-x-x-x-..x-x---", "xxx-x-..xxx-x-..", low=60, high=81, detached=0.7, rest=0.1),
            0.0,
        ),
        Chair("second", ("trombone",), harmonised(-2, -5), -3.0, 0.7),
    ),
    looseness=0.007,
    room_s=0.4,
)

SURF_ROCK = Genre(
    "surf rock",
    (
        Mood("summery", MAJOR, 132, 150, 0.3),
        Mood("adventurous", MINOR, 144, 164, 0.7),
        Mood("wild", MINOR, 160, 182, 1.0),
    ),
    {
        MINOR: ("i VII VI V", "i i iv i", "i VII i V", "i iv VII III"),
        MAJOR: ("I vi IV V", "I IV I V", "I bVII IV I", "I bVI I V"),
    },
    (
        Chair(
            "drums",
            ("drums",),
            drums(
                ("snare", "snare", "high tom", "low tom"),
                crash=True,
                kick=("X.......X.x.....", "X...X...X...X..."),
                # The surf beat: one on two, two on four.
                snare=("....X.......X.X.", "....X.X.....X...", "....X.......X.X."),
                ride=("x.x.x.x.x.x.x.x.",),
            ),
            0.0,
        ),
        Chair("bass", ("picked bass",), bass("r-r-5-5-r-r-5-5-", "r-r-r-r-r-r-5-a-"), 0.0),
        Chair(
            "chords",
            ("clean guitar",),
            chords("X-x-x-x-X-x-x-x-", "X-xux-xuX-xux-xu", low=52, voices=4, strum=0.006, detached=0.6),
            -4.0,
        ),
        # Double picking on the low strings is the sound of the style.
        Chair(
            "melody",
            ("clean guitar",),
            tremolo(melody("x---x---x-x-x---", "x-x-x-x-x---x---", low=52, high=76, scale="harmonic"), every=1),
            1.0,
        ),
        Chair("organ", ("organ",), chords("x-------x-------", "x---x---x---x---", low=60, voices=3), -8.0, 0.4),
    ),
    room_s=1.8,
    room_level=0.4,
)

PUNK_ROCK = Genre(
    "punk rock",
    (
        Mood("rebellious", MAJOR, 160, 176, 0.5),
        Mood("angry", MINOR, 168, 190, 0.8),
        Mood("energetic", MAJOR, 180, 204, 1.0),
    ),
    {
        MAJOR: ("I5 V5 vi5 IV5", "I5 IV5 V5 V5", "I5 IV5 I5 V5", "I5 bVII5 IV5 I5"),
        MINOR: ("i5 VI5 VII5 i5", "i5 VII5 VI5 V5", "i5 III5 VII5 iv5"),
    },
    (
        Chair(
            "drums",
            ("power drums", "drums"),
            drums(
                ("snare", "snare", "snare", "low tom"),
                crash=True,
                kick=("X.....x.X.......", "X...X...X...X..."),
                snare=("....X.......X...", "..X...X...X...X."),
                open_hat=("x...x...x...x...", "x.x.x.x.x.x.x.x."),
            ),
            0.0,
        ),
        Chair("bass", ("picked bass",), bass("r-r-r-r-r-r-r-r-", "rrrrrrrrrrrrrrrr"), 0.0),
        Chair(
            "chords",
            ("distorted guitar", "overdriven guitar"),
            chords("X-x-x-x-X-x-x-x-", "X.x.x.xxX.x.x.xx", low=42, voices=3, detached=0.9),
            1.0,
        ),
        Chair(
            "melody",
            ("overdriven guitar",),
            melody("x---x---x---x---", "x-x-x---x-x-x---", low=62, high=82, scale="pentatonic", rest=0.3),
            -2.0,
            0.4,
        ),
    ),
    looseness=0.009,
    room_s=0.3,
)
