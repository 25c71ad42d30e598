"""Texts that tokenizers stumble over, drawn at random from a stated seed."""

from __future__ import annotations

import random

PLAIN = ("sad", "piano", "The", "kick-snare", "it's", "song.", "song,", "song", "a", "of", "guitar", "80s", "loud.")
ODD = (
    *("rock'n", "rock'n'roll", "It's,", "don't", "Mr.", "e.g.", "I", "can't", "cannot", "Gonna", "wanna", "wanna,"),
    *("'90s", "80's", "'tis", "d'ye", "more'n", 'loud."', '"sad"', "'sad'", "'", '"', "''", "``", "--", "a--b", "-"),
    *(
        "(",
        "(kick",
        ")",
        "snare)",
        "[x]",
        "{y}",
        "<z>",
        "...",
        "..",
        ".",
        "?!",
        "what?",
        "no!",
        "J.",
        "S.",
        "3.5",
        "3,5",
    ),
    *("bpm,", "10%", "$5", "#1", "@x", "&", "R&B", "r&b.", "*", "**a", "–", "a–b", "—", "“quoted”", "‘a’", "it’s", "…"),
    *(
        "«x»",
        "café",
        "naïve,",
        "日本",
        "\u00a0",
        "\u2028",
        "\x1c",
        "\x85",
        "e\u0301",
        "ſ",
        "K",
        "İ",
        "Σας",
        "😀",
        "etc.)",
    ),
    *(
        "vs.",
        "No.",
        "he'll",
        "HE'LL",
        "o'clock",
        "'em",
        "n't",
        "'s",
        "s'",
        ",",
        ",,",
        ":",
        ";",
        "a:b",
        "3:4",
        "x_y",
        "_",
    ),
    *(
        "0.5.",
        "U.S.A.",
        "p.m.",
        "The.",
        "...and",
        "(song.)",
        "song.”",
        "song.’",
        "!)",
        '?"',
        "\"'",
        "`",
        "^",
        "|",
        "\\",
    ),
    *(
        "a/b",
        "=",
        "\u200b",
        "\ufeff",
        "rock'",
        "'n'",
        "y'all",
        "lemme.",
        "gotta!",
        "song..",
        "song.?",
        "a.b",
        "1.",
        "x1.",
    ),
    *(
        "etc.,",
        "<skipped>",
        "&quot;a&quot;",
        "&amp;lt;",
        "5-6",
        "a-",
        "-b",
        "\0",
        "gonna-be",
        "1,",
        "a1-b2's,",
        "http://x.y",
    ),
)
BETWEEN = (*[" "] * 30, "  ", "\n", "\t", "\r\n", "", "-\n", "\r", " \n")


def random_text(draw: random.Random) -> str:
    """No, one or up to 21 pieces, two texts of five of usual ones only."""
    pieces = PLAIN if draw.random() < 0.4 else (*PLAIN, *ODD)
    return "".join(draw.choice(pieces) + draw.choice(BETWEEN) for _ in range(draw.choice((0, 1, 2, 3, 5, 8, 13, 21))))


def random_texts(number: int, seed: int) -> list[str]:
    """`number` of them."""
    draw = random.Random(seed)
    return [random_text(draw) for _ in range(number)]


def random_corpus(rows: int, seed: int, most: int = 3) -> tuple[list[str], list[list[str]]]:
    """Predictions, and for each one to `most` references that share pieces with it."""
    draw = random.Random(seed)
    predictions = [random_text(draw) for _ in range(rows)]
    references = []
    for prediction in predictions:
        texts = []
        for _ in range(draw.randint(1, most)):
            pieces = [*prediction.split(), *random_text(draw).split()]
            draw.shuffle(pieces)
            texts.append(" ".join(pieces[: draw.randint(0, len(pieces))]))
        references.append(texts)
    return predictions, references
