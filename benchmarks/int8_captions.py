"""What int8 decoding costs in captions: a trained model writes the same clips in float32 and in int8.

    lpmc quickstart --output DIR && python benchmarks/int8_captions.py DIR [--training]

The clips are those that the quickstart's model never heard (with `--training` also those it learned from: more clips,
and the comparison of the two precisions is as fair), and they are scored against the references that their corpus
composed from exact facts. Scores stand beside the blind rows: captions made without the music.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

from caption_metrics.score import Pair, evaluate_captions
from dataset_builder.tracks import TaggedTrack, read_tracks
from modeling_lpmc.audio import load_audio
from modeling_lpmc.captioner import Captioner

BATCH = 8  # clips
SCORES = ("bleu1", "bleu4", "meteor", "rougeL", "facts_precision", "facts_recall", "facts_f1")


def write_captions(captioner: Captioner, tracks: list[TaggedTrack], corpus: Path) -> tuple[list[list[int]], float]:
    """Tokens of each track's first window, and the seconds that writing (not listening) took."""
    tokens: list[list[int]] = []
    seconds = 0.0
    model: Any = captioner.model
    with torch.inference_mode():
        for first in range(0, len(tracks), BATCH):
            part = tracks[first : first + BATCH]
            clips = [load_audio(corpus / str(track.audio_path), captioner.sampling_rate).samples for track in part]
            window = captioner.processor.feature_extractor.chunk_samples
            inputs = captioner.processor(
                audio=[clip[:window] for clip in clips], sampling_rate=captioner.sampling_rate, return_tensors="pt"
            )
            heard = model.model.encoder(input_features=inputs["input_features"])
            start = time.perf_counter()
            ids = model.generate(encoder_outputs=heard)
            seconds += time.perf_counter() - start
            tokens += [[int(token) for token in row if token != model.config.pad_token_id] for row in ids]
    return tokens, seconds


def changed(one: list[int], other: list[int]) -> int:
    """Places where two captions differ, the longer one's rest included."""
    length = max(len(one), len(other))
    padded = [row + [-1] * (length - len(row)) for row in (one, other)]
    return sum(a != b for a, b in zip(*padded, strict=True))


def main() -> int:
    """Write, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of `lpmc quickstart --output`")
    parser.add_argument("--training", action="store_true", help="also the clips that the model was trained on")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tracks = [
        track
        for track in read_tracks(arguments.folder / "tracks.parquet")
        if track.audio_path and (arguments.training or track.split == "test")
    ]
    captioner = Captioner.from_pretrained(arguments.folder / "model", device="cpu")
    written: dict[str, list[list[int]]] = {}
    seconds: dict[str, float] = {}
    cards = {}
    for precision in ("native", "int8"):
        captioner.model.set_decoding(precision)
        written[precision], seconds[precision] = write_captions(captioner, tracks, arguments.folder / "corpus")
        texts = captioner.processor.batch_decode(written[precision])
        pairs = [
            Pair(text.strip(), track.reference_captions, track.tags) for text, track in zip(texts, tracks, strict=True)
        ]
        cards[precision] = evaluate_captions(pairs, blind=precision == "native")
    config = captioner.model.config
    differences = [changed(one, other) for one, other in zip(written["native"], written["int8"], strict=True)]
    total = sum(len(row) for row in written["native"])
    print(
        f"{len(tracks)} clips, model of {config.decoder_layers} decoder layers of {config.d_model}, "
        f"{config.vocab_size} tokens; {total} tokens written in float32"
    )
    print(f"int8: {sum(differences) / total:.1%} of the tokens and {sum(map(bool, differences))} captions differ")
    print(f"\n| captions | {' | '.join(SCORES)} | writing, s |\n|---|{'---|' * (len(SCORES) + 1)}")
    rows: dict[str, Any] = {"float32": cards["native"].scores, "int8": cards["int8"].scores}
    rows |= {f"blind: {name}": scores for name, scores in cards["native"].blind.items()}
    for name, scores in rows.items():
        cells = ["-" if scores.get(key) is None else f"{100 * scores[key]:.1f}" for key in SCORES]
        spent = {"float32": seconds["native"], "int8": seconds["int8"]}.get(name)
        print(f"| {name} | {' | '.join(cells)} | {'-' if spent is None else f'{spent:.1f}'} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
