"""BERTScore with a model that lies on this machine. Its values belong to that model and compare with no other's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lpmc_errors import MissingExtraError, ModelError


def bertscore(predictions: Sequence[str], references: Sequence[Sequence[str]], model: str) -> float:
    """Mean BERTScore F1 without rescaling, the best reference of each prediction.

    `model` is a folder or the name of a model in the local Hugging Face cache. A known model uses the layer that
    bert_score recommends (roberta-large: 17, the paper's), another one its last. An empty prediction counts as 0,
    as there is nothing to embed. Raises `MissingExtraError` and `ModelError`.
    """
    try:
        import bert_score
    except ImportError as error:
        raise MissingExtraError("bert-score", extra="bertscore") from error

    kept = [index for index, caption in enumerate(predictions) if caption.strip()]  # empty texts crash transformers 5
    if not kept:
        return 0.0
    layers = _layers(model)
    try:
        _, _, f1 = bert_score.score(
            [predictions[index] for index in kept],
            [list(references[index]) for index in kept],
            model_type=model,
            num_layers=layers,
        )
    except OverflowError as error:  # bert_score pads to it, and transformers puts 1e30 where none is stated
        raise ModelError(
            model, "its tokenizer states no model_max_length", "set it (for BERT 512) in tokenizer_config.json"
        ) from error
    except OSError as error:
        raise ModelError(
            model, f"cannot be loaded for BERTScore: {_first_line(error)}", "give a local folder"
        ) from error
    return float(f1.sum()) / len(predictions)


def bertscore_signature(model: str) -> str:
    """Names the model and layer; the folder's name stands for a local one."""
    import bert_score

    name = Path(model).name if Path(model).is_dir() else model
    return f"model:{name}|layer:{_layers(model)}|idf:no|rescaled:no|version:{bert_score.__version__}"


def _layers(model: str) -> int:
    from bert_score.utils import model2layers
    from transformers import AutoConfig

    known = model2layers.get(model) or model2layers.get(Path(model).name)
    if known:
        return int(known)
    try:
        return int(AutoConfig.from_pretrained(model).num_hidden_layers)
    except (OSError, ValueError) as error:
        raise ModelError(
            model, f"cannot be loaded for BERTScore: {_first_line(error)}", "give a local folder"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
