"""The tokenizer that is trained on captions: BART's ids, any text back unchanged, the same tokenizer every time."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_captioner import CAPTIONS

from lpmc_errors import ModelError
from modeling_lpmc import load_tokenizer, train_tokenizer

TEXTS = [
    "It 's a mellow song , isn't it ?  Two  spaces,\na line.",
    "Fado: saudade, guitarra portuguesa — 雅楽 🎻 \u0301",
    "this ends </s> not <s> here <pad><unk><mask>",
    " leading and trailing ",
    "",
]


def test_ids_lie_where_bart_has_them_and_captions_are_framed() -> None:
    tokenizer = train_tokenizer(CAPTIONS, vocab_size=300)
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4]) == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (
        0,
        1,
        2,
        3,
    )
    ids = tokenizer(CAPTIONS[0])["input_ids"]
    assert (ids[0], ids[-1]) == (0, 2)
    cut = tokenizer(CAPTIONS[0], truncation=True, max_length=6)["input_ids"]
    assert len(cut) == 6
    assert cut[-1] == 2, "a caption that is cut still ends"


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_unchanged_even_after_saving(text: str, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(CAPTIONS, vocab_size=300)
    tokenizer.save_pretrained(tmp_path)
    for each in (tokenizer, load_tokenizer(tmp_path).tokenizer):
        ids = each(text)["input_ids"]
        assert not {0, 1, 2, 3, 4} & set(ids[1:-1]), "text must not become a special token"
        assert each.decode(ids, skip_special_tokens=True) == text


def test_the_vocabulary_is_as_large_as_asked_if_there_is_enough_to_merge() -> None:
    assert len(train_tokenizer(CAPTIONS, vocab_size=300)) == 300
    frequent = train_tokenizer(["guitar guitar guitar"] * 9, vocab_size=300)
    assert len(frequent.tokenize(" guitar")) == 1


def test_two_processes_train_the_same_tokenizer() -> None:
    program = (
        "import hashlib, sys; from modeling_lpmc import train_tokenizer;"
        "t = train_tokenizer(sys.argv[1:] * 50, vocab_size=320);"
        "print(hashlib.sha256(t.backend_tokenizer.to_str().encode()).hexdigest())"
    )
    ours = train_tokenizer(CAPTIONS * 50, vocab_size=320).backend_tokenizer.to_str()
    environment = os.environ | {"PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", program, *CAPTIONS],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == hashlib.sha256(ours.encode()).hexdigest()


def test_a_tokenizer_that_cannot_be_had_is_replaced_and_this_is_said(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.WARNING):
        loaded = load_tokenizer("nobody/has-this-tokenizer", CAPTIONS, vocab_size=300)
    assert loaded.source == "trained"
    assert "nobody/has-this-tokenizer" in caplog.text
    loaded.tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path, ["other captions"])
    assert again.source == str(tmp_path)
    assert again.tokenizer.get_vocab() == loaded.tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: train_tokenizer(CAPTIONS, vocab_size=260), "260 is too small"),
        (lambda: train_tokenizer(["", "  "]), "no captions"),
        (lambda: load_tokenizer("nobody/has-this-tokenizer"), "no tokenizer could be loaded"),
        (lambda: load_tokenizer(), "neither"),
    ],
)
def test_what_cannot_work_is_one_line_to_the_user(call: object, problem: str) -> None:
    with pytest.raises(ModelError, match=problem) as raised:
        call()  # type: ignore[operator]
    assert "\n" not in str(raised.value)
