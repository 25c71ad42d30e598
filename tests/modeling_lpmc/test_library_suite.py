"""transformers' own common tests pass on the captioner, and each test that is left out is left out for a known reason.

They lie in the source distribution of the pinned release, which is fetched into build/ once; none of it is kept here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from interpreters import PROJECT, lacking, pinned

CASES = Path(__file__).parent / "library_suite_cases.py"
CASE_NAMES = ("LpmcModelTest", "LpmcFeatureExtractorTest", "LpmcProcessorTest")
FETCH_SECONDS, RUN_SECONDS = 120, 600
PASSED_AT_LEAST = {"LpmcModelTest": 98, "LpmcFeatureExtractorTest": 14, "LpmcProcessorTest": 12}
BY_HAND = "by hand: "

# Why the suite itself skips: words of its messages, and what they mean for this model.
REASONS = {
    r"requires (accelerator|multiple accelerators|MPS)$": "this machine has no such device; test_model_cuda.py has one",
    r"requires Flash Attention( \d)?$": "needs a GPU; flash attention is BART's own, inherited",
    r"requires (the kernels library|deepspeed|librosa|Torchcodec)$": "not installed, and not used by the model",
    r"^test is slow$": "flash against compiled decoding on a GPU",
    r"composite|No subconfigs|does not support SDPA$": "for models made of models; the last message means the same",
    r"RoPE": "positions are a table",
    r"sparse experts|output_router_logits|does not support grouped_mm": "no mixture of experts",
    r"TP plan": "one device holds it many times over",
    r"No conversion found": "checkpoints have the names of the model's own weights",
    r"sliding window|position embeddings$": "32 audio positions, a fixed sinusoidal table",
    r"does not propagate hidden states correctly": "an encoder-decoder names them encoder_ and decoder_hidden_states",
    r"_keep_in_fp32_modules": "none is set; the mel tables keep float32 by themselves",
    r"doesn't use `inputs_embeds`": "the test means embedded tokens of an encoder",
    r"No decoder-only language modeling head": "the head has an encoder; its double-shift test runs",
    r"chat template": "a captioner does not chat",
    r"(image|video)_processor attribute not present|doesn't support images": "audio and text only",
    r"_get_num_multimodal_tokens": "audio takes no places among the tokens",
}


@dataclass(frozen=True)
class Outcome:
    """One test: passed, skipped or failed, and the reason of a skip or failure."""

    case: str
    name: str
    result: str
    reason: str = ""


def _fetched() -> Path:
    """The unpacked source distribution of the pinned transformers."""
    version = pinned("transformers")
    cache = PROJECT / "build/library-suite"
    folder = cache / f"transformers-{version}"
    if not (folder / "tests/__init__.py").exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
        command += ["--no-binary", ":all:", "--dest", str(cache), f"transformers=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            lacking("library-suite", f"the source of transformers {version} cannot be fetched ({last})")
        with tarfile.open(cache / f"transformers-{version}.tar.gz") as archive:
            archive.extractall(cache, filter="data")
        (folder / "tests/__init__.py").touch()  # not in the distribution, and asked for by its tests
    return folder


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """What came of every test."""
    source = _fetched()
    report = tmp_path_factory.mktemp("suite") / "report.xml"
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "RUN_"))}
    variables |= {"PYTHONPATH": os.pathsep.join([str(source), str(PROJECT)]), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(source), "--noconftest"]
    command += ["-p", "no:cacheprovider", "-p", "no:warnings", f"--junitxml={report}", str(CASES)]
    done = subprocess.run(command, cwd=source, env=variables, capture_output=True, text=True, timeout=RUN_SECONDS)
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    return _read(report)


def _read(report: Path) -> list[Outcome]:
    found: dict[tuple[str, str], Outcome] = {}
    for test in ElementTree.parse(report).iter("testcase"):
        case, name = test.attrib["classname"].rsplit(".", 1)[-1], test.attrib["name"]
        said = {
            part.tag: part.attrib.get("message", "") for part in test if part.tag in ("failure", "error", "skipped")
        }
        failed = said.get("failure", said.get("error"))
        if failed is not None:
            outcome = Outcome(case, name, "failed", failed)
        elif "skipped" in said:
            outcome = Outcome(case, name, "skipped", said["skipped"])
        else:
            outcome = Outcome(case, name, "passed")
        earlier = found.get((case, name))  # its sub-tests stand there as tests of the same name
        if earlier is None or earlier.result == "passed" or outcome.result == "failed":
            found[case, name] = outcome
    return list(found.values())


def test_no_test_of_the_library_fails(outcomes):
    assert [f"{each.case}.{each.name}: {each.reason}" for each in outcomes if each.result == "failed"] == []


def test_as_many_pass_as_ever_did(outcomes):
    passed = Counter(each.case for each in outcomes if each.result == "passed")
    assert {case: passed[case] for case in CASE_NAMES if passed[case] < PASSED_AT_LEAST[case]} == {}


def test_what_the_suite_skips_is_skipped_for_a_known_reason(outcomes):
    skipped = [each for each in outcomes if each.result == "skipped" and not each.reason.startswith(BY_HAND)]
    unknown = [each for each in skipped if not any(re.search(pattern, each.reason) for pattern in REASONS)]
    assert unknown == []


def test_what_is_skipped_by_hand_is_what_the_table_says_and_no_more(outcomes):
    by_hand = [each for each in outcomes if each.reason.startswith(BY_HAND)]
    assert {each.result for each in by_hand} == {"skipped"}
    assert Counter(each.case for each in by_hand) == {"LpmcModelTest": 3, "LpmcProcessorTest": 13}
    assert all(len(each.reason) > len(BY_HAND) + 20 for each in by_hand)


@pytest.mark.parametrize(
    "name",
    [
        "test_encoder_decoder_loss_no_double_shift",
        "test_init_weights_can_init_buffers",
        "test_can_init_all_missing_weights",
        "test_tied_weights_keys",
        "test_batching_equivalence",
        "test_training_gradient_checkpointing",
        "test_can_set_attention_dynamically",
        "test_model_outputs_equivalence",
    ],
)
def test_the_tests_that_matter_most_for_this_model_ran(outcomes, name):
    assert [each.result for each in outcomes if each.name == name] == ["passed"]
