"""Genres of the rendered corpus from the traditions of Europe and Asia."""

from __future__ import annotations

from .rendered_composer import Chair, Genre, Mood
from .rendered_parts import bass, drums
from .rendered_parts_harmony import arpeggio, chords, drone, tremolo
from .rendered_parts_melody import harmonised, melody, riff
from .rendered_theory import MAJOR, MINOR

CELTIC = Genre(
    "celtic",
    (
        Mood("longing", MINOR, 60, 80, 0.2),
        Mood("peaceful", MAJOR, 66, 86, 0.4),
        Mood("lively", MAJOR, 104, 124, 0.9),
        Mood("wild", MINOR, 112, 132, 1.0),
    ),
    {
        MAJOR: ("I IV I V", "I V vi IV", "I bVII I V", "I IV V I", "I ii V I"),
        MINOR: ("i VII i VII", "i VII VI VII", "i III VII i", "i v VI VII"),
    },
    (
        Chair(
            "drone", ("bagpipes",), drone("x---------------", "x-----------", "6/8 x-----------", low=57), -8.0, 0.35
        ),
        Chair(
            "melody",
            ("fiddle", "flute", "recorder", "bagpipes", "ocarina"),
            melody(
                "x---x-x-x---x---",
                "x-xxx-x-x-xxx-x-",
                "xxxxxxxxxxxxxxxx",
                "6/8 x---x-x-----",
                "6/8 x-x-x-x-x-x-",
                "6/8 xxx-x-xxx-x-",
                low=64,
                high=86,
                scale="modal",
                ornament=0.35,
            ),
            1.0,
        ),
        Chair(
            "chords",
            ("steel guitar", "harp"),
            chords(
                "b---x---b---x---",
                "b-x-xux-f-x-xuxu",
                "6/8 b---x-b---x-",
                "6/8 b-x-xux-xuxu",
                low=50,
                voices=4,
                strum=0.012,
            ),
            -3.0,
        ),
        Chair("second", ("accordion", "fiddle", "dulcimer"), harmonised(0, 0, -2), -4.0, 0.45),
        Chair(
            "percussion",
            ("bass drum",),
            drums(kick=("x..ox..ox..ox..o", "X.oxX.oxX.oxX.ox", "6/8 X.o.o.x.o.o.", "6/8 X.oxoxX.oxox")),
            -5.0,
            0.6,
        ),
        Chair("bass", ("double bass",), bass("r-------5-------", "r---5---r---5---", "6/8 r-----5-----"), -4.0, 0.3),
    ),
    metres=("4/4", "6/8"),
    looseness=0.009,
    room_s=0.9,
    room_level=0.18,
    solos=(
        (
            Chair("chords", ("harp",), chords("b-1-2-3-4-3-2-1-", "6/8 b-1-2-3-2-1-", low=52, voices=5), -2.0),
            Chair(
                "melody", ("harp",), melody("x---x-x-x-------", "6/8 x---x-x-----", low=67, high=88, scale="modal"), 0.0
            ),
        ),
    ),
)

KLEZMER = Genre(
    "klezmer",
    (
        Mood("nostalgic", MINOR, 68, 92, 0.2),
        Mood("playful", MINOR, 100, 124, 0.6),
        Mood("festive", MINOR, 124, 156, 1.0),
    ),
    {MINOR: ("i i iv i", "i iv V7 i", "i VII VI V7", "i V7 V7 i", "iv i V7 i")},
    (
        Chair(
            "bass",
            ("tuba", "double bass"),
            bass("r---5---r---5---", "r-..5-..r-..5-a-", "r---5---", detached=0.7),
            -1.0,
        ),
        Chair(
            "chords",
            ("accordion", "piano"),
            chords("..x-..x-..x-..x-", "..x-..xx..x-..xx", "..x-..x-", low=56, voices=3, detached=0.6),
            -4.0,
        ),
        Chair(
            "melody",
            ("clarinet", "fiddle"),
            melody(
                "x-----xxx---x---",
                "x-xxx-x-x-xxx---",
                "xxxxx-x-xxxxx-x-",
                "x-xxx-x-",
                "xxxxx-x-",
                low=60,
                high=86,
                scale="ukrainian",
                ornament=0.5,
            ),
            1.0,
        ),
        Chair("second", ("fiddle", "trumpet", "trombone"), harmonised(-2, -5), -5.0, 0.5),
        Chair(
            "drums",
            ("snare drum",),
            drums(snare=("..x...x...x...x.", "x.xxx.x.x.xxx.x.", "..x...x.", "x.xxx.x.")),
            -9.0,
            0.6,
        ),
    ),
    metres=("4/4", "2/4"),
    looseness=0.011,
    room_s=0.6,
)

