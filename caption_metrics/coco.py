"""The Java METEOR 1.5 and the CIDEr of pycocoevalcap, under names of their own.

They are another toolkit than the paper's, and their METEOR another number: 0.19 where NLTK's is 0.31. Neither may stand
in a table beside the other's values under one name. Both split captions with Stanford's PTBTokenizer, so both need
Java, 8 or later, beside the extra `coco`. The jars are those of pycocoevalcap 1.2; they are started from here and not
by its wrappers, which write into the installed package, and send what is not ASCII in the encoding of the terminal.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from lpmc_errors import LpmcError, MissingExtraError, TableError

JAVA_METEOR = "meteor_java_1.5"
CIDER = "cider"

_TOKENIZER_JAR = "stanford-corenlp-3.4.1.jar"
_METEOR_JAR = "meteor-1.5.jar"
_METEOR_MEMORY = "-Xmx2G"  # what pycocoevalcap gives it; the paraphrase table takes most
_ENCODING = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-Dstdin.encoding=UTF-8")
_SEPARATOR = "|||"  # between the fields of METEOR's protocol
_JAVA_REMEDY = "install a Java runtime, 8 or later (Debian: apt-get install default-jre-headless)"


@dataclass(frozen=True)
class CocoScores:
    """Scores of a corpus, the same of each caption (n,), and how they were made; all by name.

    `cider` is the mean of its captions (0 to 10). `meteor_java_1.5` is computed from statistics of the whole corpus and
    not the mean of its captions, which lies higher by about 0.003.
    """

    scores: dict[str, float]
    columns: dict[str, NDArray[np.float64]]
    signatures: dict[str, str]


def check_coco() -> None:
    """Raise `MissingExtraError` without pycocoevalcap or Java, before anything is computed."""
    _package()
    _java()


def coco_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> CocoScores:
    """Java METEOR 1.5 and CIDEr of captions with one or more references each; 2,839 pairs take about a minute.

    Nothing is random; every white space, line ends too, counts as a space. Raises `MissingExtraError` without
    pycocoevalcap or Java, `TableError` for a caption without a reference, and `LpmcError` when Java fails.
    """
    folder, java = _package(), _java()
    for row, texts in enumerate(references):
        if not texts:
            raise TableError(f"caption {row + 1}", "has no reference", "give at least one for every caption")
    said = _tokens(java, folder, predictions)
    flat = iter(_tokens(java, folder, [text for texts in references for text in texts]))
    written = [[next(flat) for _ in texts] for texts in references]
    if not said:
        return CocoScores({}, {}, {})
    meteor, meteor_rows = _java_meteor(java, folder, said, written)
    cider_rows = _cider(said, written)
    counts = {len(texts) for texts in references}
    version = metadata.version("pycocoevalcap")
    tokens = f"nrefs:{counts.pop() if len(counts) == 1 else 'var'}|tok:ptb-3.4.1|case:lower|punct:no-but-brackets"
    return CocoScores(
        {JAVA_METEOR: meteor, CIDER: float(np.mean(cider_rows))},
        {JAVA_METEOR: meteor_rows, CIDER: cider_rows},
        {
            JAVA_METEOR: f"{tokens}|meteor-1.5.jar|lang:en|norm|agg:corpus|pycocoevalcap:{version}",
            CIDER: f"{tokens}|cider-d|n:4|sigma:6|df:references|agg:mean|pycocoevalcap:{version}",
        },
    )


def _package() -> Path:
    spec = importlib.util.find_spec("pycocoevalcap")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        return Path(location)
    raise MissingExtraError("pycocoevalcap", extra="coco")


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise MissingExtraError("Java", f"is not installed; {JAVA_METEOR} and {CIDER} need it", _JAVA_REMEDY)
    return java


def _failed(program: str, errors: IO[bytes] | None = None) -> LpmcError:
    said = ""
    if errors is not None:
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().split("\n")[-1]
    return LpmcError(program, f"stopped: {said or 'without a word'}", _JAVA_REMEDY)


def _tokens(java: str, folder: Path, texts: Sequence[str]) -> list[str]:
    """The texts as lower-case tokens without punctuation, joined by spaces."""
    if not texts:
        return []
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS  # brackets stay: it lists them in capitals

    command = [java, *_ENCODING, "-cp", str(folder / "tokenizer" / _TOKENIZER_JAR)]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    lines = "".join(" ".join(text.replace(_SEPARATOR, " ").split()) + "\n" for text in texts)
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            command, input=lines.encode(errors="replace"), stdout=subprocess.PIPE, stderr=errors, check=False
        )
        split = done.stdout.decode().split("\n")
        if done.returncode or len(split) - 1 != len(texts):
            raise _failed("PTBTokenizer", errors)
    return [" ".join(word for word in line.split(" ") if word and word not in PUNCTUATIONS) for line in split[:-1]]


@contextmanager
def _meteor_process(java: str, folder: Path, errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    command = [java, *_ENCODING, _METEOR_MEMORY, "-jar", str(folder / "meteor" / _METEOR_JAR)]
    command += ["-", "-", "-stdio", "-l", "en", "-norm"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as process:
        try:
            yield process
        finally:
            process.kill()
            with suppress(BrokenPipeError):  # what it has not read
                assert process.stdin is not None
                process.stdin.close()


def _java_meteor(
    java: str, folder: Path, said: Sequence[str], written: Sequence[Sequence[str]]
) -> tuple[float, NDArray[np.float64]]:
    """METEOR of the corpus and of each caption."""
    with tempfile.TemporaryFile() as errors, _meteor_process(java, folder, errors) as process:

        def ask(*fields: str) -> None:
            assert process.stdin is not None
            process.stdin.write((f" {_SEPARATOR} ".join(fields) + "\n").encode(errors="replace"))
            process.stdin.flush()

        def answer() -> str:
            assert process.stdout is not None
            line = process.stdout.readline().decode().strip()
            if not line:
                raise _failed("Java METEOR 1.5", errors)
            return line

        try:
            statistics = []
            for prediction, texts in zip(said, written, strict=True):
                ask("SCORE", *texts, prediction)
                statistics.append(answer())
            ask("EVAL", *statistics)
            rows = np.array([float(answer()) for _ in statistics])
            return float(answer()), rows
        except (BrokenPipeError, ValueError):
            raise _failed("Java METEOR 1.5", errors) from None


def _cider(said: Sequence[str], written: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """CIDEr of each caption, with document frequencies of these references."""
    from pycocoevalcap.cider.cider import Cider

    numbered = range(len(said))
    _, rows = Cider().compute_score(
        {row: list(written[row]) for row in numbered}, {row: [said[row]] for row in numbered}
    )
    return np.asarray(rows, float)
