"""Genres of the rendered corpus that are played on electric and electronic instruments."""

from __future__ import annotations

from .rendered_composer import Chair, Genre, Mood
from .rendered_parts import bass, drums
from .rendered_parts_harmony import chords
from .rendered_parts_melody import melody
from .rendered_theory import MAJOR, MINOR

TECHNO = Genre(
    "techno",
    (
        Mood("hypnotic", MINOR, 124, 130, 0.4),
        Mood("dark", MINOR, 126, 134, 0.7),
        Mood("energetic", MINOR, 132, 142, 1.0),
    ),
    {MINOR: ("i i VI VII", "i i iv i", "i VI", "i i i VII", "i7 i7 v7 i7", "i i bII i", "i III VII i")},
    (
        Chair(
            "drums",
            ("drum machine", "electronic drums"),
            drums(
                kick=("X...X...X...X...", "X...X...X...X.x.", "X...X...X..xX..."),
                clap=("....x.......x...", "....x.......x..o"),
                open_hat=("..x...x...x...x.",),
                closed_hat=("x.x.x.x.x.x.x.x.", "xoxoxoxoxoxoxoxo"),
            ),
            1.0,
        ),
        Chair(
            "bass",
            ("synth bass",),
            bass("..r...r...r...r.", "..rr..rr..rr..rr", ".rrr.rrr.rr8.rrr", detached=0.7),
            -1.0,
        ),
        Chair(
            "chords",
            ("synth stab", "organ"),
            chords("..x.....~..~....", "...x..~..~.x..~.", "x..x..~.~.~x..~.", low=55, voices=3, detached=0.8),
            -7.0,
        ),
        Chair(
            "figure",
            ("synth lead", "synth pluck"),
            chords("1.?.?.?.1.?.?.?.", "1.?.?.?.?.?.?.?.", "1?????????????1?", low=67, voices=4, detached=0.7),
            -7.0,
        ),
    ),
    looseness=0.0,
    bars_per_chord=2,
    form="dance",
)

AMBIENT = Genre(
    "ambient",
    (
        Mood("calm", MAJOR, 56, 66, 0.2),
        Mood("melancholic", MINOR, 54, 64, 0.3),
        Mood("dreamy", MAJOR, 60, 76, 0.7),
    ),
    {
        MAJOR: (
            "Iadd9 IVmaj9",
            "Imaj9 vi7 IVmaj7 Vsus4",
            "Imaj7 IVmaj9 Imaj7 Vsus4",
            "Iadd9 iii7 IVmaj9 ii7",
            "Isus2 vi7 IVmaj7 Isus2",
        ),
        MINOR: ("iadd9 VImaj7", "i7 VImaj7 IIImaj7 VII", "iadd9 iv7", "i9 VImaj7 iv9 VII", "isus2 VII VImaj7 VII"),
    },
    (
        Chair("pads", ("synth pad", "sweep pad"), chords("x---------------", "x-----------", low=52, voices=4), 0.0),
        Chair("bass", ("strings",), chords("b---------------", "b-----------", low=55, voices=1), -6.0, 0.6),
        Chair(
            "melody",
            ("pan flute", "cello", "ocarina", "english horn"),
            melody("x---------------", "x-------x-------", "x-----------", low=60, high=79, rest=0.3),
            -2.0,
            0.35,
        ),
        Chair(
            "figure",
            ("bells", "harp", "piano", "vibraphone"),
            chords(
                "?-----?-?---?---",
                "?---?---?-------",
                "?---?-?---?---?-",
                "?-----?-----",
                "?---?---?---",
                low=64,
                voices=5,
                velocity=74,
            ),
            -4.0,
        ),
    ),
    metres=("4/4", "4/4", "3/4"),
    looseness=0.02,
    room_s=2.8,
    room_level=0.5,
    form="drift",
)

ROCK = Genre(
    "rock",
    (
        Mood("dark", MINOR, 96, 120, 0.3),
        Mood("uplifting", MAJOR, 108, 128, 0.6),
        Mood("energetic", MAJOR, 128, 156, 1.0),
    ),
    {
        MAJOR: ("I V vi IV", "I bVII IV I", "I IV V IV", "I IV vi V", "vi IV I V", "I IV iv I", "I IV bVII IV"),
        MINOR: ("i VII VI VII", "i VI III VII", "i iv VI VII", "i III IV VI", "i v VI VII"),
    },
    (
        Chair(
            "drums",
            ("power drums", "drums"),
            drums(
                ("snare", "snare", "high tom", "low tom"),
                crash=True,
                kick=("X.......X...~...", "X.....x.X.~.....", "X..~..x.X.x..~.."),
                snare=("....X.......X...", "....X.......X..o"),
                closed_hat=("x.x.x.x.x.x.x.x.",),
            ),
            0.0,
        ),
        Chair("percussion", ("tambourine",), drums(tambourine=("....x.......x...", "x.x.x.x.x.x.x.x.")), -12.0, 0.3),
        Chair("bass", ("bass guitar",), bass("r---r-~-r---r-~-", "r-r-~-r-r-r-~-r-", "r-r-r-~-r-~-8-5-"), -2.0),
        Chair(
            "chords",
            ("overdriven guitar",),
            chords("x-----~-x---~---", "x---x-~---x-x-~-", "X-~-x-~-X-~-x-x-", low=45, voices=4, strum=0.006),
            -2.0,
        ),
        Chair(
            "melody",
            ("overdriven guitar", "organ", "clean guitar"),
            melody(
                "x-------x---x---",
                "x---x-x-x-----x-",
                "x-x-x---x-x-x-x-",
                low=64,
                high=84,
                scale="pentatonic",
                rest=0.15,
            ),
            -1.0,
            0.85,
        ),
    ),
)

