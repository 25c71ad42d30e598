"""Genres of the rendered corpus made for the dance floor, by synthesizers and drum machines for the most part."""

from __future__ import annotations

from .rendered_composer import Chair, Genre, Mood
from .rendered_parts import bass, drums
from .rendered_parts_harmony import arpeggio, chords
from .rendered_parts_melody import harmonised, melody, riff
from .rendered_theory import MAJOR, MINOR

DISCO = Genre(
    "disco",
    (
        Mood("groovy", MINOR, 108, 116, 0.3),
        Mood("happy", MAJOR, 112, 122, 0.6),
        Mood("energetic", MINOR, 118, 130, 1.0),
    ),
    {
        MAJOR: ("Imaj7 iii7 IVmaj7 V7", "I vi7 ii7 V7sus4", "IVmaj7 iii7 vi7 ii7_V7", "I I7 IV iv6"),
        MINOR: ("i7 iv7 VII IIImaj7", "i7 i7 iv7 V7", "i7 VImaj7 iv7 V7sus4", "i9 IV9", "i7 VII VI V7"),
    },
    (
        Chair(
            "drums",
            ("drums",),
            drums(
                ("snare", "high tom", "mid tom", "low tom"),
                crash=True,
                kick=("X...X...X...X...",),
                snare=("....X.......X...", "....X.......X..o"),
                closed_hat=("x...x...x...x...", "xx..xx..xx..xx.."),
                open_hat=("..x...x...x...x.",),
            ),
            0.0,
        ),
        Chair("percussion", ("hand claps",), drums(clap=("....x.......x...",)), -9.0, 0.4),
        Chair(
            "percussion",
            ("congas",),
            drums(high_conga=("..x..xx...x..x~.",), low_conga=("x.......x...~...",)),
            -9.0,
            0.4,
        ),
        Chair(
            "bass",
            ("bass guitar", "slap bass"),
            bass("r-8-r-8-r-8-r-8-", "r.8.r.8.r.8.5.8.", "r.8.r.8?r.8.r?8a", detached=0.75),
            0.0,
        ),
        Chair(
            "chords",
            ("clean guitar",),
            chords("..x...x...x...x.", "~.xu~.xu~.xu~.xu", "xuxu.uxuxux..uxu", low=59, voices=3, detached=0.5),
            -5.0,
        ),
        Chair(
            "strings",
            ("strings", "synth strings"),
            chords("x---------------", "h-------h-----h.", low=64, voices=4),
            -6.0,
            0.85,
        ),
        Chair(
            "melody",
            ("strings", "brass", "saxophone", "flute"),
            melody("x-------x-x-x---", "x-x---x-x-x-----", "x-xxx-..x-xxx-..", low=66, high=86, rest=0.1),
            -1.0,
            0.8,
        ),
    ),
    room_s=0.7,
    form="dance",
)