BALKAN = Genre(
    "balkan",
    (
        Mood("passionate", MINOR, 100, 124, 0.2),
        Mood("lively", MINOR, 126, 150, 0.6),
        Mood("wild", MINOR, 148, 180, 1.0),
    ),
    {MINOR: ("i i iv V", "i VII VI V", "i iv i V", "i iv V i", "i V iv V")},
    (
        Chair("drums", ("snare drum",), drums(snare=("x...x...x.x.x.", "X.ooX.ooX.oXo.", "x..xx..xx..xx..x")), -6.0),
        Chair("drums", ("bass drum",), drums(kick=("X.....x.x.....", "X...X...X.....", "X...x...X...x...")), -4.0),
        Chair("bass", ("tuba",), bass("r---5---r-5---", "r-..5-..r-5-..", "r---5---r---5---", detached=0.7), 0.0),
        Chair(
            "chords",
            ("trombone", "french horn", "accordion"),
            chords("..x-..x-..x.x-", "..x...x...x.x.", "..x-..x-..x-..x-", low=53, voices=3, detached=0.6),
            -4.0,
        ),
        Chair(
            "melody",
            ("trumpet", "clarinet", "saxophone", "accordion"),
            melody(
                "x-x-x-x-x-x---",
                "xxx-xxx-xxx-x-",
                "xxxxxxxxxxxxx-",
                "x-x-xxx-x-xxx---",
                "xxxxxxx-xxxxxxx-",
                low=60,
                high=82,
                scale="ukrainian",
                ornament=0.4,
            ),
            1.0,
        ),
        Chair("second", ("trumpet", "clarinet"), harmonised(-2), -3.0, 0.7),
    ),
    metres=("7/8", "7/8", "4/4"),
    looseness=0.009,
    room_s=0.6,
)

CHINESE = Genre(
    "chinese",
    (
        Mood("peaceful", MAJOR, 56, 74, 0.2),
        Mood("elegant", MAJOR, 72, 92, 0.5),
        Mood("festive", MAJOR, 104, 132, 1.0),
    ),
    {MAJOR: ("Isus2 Vsus4 vi5 Isus2", "I5 vi5 ii5 V5", "Isus2 IVsus2 Vsus4 Isus2", "I5 V5")},
    (
        Chair(
            "melody",
            ("fiddle", "dulcimer", "ocarina", "flute"),
            melody(
                "x-------x-x-x---",
                "x---xxx-x---x---",
                "x-xxx-x-xxx-x---",
                low=65,
                high=88,
                scale="pentatonic",
                ornament=0.4,
            ),
            0.0,
        ),
        Chair(
            "plucked",
            ("koto", "harp"),
            arpeggio(4, 2, 1, low=60, octaves=2, orders=("up", "down", "up and down")),
            -3.0,
        ),
        Chair("echo", ("dulcimer",), tremolo(harmonised(0, 0, 7, scale="pentatonic"), every=1), -5.0, 0.5),
        Chair("bass", ("cello", "pizzicato strings"), bass("r-------5-------", "r---5---8---5---"), -4.0, 0.6),
        Chair(
            "percussion",
            ("woodblock",),
            drums(
                high_woodblock=("........x.......", "x...x...x.x.x..."),
                low_woodblock=("x...............", "..x...x.....x.x."),
            ),
            -10.0,
            0.5,
        ),
    ),
    looseness=0.014,
    room_s=1.2,
    room_level=0.2,
)

