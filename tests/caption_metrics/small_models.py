"""Small models with random weights, saved to a folder as others would find them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = "a an the sad happy slow fast soft loud piano guitar drums violin voice sings plays and with of . , !".split()  # noqa: SIM905
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def save_bert_tokenizer(folder: Path, *, limit: int | None = 64, words: Sequence[str] = WORDS) -> Any:
    """A lower-casing BERT tokenizer of `words`, with or without a stated limit."""
    from transformers import BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *words]), encoding="utf-8")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), **({"model_max_length": limit} if limit else {}))
    tokenizer.save_pretrained(folder)
    return tokenizer


def bert_config(**settings: Any) -> Any:
    """Four layers of width 16 for `WORDS`; `settings` replace what they name."""
    from transformers import BertConfig

    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    sizes |= {"vocab_size": len(SPECIAL) + len(WORDS), "max_position_embeddings": 64, "initializer_range": 0.5}
    return BertConfig(**(sizes | settings))


def save_bert(folder: Path, *, limit: int | None = 64, **settings: Any) -> Path:
    """A BERT encoder with its tokenizer, drawn with seed 0; its words differ more than its positions."""
    from transformers import BertModel, set_seed

    save_bert_tokenizer(folder, limit=limit)
    set_seed(0)
    model = BertModel(bert_config(**settings))
    model.embeddings.word_embeddings.weight.data *= 5
    model.save_pretrained(folder)
    return folder


def save_clap(folder: Path, *, fusion: bool = False, seconds: int = 1, rate: int = 16_000) -> Path:
    """A CLAP drawn with seed 0: one text layer, two audio stages, windows of `seconds`."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, set_seed

    tokenizer = save_bert_tokenizer(folder)
    extractor = ClapFeatureExtractor(
        feature_size=32,
        sampling_rate=rate,
        hop_length=rate // 100,
        max_length_s=seconds,
        fft_window_size=512,
        frequency_min=20,
        frequency_max=rate // 2,
        truncation="fusion" if fusion else "rand_trunc",
    )
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 32, "max_position_embeddings": 66, "pad_token_id": 0, "initializer_factor": 20.0}
    audio = {"num_mel_bins": 32, "spec_size": 64, "patch_size": 4, "patch_stride": [4, 4], "hidden_size": 32}
    audio |= {"patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2], "window_size": 4}
    audio |= {"num_classes": 4, "enable_fusion": fusion, "fusion_type": None}
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=16)
    set_seed(0)
    ClapModel(config).save_pretrained(folder)
    ClapProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder
