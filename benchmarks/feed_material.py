"""A prepared corpus of noise and invented captions to feed a model with; imported by the benchmarks of training.

The clips are thirty seconds of coloured noise at 16 kHz, whole WAV files in Parquet as `lpmc build` embeds them, and
then prepared as a user prepares them. Their captions have the length of the published ones (about 60 tokens).
"""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from modeling_lpmc import LpmcFeatureExtractor, LpmcProcessor, train_tokenizer
from modeling_lpmc.training.prepare import Preparation, prepare

RATE = 16_000  # Hz
SECONDS = 30  # of a clip; the previews of MSD
WORDS_A_CAPTION = 42  # published captions: 40 to 45 words
CAPTIONS = ("caption_writing", "caption_summary", "caption_paraphrase", "caption_attribute_prediction")
TAGS = 50
ROWS_PER_GROUP = 50


def write_corpus(folder: Path, clips: int, seed: int = 0) -> Path:
    """Write a data set of `clips` clips as Parquet and return its folder."""
    random = np.random.default_rng(seed)
    words = [f"{a}{b}" for a in ("so", "ra", "mi", "ten", "lu", "gor", "pa") for b in ("na", "bel", "dro", "st", "ky")]
    (folder / "noise").mkdir(parents=True)
    file = folder / "noise" / "train-00000-of-00001.parquet"
    schema = pa.schema(
        [("track_id", pa.string()), ("tag", pa.list_(pa.string()))]
        + [(name, pa.string()) for name in CAPTIONS]
        + [("audio", pa.struct({"bytes": pa.binary(), "path": pa.string()}))]
    )
    with pq.ParquetWriter(file, schema, compression="none") as writer:
        for start in range(0, clips, ROWS_PER_GROUP):
            rows = []
            for clip in range(start, min(start + ROWS_PER_GROUP, clips)):
                wave = 0.1 * random.standard_normal(RATE * SECONDS).astype(np.float32)
                held = io.BytesIO()
                soundfile.write(held, wave, RATE, format="WAV", subtype="PCM_16")
                said = {name: " ".join(random.choice(words, WORDS_A_CAPTION)) for name in CAPTIONS}
                tags = [f"tag {tag}" for tag in random.choice(TAGS, 5, replace=False)]
                audio = {"bytes": held.getvalue(), "path": f"{clip}.wav"}
                rows.append({"track_id": f"noise-{clip}", "tag": tags, "audio": audio, **said})
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    card = (
        "---\nconfigs:\n- config_name: noise\n  data_files:\n  - split: train\n    path: noise/train-*.parquet\n---\n"
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def prepared_corpus(folder: Path, clips: int) -> tuple[Preparation, float]:
    """A prepared corpus under `folder`, made unless it is there, and the seconds that preparing took."""
    built = folder / f"noise-{clips}"
    if not built.is_dir():
        write_corpus(built, clips)
    start = time.perf_counter()
    result = prepare(str(built), folder / f"prepared-{clips}", report=lambda *_: None)
    return result, time.perf_counter() - start


def noise_processor(captions: list[str], mel_bins: int = 128) -> LpmcProcessor:
    """An extractor with the released settings and a tokenizer trained on `captions`."""
    return LpmcProcessor(LpmcFeatureExtractor(num_mel_bins=mel_bins), train_tokenizer(captions, 400))


def full_size_tokenizer(folder: Path, captions: list[str], tokens: int = 50_265) -> Path:
    """A tokenizer directory with as many tokens as bart-base's, so that the head has its size, without a download."""
    if not (folder / "tokenizer.json").is_file():
        tokenizer = train_tokenizer(captions, 400)
        tokenizer.add_tokens([f"<unused{number}>" for number in range(tokens - len(tokenizer))])
        tokenizer.save_pretrained(folder)
    return folder