JAPANESE = Genre(
    "japanese",
    (
        Mood("meditative", MINOR, 52, 66, 0.1),
        Mood("mysterious", MINOR, 62, 80, 0.5),
        Mood("powerful", MINOR, 88, 116, 1.0),
    ),
    {MINOR: ("i5 i5 VI5 i5", "isus2 VI5", "i5 v5 VI5 i5", "i5 iv5 i5 VI5")},
    (
        Chair(
            "melody",
            ("shakuhachi", "shamisen"),
            melody(
                "x-----------x---",
                "x-------x---x---",
                "x---x-x-x---x-x-",
                low=62,
                high=81,
                scale="hirajoshi",
                rest=0.15,
                ornament=0.45,
            ),
            1.0,
        ),
        Chair(
            "plucked",
            ("koto", "shamisen"),
            riff(
                "1---?---1---?---",
                "1---?---1---?---",
                "1---?---1---?---",
                low=57,
                scale="hirajoshi",
                follow=False,
                detached=1.0,
            ),
            -2.0,
        ),
        Chair(
            "drums",
            ("taiko",),
            bass("r---------------", "r-------r-..r-r-", "r-rrr-r-r-rrrrrr", detached=0.9),
            0.0,
            0.6,
        ),
        Chair("percussion", ("woodblock",), drums(high_woodblock=("............x...", "x.......x...x.xx")), -10.0, 0.4),
    ),
    bars_per_chord=2,
    looseness=0.02,
    room_s=1.8,
    room_level=0.3,
    form="drift",
    solos=(
        (
            Chair(
                "melody",
                ("koto",),
                melody("x---x---x-------", "x-x-x---x-xxx---", low=60, high=84, scale="hirajoshi", ornament=0.3),
                0.0,
            ),
            Chair(
                "plucked",
                ("koto",),
                riff("1.......5.......", "1...5...8...5...", low=50, scale="hirajoshi", follow=False),
                -3.0,
            ),
        ),
    ),
)

INDIAN = Genre(
    "indian",
    (
        Mood("meditative", MINOR, 56, 72, 0.1),
        Mood("spiritual", MAJOR, 66, 88, 0.4),
        Mood("hypnotic", MINOR, 88, 116, 1.0),
    ),
    {MINOR: ("i5", "i5 i5 i5 VII5"), MAJOR: ("I5", "I5 I5 I5 II5")},
    (
        Chair(
            "drone",
            ("sitar",),
            drone(
                "2---1---1---1---", "2-1-1-1-2-1-1-1-", "2---1---1---1---1---", "2---1---1---1-", low=48, tones=(0, 7)
            ),
            -4.0,
        ),
        Chair(
            "melody",
            ("sitar", "shehnai", "shehnai", "flute", "violin"),
            melody(
                "x-----------x-x-",
                "x---x-x-x-------",
                "xxx-xxx-x-xxxxxx",
                "x-----x-x---x-x-----",
                "xxx-xxx-x-x-xxxxx-x-",
                "x---x-x-x-----",
                "xxx-x-xxx-x-xx",
                low=60,
                high=81,
                scale="lydian",
                rest=0.1,
                ornament=0.5,
            ),
            1.0,
        ),
        Chair(
            "percussion",
            ("bongos",),
            drums(
                high_bongo=("x..x..x.........", "x.xxx.x...x.x.xx", "x..x..x...x..x..x...", "x.xxx.x.x..x.x"),
                low_bongo=("..........x.x...", "..x...x.x..x....", "....x.......x.....x.", "..x...x...x..."),
            ),
            -4.0,
            0.8,
        ),
        Chair(
            "pad",
            ("slow strings", "organ"),
            drone("x---------------", "x-------------------", "x-------------", low=52, tones=(0, 7, 12)),
            -9.0,
            0.5,
        ),
    ),
    metres=("4/4", "4/4", "5/4", "7/8"),
    looseness=0.012,
    room_s=1.4,
    room_level=0.25,
    form="drift",
)
