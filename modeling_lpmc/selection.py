"""Which audio files a command works on: those below folders, by globs, and the share of one of several machines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path

from lpmc_errors import AudioError, UsageError
from modeling_lpmc.audio import AUDIO_SUFFIXES

_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """The share `number` of `of`, counted from 1. A file's share is drawn from its place below the folder alone.

    So the shares are the same on every machine that has the folder, whatever its place there, and other files that
    come or go change nothing; each file is in exactly one share. Shares of few files may differ in size.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `i/n`, such as 2/8. Raises `UsageError`."""
        found = _SHARD.fullmatch(text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard {text}", "is no share", "give i/n with i from 1 to n, such as 2/8")
        return cls(int(found[1]), int(found[2]))

    def has(self, place: str) -> bool:
        """Whether the file at `place`, its path below the folder with slashes, is in this share."""
        digest = blake2b(place.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"


@dataclass(frozen=True)
class Selection:
    """What is taken of a folder.

    A glob without a slash is matched with the file's name, another one with its path below the folder, where `*` also
    stands for slashes. A file is taken that matches one of `include` (all do if it is empty) and none of `exclude`.
    """

    recursive: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    shard: Shard | None = None

    def takes(self, place: str) -> bool:
        """Whether the globs take the file at `place`, its path below the folder with slashes."""
        name = place.rpartition("/")[2]

        def matches(glob: str) -> bool:
            return fnmatchcase(place if "/" in glob else name, glob)

        return (not self.include or any(map(matches, self.include))) and not any(map(matches, self.exclude))


EVERYTHING = Selection()


def find_audio(paths: Iterable[str | os.PathLike[str]], selection: Selection = EVERYTHING) -> list[Path]:
    """The audio files among `paths`: a folder stands for the audio files below it, in sorted order.

    A folder is searched by file name ending; hidden files and folders are left out. A path that is no folder is kept
    whatever the globs say, so that reading it can say what is wrong with it. Repetitions are removed. What another
    shard has is left out last, and may be all.

    Raises `AudioError` for a folder that holds no audio file, or none that the globs take, or that may not be read.
    """
    found: dict[Path, str] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            found.setdefault(path, path.name)
            continue
        below = sorted(_audio_below(path, selection.recursive))
        if not below:
            raise AudioError(path, "holds no audio file", "expected WAV, FLAC, MP3, Ogg, Opus, AIFF or M4A files")
        places = {file: file.relative_to(path).as_posix() for file in below}
        taken = {file: place for file, place in places.items() if selection.takes(place)}
        if not taken:
            told = f"holds {len(below)} audio files, and --include and --exclude leave none of them"
            raise AudioError(path, told, "quote the globs, and look whether they fit the names")
        for file, place in taken.items():
            found.setdefault(file, place)
    shard = selection.shard
    return [file for file, place in found.items() if shard is None or shard.has(place)]


def _audio_below(folder: Path, recursive: bool) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise AudioError(error.filename, "this folder cannot be read", "change its permissions") from error

    for where, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES:
                yield Path(where, name)
