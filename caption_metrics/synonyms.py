"""The synonyms of a word, straight from WordNet's files."""

from __future__ import annotations

from pathlib import Path

# Endings that are taken off or exchanged to find the entry of an inflected word, by part of speech: the "detachment
# rules" of WordNet's manual (morphy(7WN)), and NLTK's "ves".
_ENDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "noun": (
        ("s", ""),
        ("ses", "s"),
        ("ves", "f"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    "verb": (
        ("s", ""),
        ("ies", "y"),
        ("es", "e"),
        ("es", ""),
        ("ed", "e"),
        ("ed", ""),
        ("ing", "e"),
        ("ing", ""),
    ),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}


def _read(folder: Path, name: str) -> bytes:
    # The package's files have CRLF line ends, with which the byte offsets in them do not hold.
    return (folder / name).read_bytes().replace(b"\r\n", b"\n")


class _PartOfSpeech:
    """The entries and synsets of one part of speech, as bytes (WordNet's wndb(5WN))."""

    def __init__(self, folder: Path, name: str) -> None:
        self._endings = _ENDINGS[name]
        self._data = _read(folder, f"data.{name}")
        index = _read(folder, f"index.{name}").split(b"\n")
        self._entries = {line[: line.index(b" ")]: line for line in index if line and not line.startswith(b" ")}
        exceptions = (line.split() for line in _read(folder, f"{name}.exc").decode("ascii").split("\n"))
        self._exceptions = {words[0]: words[1:] for words in exceptions if words}

    def names(self, word: str) -> set[str]:
        """The names in every synset of `word`, or of the word that it is an inflection of."""
        forms = self._exceptions.get(word)
        if forms is None:
            forms = [word[: -len(old)] + new for old, new in self._endings if word.endswith(old)]
        found: set[str] = set()
        for form in (word, *forms):
            entry = self._entries.get(form.encode())
            if entry is not None:
                # lemma, part of speech, number of synsets, ..., one offset of 8 digits a synset
                fields = entry.split()
                for offset in fields[-int(fields[2]) :]:
                    found.update(self._synset(int(offset)))
        return found

    def _synset(self, offset: int) -> list[str]:
        # offset, file, type, number of words (two hexadecimal digits), then each word and a digit
        fields = self._data[offset : self._data.index(b"\n", offset)].decode("ascii").split(" ")
        count = int(fields[3], 16)
        return [name.split("(")[0] for name in fields[4 : 4 + 2 * count : 2]]  # "galore(ip)": where it may stand


class Synonyms:
    """`synonyms(word)`: the single-word names in all synsets of `word`. Holds WordNet's files, about 55 MB."""

    def __init__(self, folder: Path) -> None:
        self._parts = [_PartOfSpeech(folder, name) for name in _ENDINGS]

    def __call__(self, word: str) -> frozenset[str]:
        """Names with the case of the dictionary; empty for a word that it does not have."""
        word = word.lower()
        return frozenset(name for part in self._parts for name in part.names(word) if "_" not in name)
