"""Slakh2100 (Manilow et al. 2019): 2,100 MIDI files of Lakh, each stem played by a sampled instrument, and mixed.

Files: `<split>/TrackNNNNN/metadata.yaml` and `mix.flac` with the folders `train`, `validation`, `test` (and `omitted`
in slakh2100_flac_redux, Zenodo 4599666), or the track folders alone, as BabySlakh has them. `root` is the folder that
holds them or the one above. No words are sung, and the instruments of every track are exactly known.

Traps: some MIDI files were rendered twice or more, in the original release in different splits: `UUID` names the MIDI
file and becomes `recording_id`, by which a split leak is found. The redux release omits such doublets, and so does this
reader by default. Stems with `audio_rendered: false` are not in the mix; BabySlakh says so of all stems, and there a
stem with a patch and a loudness counts. The patch that plays a stem does not always fit its MIDI program (an electric
piano may be played by a clavinet): `facts` names both, tags are of the program. The class of a program is no tag where
it would mislead: `Organ` for a harmonica, `Strings` for timpani, `Strings (continued)` for a choir.

Licence: CC BY 4.0 (the rights in Lakh's MIDI files are unclear).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from dataset_builder.tracks import TaggedTrack, sort_out_tags
from lpmc_errors import TableError, UsageError

from .bad_rows import ByChoice, OnSkip, leave_out

SOURCE = "slakh"
LICENCE = "CC BY 4.0"
WHERE = "unpack slakh2100_flac_redux.tar.gz (https://zenodo.org/records/4599666) there"
SPLITS = ("train", "validation", "test")
OMITTED = "omitted"  # of the redux release: what its authors took out, since its MIDI file is in a split already
SPLIT_CHOICES = ("folders", "original")
# The last track of each original split (slakh-utils, README).
_ORIGINAL_LAST = (("train", 1_500), ("validation", 1_875), ("test", 2_100))
LARGEST_FILE = 1 << 20  # bytes; a track's metadata are about 5 kB
DEEPEST = 8  # collections within each other; published are three

_TRACK = re.compile(r"Track(\d{5})")
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast; both build plain values
_VOICES = frozenset({52, 53, 54})  # Choir Aahs, Voice Oohs, Synth Voice: a mix with them is not plainly instrumental
_CLASS_MISLEADS = frozenset({21, 22, 23, 47, 52, 53, 54, 55})  # accordions, harmonica; timpani; choirs, orchestra hit
_NUMBERED = re.compile(r"\s*\d+$")  # Electric Piano 1
_FAMILY = re.compile(r"(?P<family>lead|pad|fx) \d+ \((?P<sound>.+)\)")
_FAMILIES = {"lead": "synth lead", "pad": "synth pad", "fx": "synth effect"}
_KIND = re.compile(r"(?P<instrument>.+) \((?P<kind>.+)\)")  # Electric Guitar (clean)


@dataclass(frozen=True)
class _Stem:
    """A stem that is in the mix, as metadata.yaml describes it."""

    name: str
    instrument_class: str
    program: str
    number: int | None
    is_drum: bool
    patch: str | None


def read_slakh(
    root: Path,
    *,
    split: Literal["folders", "original"] = "folders",
    omitted: bool = False,
    programs: bool = True,
    on_skip: OnSkip | None = None,
) -> Iterator[TaggedTrack]:
    """The tracks of Slakh2100, sorted by folder and name.

    `split=original` gives the splits of the first release by the tracks' numbers, wherever they lie; so has a track
    that lies in no split's folder. `omitted=true` reads the omitted doublets too, as the split `omitted`. Tags are the
    classes of the instruments, the names of their MIDI programs in plain words (not with `programs=false`) and
    `instrumental`. `on_skip` is told of each folder that cannot be used and of how many tracks were omitted. Raises
    `TableError` where there are no tracks and, without `on_skip`, for such a folder; `UsageError` for another split.
    """
    if split not in SPLIT_CHOICES:
        raise UsageError(f"split={split}", "is not known", f"choose {' or '.join(SPLIT_CHOICES)}")
    base = _base(root)
    seen: set[str] = set()
    left_out = 0
    for folder, folder_split in _track_folders(base):
        if folder_split == OMITTED and not omitted:
            left_out += 1
            continue
        try:
            if folder.name in seen:
                raise ValueError("is there a second time, in another split")
            name = folder_split if split == "folders" or folder_split == OMITTED else ""
            track = _track(folder, name or _original_split(folder.name), root, programs)
        except ValueError as error:
            leave_out(on_skip, folder, str(error), "unpack it again")
            continue
        seen.add(folder.name)
        yield track
    if not seen:
        raise TableError(root, "has no track that can be used", WHERE)
    if left_out and on_skip is not None:
        problem = f"{left_out} tracks were left out, whose MIDI files other tracks have; --set omitted=true takes them"
        on_skip(base / OMITTED, ByChoice(problem))


def _base(root: Path) -> Path:
    """The folder with the splits or tracks: `root` or the only such folder in it."""
    if not root.is_dir():
        raise TableError(root, "no such folder", WHERE)
    if _holds_tracks(root):
        return root
    found = [path for path in sorted(root.iterdir()) if path.is_dir() and _holds_tracks(path)]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise TableError(root, f"has {len(found)} folders of Slakh tracks ({names}), expected one", WHERE)
    return found[0]


def _holds_tracks(folder: Path) -> bool:
    return any(_TRACK.fullmatch(path.name) for path in folder.glob("Track*")) or any(
        _TRACK.fullmatch(path.name) for name in SPLITS for path in (folder / name).glob("Track*")
    )


def _track_folders(base: Path) -> Iterator[tuple[Path, str]]:
    """Each track's folder and the split that its place says; empty where it lies in no split's folder."""
    own = base.name if base.name in (*SPLITS, OMITTED) else ""
    for split in ("", *SPLITS, OMITTED):
        folder = base / split
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():  # `glob` passes over what it may not read
            if _TRACK.fullmatch(path.name) and path.is_dir():
                yield path, split or own


def _original_split(track_id: str) -> str:
    number = int(track_id.removeprefix("Track"))
    for split, last in _ORIGINAL_LAST:
        if 1 <= number <= last:
            return split
    raise ValueError(f"is no track of Slakh2100, which ends with Track{_ORIGINAL_LAST[-1][1]:05d}")


def _track(folder: Path, split: str, root: Path, programs: bool) -> TaggedTrack:
    """The track in `folder`. Raises `ValueError` where its metadata are not as published."""
    metadata = _metadata(folder / "metadata.yaml")
    uuid = metadata.get("UUID")
    if not isinstance(uuid, str) or not uuid:
        raise ValueError("metadata.yaml has no UUID, without which doublets in other splits can't be found")
    stems = _stems(metadata.get("stems"))
    if not stems:
        raise ValueError("metadata.yaml has no stem that was rendered")
    tags, dropped = sort_out_tags(_tags(stems, programs))
    mix = folder / "mix.flac"
    if not mix.exists() and mix.with_suffix(".wav").exists():  # slakh-utils converts to WAV
        mix = mix.with_suffix(".wav")
    return TaggedTrack(
        track_id=folder.name,
        tags=tags,
        split=split,
        source=SOURCE,
        licence=LICENCE,
        audio_path=mix.relative_to(root).as_posix(),
        extra={"recording_id": uuid, "facts": {"instruments": [_facts(stem) for stem in stems]}},
        dropped_tags=dropped,
    )


def _metadata(path: Path) -> dict[Any, Any]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"metadata.yaml has {path.stat().st_size} bytes, expected a few thousand")
        text = path.read_text("utf-8-sig")
        _check_depth(text)
        value = yaml.load(text, Loader=_LOADER)  # noqa: S506 (both loaders are the safe ones)
    except OSError as error:
        raise ValueError(f"metadata.yaml cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"metadata.yaml is not UTF-8 ({error.reason})") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ValueError(f"metadata.yaml is no valid YAML{line}") from error
    if not isinstance(value, dict):
        raise ValueError("metadata.yaml holds no mapping")
    return value


def _check_depth(text: str) -> None:
    """Raise `ValueError` for deep nesting, which libyaml's loader would follow until the process dies."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ValueError(f"metadata.yaml nests more than {DEEPEST} collections")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _stems(stems: Any) -> list[_Stem]:
    """The stems that are in the mix, in the order of their names. Raises `ValueError` for what is no stem."""
    if not isinstance(stems, dict) or not all(isinstance(stem, dict) for stem in stems.values()):
        raise ValueError("metadata.yaml has no mapping `stems` of stems")
    rendered = {str(name): stem for name, stem in stems.items() if stem.get("audio_rendered") is True}
    if not rendered:  # BabySlakh
        rendered = {
            str(name): stem
            for name, stem in stems.items()
            if _patch(stem) and isinstance(stem.get("integrated_loudness"), (int, float))
        }
    return [_stem(name, rendered[name]) for name in sorted(rendered)]


