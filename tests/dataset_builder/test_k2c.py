"""The K2C baseline with a real T5: small, with random weights, made here."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_builder.captioning.backends.k2c import K2CBackend
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault, Sampling
from dataset_builder.instructions import k2c_prompt
from lpmc_errors import ModelError

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

SENTENCES = (
    "rock| piano| slow tempo",
    "a calm song with a soft piano and a male voice",
    "techno| synthesizer| energetic| fast tempo",
    "an energetic techno track led by a synthesizer",
    "blues| harmonica| melancholic| acoustic guitar",
)
TAGS = [
    ("rock", "piano", "slow tempo"),
    ("techno",),
    ("blues", "harmonica", "melancholic", "acoustic guitar", "male voice"),
    ("synthesizer", "energetic"),
    ("calm", "soft piano"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 in the layout of the Hub. The weights are large enough that inputs lead to different outputs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    words = Tokenizer(models.WordLevel(unk_token="<unk>"))  # its training has no chance in it, Unigram's has
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<pad>", "</s>", "<unk>"]
    words.train_from_iterator(SENTENCES, trainers.WordLevelTrainer(special_tokens=special))
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )
    torch.manual_seed(3)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        initializer_factor=4.0,
        decoder_start_token_id=0,
        eos_token_id=1,
        pad_token_id=0,
    )
    path = tmp_path_factory.mktemp("k2c")
    T5ForConditionalGeneration(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def backend(folder: Path) -> K2CBackend:
    made = K2CBackend(str(folder), batch_size=2)
    asyncio.run(made.check())
    return made


def request(tags: tuple[str, ...], max_tokens: int = 12) -> CaptionRequest:
    return CaptionRequest("local", "m", k2c_prompt(tags), Sampling(max_tokens), "t")


def answers(backend: K2CBackend, requests: list[CaptionRequest]) -> list[Answer]:
    results = asyncio.run(backend.answer(requests))
    assert not [result for result in results if isinstance(result, Fault)]
    return [result for result in results if isinstance(result, Answer)]


def test_a_batch_answers_as_its_rows_do_alone_and_in_order(backend: K2CBackend) -> None:
    requests = [request(tags) for tags in TAGS]
    together = answers(backend, requests)
    assert together == [answers(backend, [one])[0] for one in requests]
    assert len({answer.text for answer in together}) > 1
    assert answers(backend, requests[::-1]) == together[::-1]


def test_requests_of_different_lengths_keep_their_order(backend: K2CBackend) -> None:
    requests = [request(tags, 4 + 4 * (number % 2)) for number, tags in enumerate(TAGS)]
    together = answers(backend, requests)
    assert together == [answers(backend, [one])[0] for one in requests]
    for one, answer in zip(requests, together, strict=True):
        assert answer.completion_tokens is not None
        assert answer.completion_tokens <= one.sampling.max_tokens


def test_tokens_are_counted_without_padding(backend: K2CBackend) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(backend.model)
    for tags, answer in zip(TAGS, answers(backend, [request(tags) for tags in TAGS]), strict=True):
        assert answer.prompt_tokens == len(tokenizer("| ".join(tags)).input_ids)
        if answer.finish_reason == "length":
            assert answer.completion_tokens == 12


@contextlib.contextmanager
def ending_sooner(backend: K2CBackend, by: float) -> Iterator[None]:
    """Raise the score of the end of the sentence in every step."""
    more = torch.zeros(backend._model.config.vocab_size)
    more[1] = by
    hook = backend._model.lm_head.register_forward_hook(lambda module, inputs, output: output + more)
    try:
        yield
    finally:
        hook.remove()


def test_a_row_that_ends_before_its_neighbour_is_counted_and_read_as_if_alone(backend: K2CBackend) -> None:
    requests = [request(tags) for tags in TAGS]
    uneven = 0
    for by in (0, 1, 2, 3, 4, 6, 8, 12):
        with ending_sooner(backend, by):
            together = answers(backend, requests)
            assert together == [answers(backend, [one])[0] for one in requests]
        uneven += sum(
            first.completion_tokens != second.completion_tokens
            for first, second in zip(together[0:4:2], together[1:4:2], strict=True)
        )
    assert uneven, "no batch held rows of different lengths: the test shows nothing"


def test_an_answer_that_ends_is_told_from_one_that_was_cut_off(backend: K2CBackend) -> None:
    cut_off = answers(backend, [request(TAGS[0], 2)])[0]
    assert (cut_off.finish_reason, cut_off.completion_tokens) == ("length", 2)
    with ending_sooner(backend, 1e4):
        ended = answers(backend, [request(tags) for tags in TAGS])
    assert {(answer.text, answer.finish_reason, answer.completion_tokens) for answer in ended} == {("", "stop", 1)}


def test_the_search_is_that_of_the_package_behind_the_baseline(backend: K2CBackend) -> None:
    search = {"num_beams": 4, "length_penalty": 1.5, "no_repeat_ngram_size": 3, "early_stopping": True}
    for by in (0, 4, 6, 8):
        with ending_sooner(backend, by):
            for tags in TAGS:
                ids = backend._tokenizer("| ".join(tags), return_tensors="pt").input_ids
                output = backend._model.generate(ids, max_new_tokens=12, **search)
                expected = backend._tokenizer.decode(output[0, 1:], skip_special_tokens=True)
                assert answers(backend, [request(tags)])[0].text == expected.strip()


def test_a_model_that_fails_is_a_fault_of_every_row_and_no_exception(folder: Path) -> None:
    broken = K2CBackend(str(folder))
    asyncio.run(broken.check())

    def fail(*inputs: object) -> None:
        raise RuntimeError("out of memory\nand a page of advice")

    broken._model.register_forward_pre_hook(fail)
    results = asyncio.run(broken.answer([request(tags) for tags in TAGS]))
    assert results == [Fault("refused", "the keyword-to-text model failed (out of memory)")] * len(TAGS)


@pytest.mark.parametrize("config", ["", "{}", '{"model_type": "gpt2"}'])
def test_a_folder_without_such_a_model_is_named(tmp_path: Path, config: str) -> None:
    if config:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match="cannot be loaded as a keyword-to-text model") as caught:
        asyncio.run(K2CBackend(str(tmp_path)).check())
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_in_a_model_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    copy = shutil.copytree(folder, tmp_path / "model")
    settings = json.loads((copy / "config.json").read_text())
    settings |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForSeq2SeqLM": "own.M"}}
    (copy / "config.json").write_text(json.dumps(settings))
    (copy / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError):
        asyncio.run(K2CBackend(str(copy)).check())
    assert not (tmp_path / "ran").exists()


def test_the_module_is_imported_without_torch() -> None:
    code = "import sys, dataset_builder.captioning.backends.k2c; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