HOUSE = Genre(
    "house",
    (
        Mood("relaxed", MINOR, 116, 120, 0.2),
        Mood("groovy", MINOR, 119, 126, 0.6),
        Mood("uplifting", MAJOR, 122, 130, 0.9),
    ),
    {
        MINOR: ("i7 i7 iv7 iv7", "i9 VImaj7", "i7 VII VI VII", "i7 v7 iv7 v7", "i9 iv9"),
        MAJOR: ("Imaj7 vi7 IVmaj7 V", "IVmaj7 V vi7 vi7", "vi7 IVmaj7 I V", "I IV vi7 V"),
    },
    (
        Chair(
            "drums",
            ("drum machine",),
            drums(
                kick=("X...X...X...X...",),
                clap=("....x.......x...", "....x.......x..o"),
                open_hat=("..x...x...x...x.",),
                closed_hat=("o.o.o.o.o.o.o.o.", "xoxoxoxoxoxoxoxo"),
            ),
            1.0,
        ),
        Chair("percussion", ("shaker",), drums(cabasa=("xoxoxoxoxoxoxoxo", "xoXoxoXoxoXoxoXo")), -11.0, 0.5),
        Chair(
            "bass",
            ("round synth bass", "synth bass"),
            bass("r..r..r.r..r..~.", "r.~r..r.~.r..8~.", "..r..r8...r~.5r.", detached=0.7),
            0.0,
        ),
        Chair(
            "chords",
            ("piano", "organ"),
            chords("x..x..x...x..x..", "..x..x..x..x.x..", "x..x..x.x..x~.x.", low=57, voices=4, detached=0.6),
            -3.0,
        ),
        Chair("pad", ("synth pad", "strings"), chords("x---------------", low=55, voices=4), -8.0, 0.6),
        Chair(
            "riff",
            ("marimba", "synth pluck", "vibraphone"),
            riff("x..?..?.x..?..?.", "?..?..x.?.?..?.?", low=66, scale="pentatonic"),
            -4.0,
            0.6,
        ),
    ),
    swing=0.03,
    looseness=0.002,
    form="dance",
)

TRANCE = Genre(
    "trance",
    (
        Mood("dreamy", MAJOR, 128, 134, 0.3),
        Mood("uplifting", MINOR, 134, 140, 0.7),
        Mood("energetic", MINOR, 138, 146, 1.0),
    ),
    {
        MINOR: ("i VI III VII", "i VI iv VII", "VI VII i i", "i VII VI VII", "i III VII iv"),
        MAJOR: ("I V vi IV", "vi IV I V", "IV I V vi"),
    },
    (
        Chair(
            "drums",
            ("electronic drums", "drum machine"),
            drums(crash=True, kick=("X...X...X...X...",), clap=("....x.......x...",), open_hat=("..X...X...X...X.",)),
            0.0,
        ),
        Chair(
            "bass", ("synth bass",), bass("..r...r...r...r.", "..rr..rr..rr..rr", ".rrr.rrr.rrr.rrr", detached=0.6), 0.0
        ),
        Chair("arpeggio", ("arpeggiator",), arpeggio(2, 1, 1, low=62, octaves=2, detached=0.7), -3.0),
        Chair("pad", ("synth pad", "synth strings"), chords("x---------------", low=55, voices=4), -6.0),
        Chair(
            "melody",
            ("synth lead",),
            melody("x-------x---x---", "x--x--x-x--x--x-", "x-x-x-x-x-x-x-x-", low=67, high=86),
            -1.0,
            0.75,
        ),
    ),
    bars_per_chord=1,
    looseness=0.0,
    room_s=1.8,
    room_level=0.25,
    form="dance",
)

DRUM_AND_BASS = Genre(
    "drum and bass",
    (
        Mood("atmospheric", MINOR, 166, 172, 0.2),
        Mood("dark", MINOR, 170, 176, 0.6),
        Mood("energetic", MINOR, 172, 180, 1.0),
    ),
    {MINOR: ("i7 VImaj7", "i i VI VII", "i9 iv9", "i VII VI VI", "i bII i VII")},
    (
        Chair(
            "drums",
            ("electronic drums", "drums"),
            drums(
                ("snare", "snare", "mid tom", "low tom"),
                kick=("X.........X.....", "X.........X..~..", "X.~.......X...~."),
                snare=("....X.......X...", "....X..o.o..X...", "....X..o.o..X..o"),
                closed_hat=("x.x.x.x.x.x.x.x.", "x.xxx.x.x.xxx.xx"),
            ),
            2.0,
        ),
        Chair(
            "bass",
            ("synth bass", "round synth bass"),
            bass("r---------5-----", "r-----r---~-7-5-", "r--r--8-..r-~.5a"),
            1.0,
        ),
        Chair("pad", ("synth pad", "sweep pad", "synth strings"), chords("x---------------", low=57, voices=4), -5.0),
        Chair(
            "figure",
            ("electric piano", "piano", "synth pluck"),
            chords("?...~.?...~...?.", "?..?..?.~..?..~.", low=64, voices=4),
            -6.0,
            0.7,
        ),
        Chair(
            "melody",
            ("synth lead", "square lead"),
            melody("x-------........", "x---x---x-x-....", low=67, high=84, rest=0.2),
            -4.0,
            0.5,
        ),
    ),
    bars_per_chord=2,
    looseness=0.003,
    room_s=0.9,
    form="dance",
)