def _patch(stem: dict[Any, Any]) -> str | None:
    patch = stem.get("plugin_name")
    # The text `None` stands for none; a patch is named without its folder on the authors' machines.
    return re.split(r"[/\\]", patch)[-1] if isinstance(patch, str) and patch not in ("", "None") else None


def _stem(name: str, stem: dict[Any, Any]) -> _Stem:
    instrument_class, program, number = stem.get("inst_class"), stem.get("midi_program_name"), stem.get("program_num")
    if not isinstance(instrument_class, str) or not isinstance(program, str):
        raise ValueError(f"stem {name[:20]} has no inst_class and midi_program_name")
    return _Stem(
        name=name,
        instrument_class=instrument_class,
        program=program,
        number=number if isinstance(number, int) else None,
        is_drum=stem.get("is_drum") is True,
        patch=_patch(stem),
    )


def _facts(stem: _Stem) -> dict[str, Any]:
    return {
        "stem": stem.name,
        "class": stem.instrument_class,
        "program": stem.program,
        "program_number": stem.number,
        "is_drum": stem.is_drum,
        "patch": stem.patch,
    }


def _tags(stems: list[_Stem], programs: bool) -> Iterator[str]:
    classes = [stem for stem in stems if stem.is_drum or stem.number not in _CLASS_MISLEADS]
    yield from dict.fromkeys("drums" if stem.is_drum else _class_words(stem.instrument_class) for stem in classes)
    named = [stem for stem in stems if not stem.is_drum]
    if programs:
        yield from dict.fromkeys(program_words(stem.program) for stem in named)
    if not any(stem.number in _VOICES for stem in named):
        yield "instrumental"


def _class_words(name: str) -> str:
    return name.lower().removesuffix(" (continued)")


def program_words(name: str) -> str:
    """A General MIDI program in the words that people use: `Electric Bass (finger)` is a finger electric bass."""
    lowered = name.lower().strip()
    family = _FAMILY.fullmatch(lowered)
    if family:
        return f"{family['sound']} {_FAMILIES[family['family']]}"
    kind = _KIND.fullmatch(lowered)
    if kind:
        return f"{kind['kind']} {kind['instrument']}"
    return _NUMBERED.sub("", lowered)
