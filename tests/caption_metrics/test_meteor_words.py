"""METEOR is NLTK's to the last bit on the words of NLTK 3.8.1, with data from installed packages."""

from __future__ import annotations

import hashlib
import json
import random

import pytest
from nltk.tokenize.punkt import PunktSentenceTokenizer
from nltk.translate.meteor_score import single_meteor_score
from random_texts import random_corpus, random_texts

from caption_metrics import language_data
from caption_metrics.language_data import load_punkt_parameters, load_synonyms, load_wordnet
from caption_metrics.meteor import Meteor, meteor_scores, word_tokenizer
from lpmc_errors import MissingExtraError

# SHA-256 of json.dumps of what nltk 3.8.1 made of `random_texts(3_000, seed=381)`: its NLTKWordTokenizer on each
# sentence of its PunktSentenceTokenizer with the parameters of `load_punkt_parameters`.
WORDS_OF_NLTK_3_8_1 = "bcd8abd26001f85756f1c41c1f755518dcc7a894c5e8b11363c148c4c47a18d6"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's sad. Really.", ["It", "'s", "sad", ".", "Really", "."]),
        ("a soft–loud song", ["a", "soft–loud", "song"]),  # later versions split at the dash
        ("rock'n roll", ["rock'n", "roll"]),
        ("the 'a' side", ["the", "'", "a", "'", "side"]),
        ("Mr. Smith plays. He sings.", ["Mr.", "Smith", "plays", ".", "He", "sings", "."]),
        ("a “song.” Then", ["a", "“", "song.", "”", "Then"]),  # later versions end a sentence at the quote
        ("Gonna cannot, wanna be.", ["Gon", "na", "can", "not", ",", "wan", "na", "be", "."]),
    ],
)
def test_words_are_split_as_nltk_3_8_1_does(text: str, words: list[str]) -> None:
    assert word_tokenizer()(text) == words


def test_three_thousand_odd_texts_are_split_as_nltk_3_8_1_does() -> None:
    split = word_tokenizer()
    texts = random_texts(3_000, seed=381)
    for _ in range(2):  # the second time from memory
        words = json.dumps([split(text) for text in texts])
        assert hashlib.sha256(words.encode()).hexdigest() == WORDS_OF_NLTK_3_8_1


def test_wordnet_is_read_with_its_offsets_right() -> None:
    wordnet = load_wordnet()
    assert wordnet.get_version() == "3.0"
    assert "A stringed instrument" not in wordnet.synsets("violin")[0].definition()
    assert "bowed stringed instrument" in wordnet.synsets("violin")[0].definition()
    assert {synset.name() for synset in wordnet.synsets("happily")} == {"happily.r.01", "happily.r.02"}


def test_synonyms_are_those_that_nltk_finds() -> None:
    wordnet, synonyms = load_wordnet(), load_synonyms()
    draw = random.Random(11)
    words = [word for word in wordnet.all_lemma_names() if "_" not in word]
    chosen = draw.sample(words, 1_500)
    chosen += [
        draw.choice(words) + draw.choice(("s", "es", "ed", "ing", "er", "est", "men", "ies")) for _ in range(500)
    ]
    chosen += ["Mice", "geese", "went", "better", "US", "", "a", "'s", "café", "galore", "children", "played", "reeves"]
    for word in chosen:
        expected = {name for synset in wordnet.synsets(word) for name in synset.lemma_names() if "_" not in name}
        assert synonyms(word) == expected, word


def test_the_splitter_knows_abbreviations() -> None:
    splitter = PunktSentenceTokenizer(load_punkt_parameters())
    assert splitter.tokenize("Dr. Dre raps. It is loud.") == ["Dr. Dre raps.", "It is loud."]


def test_the_splitters_parameters_do_not_grow_with_the_words_it_is_asked_for() -> None:
    known = len(load_punkt_parameters().ortho_context)
    word_tokenizer()("etc. Zyzzyva zyzzyx. Qwertyuiop asdf. Vs. Uiop.")
    assert len(load_punkt_parameters().ortho_context) == known


def test_scores_are_nltks_to_the_last_bit() -> None:
    """Texts of few words that are stems and synonyms of one another, so that every stage has choices to make."""
    families = ("happy", "glad", "felicitous", "kid", "kids", "child", "children", "song", "songs", "vocal", "call")
    families += ("strain", "melody", "tune", "air", "line", "play", "plays", "playing", "act", "the", "a", ",", "Happy")
    draw = random.Random(12)
    meteor, wordnet = Meteor(), load_wordnet()
    for _ in range(400):
        said, written = ([draw.choice(families) for _ in range(draw.randint(0, 25))] for _ in range(2))
        expected = single_meteor_score(written, said, wordnet=wordnet)
        assert meteor.score([word.lower() for word in said], [word.lower() for word in written]) == expected


def test_scores_of_odd_texts_are_nltks_with_the_best_of_several_references() -> None:
    predictions, references = random_corpus(150, seed=13)
    split, wordnet = word_tokenizer(), load_wordnet()
    expected = [
        max(single_meteor_score(split(text), split(said), wordnet=wordnet) for text in texts)
        for said, texts in zip(predictions, references, strict=True)
    ]
    assert meteor_scores(predictions, references) == expected


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


def test_wordnet_that_the_user_has_given_to_nltk_serves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    packaged, reader = load_synonyms(), load_wordnet()
    monkeypatch.setattr(language_data, "_packaged_wordnet_folder", lambda: None)
    monkeypatch.setattr(language_data, "load_wordnet", lambda: reader)  # what `nltk.download` brings, read by NLTK
    load_synonyms.cache_clear()
    try:
        words = ("happy", "mice", "plays", "galore")
        assert [load_synonyms()(word) for word in words] == [packaged(word) for word in words]
    finally:
        load_synonyms.cache_clear()


def test_absent_data_are_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_data, "_packaged_wordnet_folder", lambda: None)

    class Nowhere:
        def get_version(self) -> str:
            raise LookupError("wordnet")

    monkeypatch.setattr(language_data, "wordnet", Nowhere())
    load_wordnet.cache_clear()
    load_synonyms.cache_clear()
    try:
        with pytest.raises(
            MissingExtraError, match=r"WordNet 3.0: is not installed; pip install 'lp-musiccaps\[metrics\]'"
        ):
            load_synonyms()
    finally:
        load_wordnet.cache_clear()
        load_synonyms.cache_clear()