DUBSTEP = Genre(
    "dubstep",
    (
        Mood("mysterious", MINOR, 136, 140, 0.2),
        Mood("dark", MINOR, 138, 142, 0.5),
        Mood("aggressive", MINOR, 140, 146, 1.0),
    ),
    {MINOR: ("i i VI VII", "i i i bII", "i i iv i", "i VI i VII")},
    (
        Chair(
            "drums",
            ("electronic drums", "drum machine"),
            drums(
                crash=True,
                kick=("X.........~.....", "X.....~...x.....", "X..x..~...x.~..."),
                snare=("........X.......", "........X.......", "........X.....o."),
                closed_hat=("x..x..x.x..x..x.", "x.xxx.x.x.xxx.xx"),
            ),
            2.0,
        ),
        # A wobble: one note cut into a rhythm that changes its speed.
        Chair(
            "bass", ("synth bass",), bass("r-------------~-", "r-r-r-rrr-r-rrrr", "rrr.rrr.rrrrr8rr", detached=0.8), 4.0
        ),
        Chair(
            "growl",
            ("synth brass", "synth stab"),
            riff("x-....?-..x.....", "xx.x..?.xx.?..??", low=48, detached=0.7),
            -4.0,
            0.7,
        ),
        Chair(
            "figure",
            ("bells", "synth pluck", "music box"),
            chords("?.....?.....?...", "?..?..?...?..?..", low=67, voices=4),
            -5.0,
            0.8,
        ),
        Chair("pad", ("sweep pad", "synth strings"), chords("x---------------", low=52, voices=3), -9.0, 0.6),
    ),
    bars_per_chord=1,
    looseness=0.0,
    room_s=1.2,
    form="dance",
)

TRAP = Genre(
    "trap",
    (
        Mood("dreamy", MAJOR, 64, 70, 0.3),
        Mood("dark", MINOR, 66, 74, 0.6),
        Mood("confident", MINOR, 70, 80, 1.0),
    ),
    {
        MINOR: ("i VI", "i i VI VII", "i iv", "i VI iv V", "i i bII i"),
        MAJOR: ("Imaj7 vi7", "IVmaj7 iii7 vi7 vi7", "I iii"),
    },
    (
        Chair(
            "drums",
            ("drum machine",),
            drums(
                kick=("X......~..x.....", "X..~...x..x...~."),
                snare=("........X.......", "........X......o"),
                # The hi-hats rattle: at this tempo sixteenths are the fast ones.
                closed_hat=("x.x.x.x.x.x.x.x.", "x.x.x.xxx.x.xxxx", "xxxxx.xxxxxxxx.x"),
                open_hat=("..............x.", "......x........."),
            ),
            1.0,
        ),
        Chair(
            "bass",
            ("round synth bass",),
            bass("r---------r-----", "r------r--~-----", "r------r--8---5-", detached=1.0),
            4.0,
        ),
        Chair(
            "figure",
            ("music box", "bells", "piano", "celesta"),
            chords("?...?...?...?...", "?..?..?.?..?..?.", "?.??..?.?.??..?.", low=69, voices=4),
            -2.0,
        ),
        Chair(
            "pad", ("synth strings", "strings", "synth pad"), chords("x---------------", low=55, voices=3), -7.0, 0.7
        ),
        Chair(
            "melody",
            ("pan flute", "flute", "synth lead"),
            melody("x-----x-........", "x---x-x---......", low=67, high=86, scale="harmonic", rest=0.15),
            -3.0,
            0.5,
        ),
    ),
    looseness=0.0,
    room_s=0.8,
    form="dance",
)

