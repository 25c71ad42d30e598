"""The Java METEOR and the CIDEr of pycocoevalcap keep names of their own, and say what they lack."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caption_metrics import coco
from caption_metrics.coco import CIDER, JAVA_METEOR, coco_scores
from caption_metrics.pairs import read_pairs
from lpmc_errors import LpmcError, MissingExtraError, TableError

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("pycocoevalcap") is None, reason="pycocoevalcap is not installed (extra `coco`)"
)
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java runtime is on this machine")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A pycocoevalcap without its jars."""
    folder = tmp_path / "pycocoevalcap"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer" / "ptbtokenizer.py").write_text("PUNCTUATIONS = ['.']\n")
    monkeypatch.syspath_prepend(tmp_path)
    _forget_the_package()
    yield folder
    _forget_the_package()


def _forget_the_package() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pycocoevalcap"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def test_the_package_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        MissingExtraError, match=r"^pycocoevalcap: is not installed; pip install 'lp-musiccaps\[coco\]'$"
    ):
        coco_scores(["a"], [["a"]])


def test_without_java_the_note_says_which_scores_need_it(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(package))
    with pytest.raises(
        MissingExtraError, match=r"^Java: is not installed; meteor_java_1.5 and cider need it; install a"
    ):
        coco_scores(["a"], [["a"]])


def test_a_java_that_fails_is_told_in_its_own_words(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = package / "java"
    java.write_text("#!/bin/sh\necho 'first line' >&2\necho 'Error: no room' >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(java))
    with pytest.raises(LpmcError, match=r"^PTBTokenizer: stopped: Error: no room; install a Java runtime"):
        coco_scores(["a"], [["a"]])
    with pytest.raises(LpmcError, match=r"^Java METEOR 1.5: stopped: Error: no room"):
        coco._java_meteor(str(java), package, ["a"], [["a"]])


def test_a_caption_without_a_reference_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "java")
    with pytest.raises(TableError, match="caption 2: has no reference"):
        coco_scores(["a", "b"], [["a"], []])


@needs_package
@needs_java
def test_scores_of_captions_of_any_text_and_any_number_of_references() -> None:
    predictions = ["a sad song", "", "x ||| y\u2028z", "日本 café (loud)", "nothing alike"]
    references = [["a sad song"], [""], ["x y z"], ["日本 café (loud)", ""], ["a happy tune", "some drums"]]
    scores = coco_scores(predictions, references)
    assert scores.columns[JAVA_METEOR].tolist()[:3] == [1.0, 0.0, 1.0]
    assert scores.columns[CIDER][4] == 0.0
    assert scores.columns[CIDER][3] > 4  # the mean over its references, one of them empty
    assert scores.scores[CIDER] == pytest.approx(scores.columns[CIDER].mean())
    assert set(scores.signatures) == {JAVA_METEOR, CIDER}
    assert all("nrefs:var|tok:ptb" in signature for signature in scores.signatures.values())


@needs_package
@needs_java
def test_java_meteor_of_published_captions_is_far_below_nltks(published_captions: Path) -> None:
    """0.1914 where NLTK's METEOR of the same 200 captions is above 0.3, the values of pycocoevalcap's own wrappers."""
    pairs = read_pairs(published_captions / "caption_writing" / "inference.json")[:200]
    scores = coco_scores([pair.prediction for pair in pairs], [pair.references for pair in pairs])
    assert scores.scores[JAVA_METEOR] == pytest.approx(0.19144310704169065, rel=1e-12)
    assert scores.scores[CIDER] == pytest.approx(0.3921991249226436, rel=1e-12)


def test_nothing_of_it_is_loaded_by_the_paper_block() -> None:
    program = "import sys, caption_metrics.paper_block; print([name for name in sys.modules if 'coco' in name])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
