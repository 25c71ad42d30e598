"""Rows of the captions table that the grammar wrote, checked as a model's captions are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from dataset_builder.captioning.backends.grammar import GRAMMAR, GRAMMAR_VERSION, grammar_caption
from dataset_builder.captioning.captions_table import CaptionRow, read_captions
from dataset_builder.captioning.parsing import attributes_in
from dataset_builder.faithfulness import CaptionCheck, check_caption
from dataset_builder.instructions import template_caption
from dataset_builder.tracks import TaggedTrack

MAX_DRAWS = 3  # as many as a model is asked: a tag may hold what no caption may ("label:", a title)

ModelRows = Mapping[tuple[str, str], CaptionRow]


def grammar_row(
    track: TaggedTrack, instruction: str, *, seed: int = 0, share_identical: bool = False, fallback: bool = True
) -> CaptionRow:
    """The row of one track for one instruction: `ok`, `skipped_no_tags`, or `rejected` when no draw passes the checks.

    With `share_identical` tracks of equal tags get equal captions. `fallback` puts the template in the place of a
    rejected caption, marked so. The row names `grammar` as backend, model and origin.
    """
    if not any(tag.strip() for tag in track.tags):
        reason = "the track has no tags"
        return CaptionRow(track.track_id, instruction, None, "skipped_no_tags", reason, backend=GRAMMAR)
    problems: tuple[str, ...] = ()
    for draw in range(MAX_DRAWS):
        variant = "" if share_identical else track.track_id
        written = grammar_caption(track.tags, instruction, seed=seed, variant=variant, attempt=draw)
        check = check_caption(written.text, track, written.new_attributes)
        if not check.problems:
            return _row(track, instruction, "ok", written.text, GRAMMAR, check, draw, seed, written.new_attributes)
        problems = check.problems
    caption = template_caption(track.tags) if fallback else None
    kept = CaptionCheck((), 1.0, ()) if fallback else None
    origin = "template" if fallback else None
    return _row(track, instruction, "rejected", caption, origin, kept, MAX_DRAWS - 1, seed, (), "; ".join(problems))


def _row(
    track: TaggedTrack,
    instruction: str,
    outcome: str,
    caption: str | None,
    origin: str | None,
    check: CaptionCheck | None,
    draw: int,
    seed: int,
    added: tuple[str, ...],
    reason: str | None = None,
) -> CaptionRow:
    return CaptionRow(
        track.track_id,
        instruction,
        caption,
        outcome,
        reason,
        origin,
        added,
        backend=GRAMMAR,
        provider="local",
        model_asked=GRAMMAR,
        model_answered=GRAMMAR,
        wording=GRAMMAR,
        wording_version=GRAMMAR_VERSION,
        attempts=draw + 1,
        seed=seed,
        new_attributes_used=attributes_in(caption, added) if caption else (),
        tag_coverage=check.tag_coverage if check else None,
        unsupported=check.unsupported if check else (),
        facts=check.facts if check else (),
        soft=check.soft if check else (),
    )


def model_rows(table: Path) -> dict[tuple[str, str], CaptionRow]:
    """The rows of a captions table that a language model wrote and that were kept, by track id and instruction.

    Raises `TableError`.
    """
    return {
        (row.track_id, row.instruction): row
        for row in read_captions(table)
        if row.outcome == "ok" and row.caption_origin == "model"
    }


def grammar_groups(
    tracks: Iterable[TaggedTrack],
    instructions: Collection[str],
    *,
    seed: int = 0,
    share_identical: bool = False,
    fallback: bool = True,
    keep: ModelRows = {},  # noqa: B006 - read only
) -> Iterator[list[CaptionRow]]:
    """The rows of one track after another, in the order of `instructions`; those in `keep` as they stand there."""
    for track in tracks:
        yield [
            keep.get((track.track_id, instruction))
            or grammar_row(track, instruction, seed=seed, share_identical=share_identical, fallback=fallback)
            for instruction in instructions
        ]