SYNTHWAVE = Genre(
    "synthwave",
    (
        Mood("nostalgic", MAJOR, 80, 92, 0.2),
        Mood("dreamy", MINOR, 88, 104, 0.5),
        Mood("futuristic", MINOR, 100, 118, 0.9),
    ),
    {
        MINOR: ("i VI III VII", "i VII VI VI", "VI VII i i", "i iv VI V", "i III VII VI"),
        MAJOR: ("I V vi IV", "IVmaj7 V iii7 vi", "I vi IV iv", "I bVII IV I"),
    },
    (
        Chair(
            "drums",
            ("electronic drums",),
            drums(
                ("high tom", "high tom", "mid tom", "low tom"),
                crash=True,
                kick=("X.......X.......", "X...X...X...X..."),
                snare=("....X.......X...",),
                closed_hat=("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx"),
            ),
            0.0,
        ),
        Chair(
            "bass",
            ("synth bass", "round synth bass"),
            bass("r.r.r.r.r.r.r.r.", "rrrrrrrrrrrrrrrr", "rr8rrr8rrr8rrr8r", detached=0.7),
            1.0,
        ),
        Chair("pad", ("synth pad", "synth strings"), chords("x---------------", low=54, voices=4), -3.0),
        Chair("arpeggio", ("arpeggiator",), arpeggio(2, 2, 1, low=64, octaves=2, detached=0.7), -6.0, 0.8),
        Chair("stabs", ("synth brass",), chords("x-----x-........", "x--x--x-....x-x-", low=58, voices=3), -5.0, 0.5),
        Chair(
            "melody",
            ("synth lead", "square lead"),
            melody("x-----------x---", "x-----x-x-------", "x--x--x-x--x--x-", low=64, high=84),
            -1.0,
            0.8,
        ),
    ),
    looseness=0.0,
    room_s=1.6,
    room_level=0.25,
)

CHIPTUNE = Genre(
    "chiptune",
    (
        Mood("mysterious", MINOR, 100, 126, 0.3),
        Mood("playful", MAJOR, 124, 150, 0.7),
        Mood("adventurous", MINOR, 140, 172, 1.0),
    ),
    {
        MAJOR: ("I IV V I", "I bVII bVI V", "I vi IV V", "I V/V V I", "I iii IV iv"),
        MINOR: ("i VI VII i", "i VII VI V", "i iv VII III", "i i bII V"),
    },
    (
        Chair(
            "drums",
            ("electronic drums",),
            drums(
                kick=("X...X...X...X...", "X..xX...X..xX..."),
                snare=("....x.......x...", "....x..x....x.xx"),
                closed_hat=("..x...x...x...x.",),
            ),
            -5.0,
            0.8,
        ),
        Chair("bass", ("square lead",), riff("1.1.5.5.1.1.5.5.", "1.8.1.8.5.8.1.8.", low=48, detached=0.7), -4.0),
        # Chords that one voice of a sound chip has to play: very fast arpeggios.
        Chair(
            "arpeggio",
            ("arpeggiator",),
            arpeggio(2, 1, 1, low=60, octaves=1, orders=("up", "broken"), detached=0.8),
            -5.0,
        ),
        Chair(
            "melody",
            ("square lead",),
            melody(
                "x---x-x-x---x---", "x-xxx-x-x-xxx---", "x-x-xxx-xxx-x-x-", low=69, high=91, detached=0.8, ornament=0.1
            ),
            0.0,
        ),
        Chair("second", ("square lead",), harmonised(-2, -5), -5.0, 0.4),
    ),
    looseness=0.0,
    room_s=0.0,
    room_level=0.0,
)