METAL = Genre(
    "metal",
    (
        Mood("dark", MINOR, 120, 146, 0.4),
        Mood("intense", MINOR, 146, 168, 0.7),
        Mood("aggressive", MINOR, 164, 192, 1.0),
    ),
    {
        MINOR: (
            "i5 i5 VI5 VII5",
            "i5 bII5 i5 VII5",
            "i5 VI5 III5 VII5",
            "i5 i5 iv5 bII5",
            "i5 III5 iv5 VII5",
            "i5 VII5 VI5 V5",
        )
    },
    (
        Chair(
            "drums",
            ("power drums",),
            drums(
                ("snare", "high tom", "mid tom", "low tom"),
                crash=True,
                kick=("X.x.X.x.X.x.X.x.", "XxxxXxxxXxxxXxxx", "XxxxXxxxXxxxXxxx"),
                snare=("....X.......X...", "....X.......X...", "..X...X...X...X."),
                ride=("x...x...x...x...", "x.x.x.x.x.x.x.x."),
            ),
            0.0,
        ),
        Chair("bass", ("bass guitar",), bass("r-~-r-~-r-~-r-r-", "r.~rr.r~r.~rr.~~", "rr~rr~rrr~rrr~rr"), -3.0),
        Chair(
            "chords",
            ("distorted guitar",),
            chords("X---~-x-X---x-~-", "X.~xX.x~X.xxX.~~", "X~x~X~xxX~xxX-X-", low=38, voices=3, detached=0.8),
            1.0,
        ),
        Chair(
            "melody",
            ("distorted guitar",),
            melody("x-------x-------", "x-x-x-x-x-x-x-x-", "xxxxxxxxxxxxxxxx", low=64, high=88, rest=0.25),
            -2.0,
            0.6,
        ),
    ),
    looseness=0.004,
    room_s=0.4,
)

REGGAE = Genre(
    "reggae",
    (
        Mood("mellow", MINOR, 66, 78, 0.2),
        Mood("laid-back", MAJOR, 70, 82, 0.5),
        Mood("happy", MAJOR, 80, 92, 0.9),
    ),
    {
        MAJOR: ("I IV I V", "I V vi IV", "I ii I ii", "I IV", "I vi ii V", "I IV V IV"),
        MINOR: ("i iv", "i VII VI VII", "i VII", "i v iv i", "i iv VII III"),
    },
    (
        Chair(
            "drums",
            ("drums",),
            drums(
                ("high tom", "high tom", "mid tom", "low tom"),
                kick=("........X.......", "........X.......", "X.......X......."),
                rim=("........X.......", "........X....o.."),
                closed_hat=("x.x.x.x.x.x.x.x.", "x.xox.x.x.xox.x."),
            ),
            -2.0,
        ),
        Chair(
            "bass",
            ("bass guitar",),
            bass("r---~.~-5---~-..", "r--~..5-~-5-~.r-", "~.r-~-3-5-~-r-3-", detached=0.8),
            2.0,
        ),
        Chair(
            "chords",
            ("clean guitar",),
            chords("....X..~....X..~", "..~.X.~...~.X.~.", low=57, voices=3, strum=0.006, detached=0.7),
            -3.0,
        ),
        Chair("bubble", ("organ",), chords("..x.~...~...x.~.", "..x.~.x.~.~.x.~.", low=55, voices=3), -6.0, 0.8),
        Chair(
            "melody",
            ("trombone", "harmonica", "trumpet", "saxophone"),
            melody("x---x-------....", "x-x-x---..x-x---", low=55, high=80, scale="pentatonic", rest=0.2),
            -1.0,
            0.8,
        ),
    ),
    swing=0.04,
    looseness=0.01,
)

HIP_HOP = Genre(
    "hip hop",
    (
        Mood("chill", MINOR, 76, 88, 0.3),
        Mood("laid-back", MAJOR, 80, 90, 0.5),
        Mood("dark", MINOR, 84, 98, 0.9),
    ),
    {
        MAJOR: ("Imaj7 vi7 ii7 V7", "Imaj7 IVmaj7", "ii7 V7 Imaj7 vi7", "Imaj7 iii7 ii7 iv6"),
        MINOR: (
            "i7 VImaj7",
            "i7 iv7",
            "i7 VImaj7 iv7 V7",
            "i7 VII VImaj7 VII",
            "i9 iv9 VII13 IIImaj7",
            "i7 iim7b5 V7b9 i7",
        ),
    },
    (
        Chair(
            "drums",
            ("drum machine", "electronic drums"),
            drums(
                kick=("X......x..x..~..", "X..~...~..x..~..", "X.~....x..x~..~."),
                snare=("....X.......X...", "....X..o....X..o"),
                closed_hat=("x.x.x.x.x.x.x.x.", "x.x.x.xxx.x.x.xx", "xxxxxxxxxxxxxxxx"),
            ),
            1.0,
        ),
        Chair(
            "bass",
            ("synth bass",),
            bass("r------~..r-~...", "r--~..~-..5-.~8.", "r-~.~..r-.~r~...", detached=0.95),
            1.0,
        ),
        Chair(
            "chords",
            ("electric piano", "piano", "vibraphone"),
            chords("x-----?-?-~-?---", "x--?--x-?-~-?-~-", "x-?~?-~-?.x-?~?-", low=55, voices=4),
            -4.0,
        ),
        Chair(
            "melody",
            ("flute", "synth pluck", "strings"),
            melody("x-----x-........", "x--x--x---......", low=67, high=86, scale="pentatonic", rest=0.1),
            -6.0,
            0.6,
        ),
    ),
    swing=0.08,
    looseness=0.006,
    room_s=0.3,
)
