"""What the claims table learns from and is tested on; the one file that calls corpus, captioning and tokenizer.

    corpus/  tracks.parquet                 rendered clips, their facts and reference captions
    written.parquet (+ store, tracks)       the language model's captions of some tag sets
    pseudo.parquet                          those, and the grammar's captions for everything else
    k2c.parquet                             keyword-to-text captions of the same tag sets, if a model is given
    data/                                   the data set, by split: pretrain, written, reference_1/10/100
    tokenizer/                              one for all systems

Clips with a reference caption and clips with pseudo captions are disjoint, as MusicCaps and MSD are. Every step is kept
where its file stands; the language model's answers are kept one by one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.claims_plan import FRACTIONS, PSEUDO, REFERENCE, Sizes
from dataset_builder.captioning.backends.grammar import GRAMMAR_VERSION
from dataset_builder.captioning.captions_table import CaptionRow, read_captions
from dataset_builder.captioning.jobs import K2C
from dataset_builder.captioning.pseudo_caption import caption_tracks, caption_with_grammar, make_plan
from dataset_builder.instructions import INSTRUCTIONS, tag_concat_caption, template_caption
from dataset_builder.sources.options import read_source
from dataset_builder.sources.rendered import COMPOSER_VERSION
from dataset_builder.sources.rendered_fonts import find_soundfont
from dataset_builder.tracks import TaggedTrack, read_tracks, write_tracks
from lpmc_errors import LpmcError, TableError
from lpmc_files import atomic_path, write_json, write_text

CONFIG = "claims"
CORPUS_SEED = 7  # not that of the quickstart or of `lpmc_mini`
TRAINING_FONTS = ("default", "opl3")  # those that are installed
HELD_OUT_FONT = "fluid"  # shares no recording with them, as `csound` does with `default`; without it there is no `ood`
WORKERS = os.cpu_count() or 1  # processes that render; the same bytes with any number
WORDING = Path(__file__).with_name("claims_wording.yaml")
MODEL_BATCH = 48  # prompts; 2.6 to 3.0 answers a second of a core, where 16 give 1.8 to 2.3
TRAIN, TEST, OOD = "train", "test", "ood"

Bar = Callable[[str], Any]  # a context manager that gives `update(done, total, note)`
Say = Callable[[str], None]

_SCHEMA = pa.schema(
    [("track_id", pa.string())]
    + [(name, pa.string()) for name in (*PSEUDO, REFERENCE, "caption_tag_concat", "caption_template", "caption_k2c")]
    + [("written_by", pa.list_(pa.string())), ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))]
)


@dataclass(frozen=True)
class HeldOutClip:
    """A clip to be captioned: where it lies, its reference captions, and its tags, which are its exact facts."""

    track_id: str
    path: Path
    references: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """The data set and tokenizer of all runs, the clips of `test` and `ood`, and `facts` about them for the report."""

    dataset: Path
    tokenizer: Path
    clips: dict[str, tuple[HeldOutClip, ...]]
    facts: dict[str, Any]


def signature() -> dict[str, Any]:
    """What decides the material beside the sizes: versions of composer and grammar, and the SoundFonts at hand."""
    fonts, held_out = soundfonts()
    return {
        "composer": COMPOSER_VERSION,
        "grammar": GRAMMAR_VERSION,
        "corpus_seed": CORPUS_SEED,
        "soundfonts": list(fonts),
        "held_out_soundfont": held_out,
    }


def soundfonts() -> tuple[tuple[str, ...], str | None]:
    """The SoundFonts to train on that are installed, and the one to hold out; None where there is none."""

    def installed(name: str) -> bool:
        try:
            return find_soundfont(name).is_file()
        except LpmcError:
            return False

    return tuple(filter(installed, TRAINING_FONTS)), HELD_OUT_FONT if installed(HELD_OUT_FONT) else None


def make_material(folder: Path, sizes: Sizes, *, k2c: str | None, say: Say, bar: Bar) -> Material:
    """Make what is missing of the material in `folder`, and return it. `k2c` is a model directory or a Hub id.

    Raises the `LpmcError`s of the steps, `TableError` where the corpus or the language model gave too little.
    """
    tracks = list(_corpus(folder, sizes, say, bar))
    train = [track for track in tracks if track.split == TRAIN]
    if len(train) <= sizes.reference_clips + sizes.written_clips:
        raise TableError(folder / "corpus", f"has {len(train)} training clips", "render more clips, or ask for fewer")
    order = Random("claims: who gets a reference").sample(range(len(train)), len(train))
    references = [train[place] for place in order[: sizes.reference_clips]]
    chosen = set(order[: sizes.reference_clips])
    pretrain = [track for place, track in enumerate(train) if place not in chosen]
    asked = [train[place] for place in order[sizes.reference_clips :][: sizes.written_clips]]
    written = _written(folder, asked, say, bar)
    if not written:
        raise TableError(folder / "written.parquet", "holds no caption that was kept", "give the model more tag sets")
    pseudo = _pseudo(folder, pretrain, say, bar)
    keywords = _k2c(folder, k2c, say, bar) if k2c else {}
    splits = {f"reference_{name}": _references(references, share, folder) for name, share in FRACTIONS.items()}
    splits["pretrain"] = [_row(track, folder, pseudo.get(track.track_id, ())) for track in pretrain]
    splits["written"] = [
        _row(track, folder, written[track.track_id])
        | {
            "caption_tag_concat": tag_concat_caption(track.tags),
            "caption_template": template_caption(track.tags),
            "caption_k2c": keywords.get(track.track_id),
        }
        for track in asked
        if track.track_id in written
    ]
    clips = {
        name: tuple(_test_clip(track, folder) for track in [one for one in tracks if one.split == name][:number])
        for name, number in ((TEST, sizes.test_clips), (OOD, sizes.ood_clips))
    }
    facts = _facts(splits, asked, clips) | {"k2c": k2c and Path(k2c).name} | signature()
    _write_dataset(folder / "data", splits)
    return Material(folder / "data", _tokenizer(folder / "tokenizer", splits, sizes), clips, facts)


def _corpus(folder: Path, sizes: Sizes, say: Say, bar: Bar) -> Iterable[TaggedTrack]:
    table = folder / "tracks.parquet"
    if not table.is_file():
        fonts, held_out = soundfonts()
        options = [f"clips={sizes.clips}", f"seed={CORPUS_SEED}"]
        options += [f"soundfonts={','.join(fonts)}", f"workers={WORKERS}"]
        if held_out:
            options.append(f"held_out_soundfont={held_out}")
        say(f"rendering {sizes.clips} clips with {', '.join(fonts)}; held out: {held_out or 'no SoundFont'}")
        with bar("render") as update:
            found = read_source(
                "rendered", folder / "corpus", options, progress=lambda done, total: update(done, total, "")
            )
            write_tracks(found, table)
    return read_tracks(table)


def _written(folder: Path, asked: Sequence[TaggedTrack], say: Say, bar: Bar) -> dict[str, list[CaptionRow]]:
    """The captions that the language model wrote itself and that passed the checks, by track."""
    from dataset_builder.captioning.backends.local import LocalBackend

    output = folder / "written.parquet"
    if not output.is_file():
        write_tracks(asked, folder / "written-tracks.parquet")
        backend = LocalBackend(batch_size=MODEL_BATCH)
        say(f"{backend.model} writes {len(INSTRUCTIONS)} captions of {len(asked)} tag sets")
        with bar("language model") as update:
            caption_tracks(
                folder / "written-tracks.parquet",
                output,
                folder / "written.store.sqlite",
                backend,
                make_plan(backend, INSTRUCTIONS, wording=str(WORDING), fallback=False),
                lambda done, total: update(done.jobs, total, f"{done.answers} answers"),
            )
    return _kept(read_captions(output))


def _pseudo(folder: Path, pretrain: Sequence[TaggedTrack], say: Say, bar: Bar) -> dict[str, list[CaptionRow]]:
    output = folder / "pseudo.parquet"
    if not output.is_file():
        write_tracks(pretrain, folder / "pretrain-tracks.parquet")
        say("the grammars write what the language model did not")
        with bar("grammars") as update:
            caption_with_grammar(
                folder / "pretrain-tracks.parquet",
                output,
                INSTRUCTIONS,
                fallback=False,
                keep_from=folder / "written.parquet",
                on_progress=update,
            )
    return _kept(read_captions(output))


def _k2c(folder: Path, model: str, say: Say, bar: Bar) -> dict[str, str]:
    from dataset_builder.captioning.backends.k2c import K2CBackend

    output = folder / "k2c.parquet"
    if not output.is_file():
        backend = K2CBackend(model)
        say(f"{model} strings the same tags together")
        with bar("K2C") as update:
            caption_tracks(
                folder / "written-tracks.parquet",
                output,
                folder / "k2c.store.sqlite",
                backend,
                make_plan(backend, (K2C,)),
                lambda done, total: update(done.jobs, total, ""),
            )
    return {row.track_id: row.caption for row in read_captions(output) if row.caption and row.outcome == "ok"}


def _kept(rows: Iterable[CaptionRow]) -> dict[str, list[CaptionRow]]:
    found: dict[str, list[CaptionRow]] = {}
    for row in rows:
        if row.caption and row.outcome == "ok" and row.caption_origin != "template":
            found.setdefault(row.track_id, []).append(row)
    return found


def _row(track: TaggedTrack, folder: Path, captions: Iterable[CaptionRow] = ()) -> dict[str, Any]:
    rows = list(captions)
    own: dict[str, Any] = {f"caption_{row.instruction}": row.caption for row in rows}
    own["written_by"] = sorted({row.model_answered or row.model_asked or row.backend for row in rows})
    # By path: the clips are not copied. The trainer decodes them once into its cache.
    path = (folder / "corpus" / str(track.audio_path)).resolve()
    return {"track_id": track.track_id, **own, "audio": {"bytes": None, "path": str(path)}}


def _references(tracks: Sequence[TaggedTrack], share: float, folder: Path) -> list[dict[str, Any]]:
    """The first `share` of the tracks: smaller parts lie within larger ones."""
    some = tracks[: max(1, round(share * len(tracks)))]
    return [_row(track, folder) | {REFERENCE: track.reference_captions[0]} for track in some]


def _test_clip(track: TaggedTrack, folder: Path) -> HeldOutClip:
    return HeldOutClip(track.track_id, folder / "corpus" / str(track.audio_path), track.reference_captions, track.tags)


def _facts(
    splits: dict[str, list[dict[str, Any]]], asked: Sequence[TaggedTrack], clips: dict[str, tuple[HeldOutClip, ...]]
) -> dict[str, Any]:
    """Counts for the report: clips of each split, and captions of each by who wrote them."""
    writers = Counter(writer for row in splits["pretrain"] for writer in row["written_by"])
    return {
        "clips": {name: len(rows) for name, rows in splits.items()} | {name: len(own) for name, own in clips.items()},
        "tag_sets_asked": len(asked),
        "written_captions": {name: sum(bool(row.get(name)) for row in splits["written"]) for name in PSEUDO},
        "pretrain_clips_by_writer": dict(sorted(writers.items())),
    }


def _write_dataset(folder: Path, splits: dict[str, list[dict[str, Any]]]) -> None:
    """The splits as Parquet with a card that names them; a split that stands as it is keeps its file."""
    card = ["---", "configs:", f"- config_name: {CONFIG}", "  data_files:"]
    for split, rows in splits.items():
        name = f"{CONFIG}/{split}-00000-of-00001.parquet"
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)
        target = folder / name
        if not target.is_file() or not pq.read_table(target).equals(table):
            with atomic_path(target) as temporary:
                pq.write_table(table, temporary)
        card += [f"  - split: {split}", f"    path: {name}"]
    write_text(folder / "README.md", "\n".join([*card, "---", ""]))


def _tokenizer(folder: Path, splits: dict[str, list[dict[str, Any]]], sizes: Sizes) -> Path:
    """One tokenizer for all systems, trained on every training caption, so that none has the better vocabulary."""
    if not (folder / "trained.json").is_file():
        from modeling_lpmc.tokenizer import train_tokenizer

        columns = [name for name in _SCHEMA.names if name.startswith("caption_")]
        captions = [row[name] for rows in splits.values() for row in rows for name in columns if row.get(name)]
        train_tokenizer(captions, sizes.vocabulary).save_pretrained(folder)
        write_json(folder / "trained.json", {"captions": len(captions)})
    return folder
