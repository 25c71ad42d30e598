"""A small corpus with its captions, as the earlier steps of the pipeline hand them over. Made here, word by word."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from dataset_builder.captioning.captions_table import CaptionRow, write_captions
from dataset_builder.tracks import TaggedTrack, write_tracks

INSTRUCTIONS = ("writing", "summary", "paraphrase", "attribute_prediction")
SPLITS = ("train", "valid", "test", "")  # the last has none and goes to train
ARTISTS = ("An artist", "Another artist", "A third artist", "An artist")  # none in training and evaluation
PIPELINE = {"model": "/home/someone/models/small.gguf", "temperature": 0.0, "instructions": list(INSTRUCTIONS)}


@dataclass(frozen=True)
class Corpus:
    """Where the two tables and the audio lie, and what is in them."""

    tracks: Path
    captions: Path
    audio: Path
    tagged: list[TaggedTrack]
    rows: list[CaptionRow]


def tracks(count: int, *, source: str = "fma", licence: str = "CC BY 4.0") -> list[TaggedTrack]:
    """`count` tracks `t0`, `t1`, ... whose splits take turns and whose audio is `clips/<id>.wav`."""
    return [
        TaggedTrack(
            f"t{number}",
            ("rock", "piano", f"mood {number}"),
            split=SPLITS[number % len(SPLITS)],
            source=source,
            licence=licence,
            audio_path=f"clips/t{number}.wav",
            title=f"Title {number}",
            artist=ARTISTS[number % len(SPLITS)],
            album="An album",
            year=2000 + number,
        )
        for number in range(count)
    ]


def captions(tagged: Iterable[TaggedTrack], instructions: Iterable[str] = INSTRUCTIONS) -> list[CaptionRow]:
    """One good caption for every (track, instruction)."""
    return [
        CaptionRow(
            track.track_id,
            instruction,
            f"A {instruction} of {', '.join(track.tags)}.",
            "ok",
            caption_origin="model",
            new_attributes=("loud", "live") if instruction == "attribute_prediction" else (),
            request_key=f"key-{track.track_id}-{instruction}",
            backend="local",
            model_asked="/home/someone/models/small.gguf",
            model_answered="/home/someone/models/small.gguf",
            wording="small",
            wording_version="0123456789ab",
            parser_version="1",
            prompt_tokens=100,
            completion_tokens=20,
            attempts=1,
            tag_coverage=1.0,
        )
        for track in tagged
        for instruction in instructions
    ]


def with_failures(rows: list[CaptionRow]) -> list[CaptionRow]:
    """`rows` with two of the first track's answers gone wrong: one without a caption, one replaced by a template."""
    failed = replace(rows[1], caption=None, outcome="parse_failed", reason="no dictionary in /tmp/x/answer.txt")
    replaced = replace(rows[2], caption="a plain sentence", outcome="rejected", caption_origin="template")
    return [rows[0], replace(failed, caption_origin=None, tag_coverage=None), replaced, *rows[3:]]


def write_corpus(
    folder: Path, tagged: list[TaggedTrack], rows: list[CaptionRow] | None = None, *, shuffled: bool = False
) -> Corpus:
    """Write both tables under `folder`, and a tenth of a second of sound for every track that names a file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = captions(tagged) if rows is None else rows
    if shuffled:
        rows = random.Random(0).sample(rows, len(rows))
    corpus = Corpus(folder / "tracks.parquet", folder / "captions.parquet", folder / "audio", tagged, rows)
    write_tracks(tagged, corpus.tracks)
    write_captions(rows, corpus.captions, dict(PIPELINE))
    for number, track in enumerate(tagged):
        if not track.audio_path:
            continue
        path = corpus.audio / track.audio_path
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = 0.1 * np.sin(2 * np.pi * (220 + number) * np.arange(1600) / 16_000)
        soundfile.write(path, tone.astype(np.float32), 16_000)
    return corpus
