"""What the weights of a released checkpoint do not show, read from a JSON file and held against what they do show.

The file may speak the words of the released code (`n_mels`, `sr`, `duration`), of `LpmcConfig`, of `GenerationConfig`,
or short ones (`attention_heads`, `ffn_dim`, `bos`). What the weights contradict is an error, and so is a name that
looks like a misspelt one of these. Any other name only informs people (`seed`, `comment`): it is passed over with a
warning, since a file that describes a checkpoint says more about it than its sizes, and no size can get lost that way:
all but the number of heads show in the weights or have the released value.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import GenerationConfig
from transformers.activations import ACT2FN

from lpmc_errors import ModelError

from .configuration_lpmc import LpmcConfig
from .modeling_lpmc import default_generation_config

logger = logging.getLogger(__name__)

RELEASED_HEADS = {768: 12}  # attention heads by d_model (facebook/bart-base); they leave no trace in the weights
_BEYOND = 1e15  # no number of a model is that large, and integers of this size are exact as floats
LONGEST_WINDOW = 600  # whole seconds that are tried when the window shows in the number of positions only

_INTEGERS = (
    *("vocab_size", "max_position_embeddings", "d_model", "encoder_layers", "decoder_layers"),
    *("encoder_attention_heads", "decoder_attention_heads", "encoder_ffn_dim", "decoder_ffn_dim"),
    *("num_mel_bins", "num_conv_layers", "max_source_frames", "sampling_rate", "n_fft", "hop_length"),
    *("bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id"),
)
_FRACTIONS = (
    *("dropout", "attention_dropout", "activation_dropout", "classifier_dropout", "encoder_layerdrop"),
    *("decoder_layerdrop", "init_std", "label_smoothing", "chunk_seconds"),
)
_CHOICES: dict[str, type] = {
    "activation_function": str,
    "spectrum": str,
    "scale_embedding": bool,
    "tie_word_embeddings": bool,
}
# Other words for the fields: of the released code's arguments, of the library's other models, and short ones.
_ALIASES = {
    "attention_heads": ("encoder_attention_heads", "decoder_attention_heads"),
    "num_attention_heads": ("encoder_attention_heads", "decoder_attention_heads"),
    "ffn_dim": ("encoder_ffn_dim", "decoder_ffn_dim"),
    "num_layers": ("encoder_layers", "decoder_layers"),
    "num_hidden_layers": ("encoder_layers",),  # what BartConfig means by it
    "hidden_size": ("d_model",),
    "audio_dim": ("d_model",),
    "text_dim": ("d_model",),
    "n_mels": ("num_mel_bins",),
    "num_of_conv": ("num_conv_layers",),
    "num_convs": ("num_conv_layers",),
    "n_ctx": ("max_source_frames",),
    "sr": ("sampling_rate",),
    "sample_rate": ("sampling_rate",),
    "win_length": ("n_fft",),
    "hop_size": ("hop_length",),
    "duration": ("chunk_seconds",),
    "bos": ("bos_token_id",),
    "pad": ("pad_token_id",),
    "eos": ("eos_token_id",),
    "decoder_start": ("decoder_start_token_id",),
}
_FIELDS = {name: (name,) for name in (*_INTEGERS, *_FRACTIONS, *_CHOICES)} | _ALIASES
_GENERATION = {
    name
    for name in GenerationConfig().to_dict()
    if not name.startswith("_") and name not in _FIELDS and name not in ("transformers_version", "use_cache")
}
# Least values of settings that the library takes unseen; whole numbers where the least one is.
_LEAST: dict[str, float] = {
    "max_length": 1,
    "max_new_tokens": 1,
    "min_length": 0,
    "min_new_tokens": 0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "no_repeat_ngram_size": 0,
    "top_k": 0,
    "length_penalty": float("-inf"),
    "repetition_penalty": 1e-9,
    "temperature": 1e-9,
    "top_p": 0.0,
}
_ALWAYS_A_NUMBER = ("num_beams",)
_NESTED = ("config", "model", "bart", "audio", "generation", "generation_config")  # objects that are looked into
_OF_SAVED_CONFIGS = set(LpmcConfig().to_dict()) - set(_FIELDS) - _GENERATION  # `architectures` and the like
_SIMILAR = 0.8  # share of letters in common from which a name counts as misspelt


@dataclass(frozen=True)
class ReleasedSizes:
    """Everything that builds the model: fields of its config, and the settings that differ from released decoding."""

    config: LpmcConfig
    generation: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()  # names in the file that say nothing about the model


def read_sizes(
    file: Path | None, inferred: dict[str, int], checkpoint: Path, *, described: dict[str, Any] | None = None
) -> ReleasedSizes:
    """Join what the weights show (`inferred`), what was published beside them (`described`), and `file`.

    Raises `ModelError` for a file that is no JSON object, a misspelt name, a value of the wrong kind, a contradiction
    between file and weights, and sizes of which no model can be made.
    """
    given = {} if file is None else _read_file(Path(file))
    blamed = Path(file) if file is not None else checkpoint
    fields: dict[str, Any] = dict(inferred)
    if described and "label_smoothing" in described:
        fields["label_smoothing"] = float(described["label_smoothing"])
    told: dict[str, str] = {}  # field -> the name that set it
    generation: dict[str, Any] = {}
    ignored = []
    for key, value in given.items():
        if key in _GENERATION:
            generation[key] = value
            continue
        if key not in _FIELDS:
            _refuse_misspelt(key, blamed)
            ignored.append(key)
            continue
        for name in _FIELDS[key]:
            read = _typed(name, key, value, blamed)
            if name in inferred and inferred[name] != read:
                raise ModelError(blamed, f"{key} is {value}, but the weights have {inferred[name]}", "correct the file")
            if name in told and fields[name] != read:
                raise ModelError(blamed, f"{key} is {value}, but {told[name]} says {fields[name]}", "correct the file")
            fields[name], told[name] = read, key
    if ignored:
        logger.warning("%s: says nothing about the model: %s", blamed, ", ".join(ignored))
    if fields.get("activation_function", "gelu") not in ACT2FN:
        raise ModelError(blamed, f"its sizes make no model (no activation {fields['activation_function']!r})")
    if fields.get("tie_word_embeddings") is False:
        raise ModelError(blamed, "tie_word_embeddings is false", "the released model has one matrix of tokens")
    _set_heads(fields, inferred, checkpoint)
    fields["chunk_seconds"] = _window(fields, told, blamed)
    config = _build_config(fields, blamed)
    return ReleasedSizes(config, _checked_generation(generation, config, blamed), tuple(ignored))


def _read_file(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_no_name_twice)
    except OSError as error:
        raise ModelError(path, "it cannot be read", "give the path of a sizes.json") from error
    except (ValueError, RecursionError) as error:  # the latter for brackets by the thousand
        raise ModelError(path, f"it is not JSON ({error})", "correct the file") from error
    if not isinstance(given, dict):
        raise ModelError(path, "it is not a JSON object", 'write {"attention_heads": N}')
    flat: dict[str, Any] = {}
    for key, value in given.items():
        for name, inner in value.items() if key in _NESTED and isinstance(value, dict) else ((key, value),):
            if name in flat and flat[name] != inner:
                raise ModelError(path, f"{name} is there as {flat[name]} and as {inner}", "correct the file")
            flat[name] = inner
    return flat


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:  # JSON would take the last one
            raise ValueError(f"{name!r} is there {count} times")
    return dict(pairs)


def _refuse_misspelt(key: str, path: Path) -> None:
    if key in _OF_SAVED_CONFIGS:
        return
    known = sorted({*_FIELDS, *_GENERATION})
    similar = difflib.get_close_matches(key.lower(), known, n=3, cutoff=_SIMILAR)
    words = set(re.split(r"[^a-z0-9]+", key.lower()))
    similar += [name for name in known if words <= set(name.split("_")) and name not in similar]
    if similar:
        raise ModelError(path, f"the key {key!r} is unknown", f"did you mean {' or '.join(similar[:3])}?")


def _typed(name: str, key: str, value: Any, path: Path) -> Any:
    if name in _CHOICES:
        if not isinstance(value, _CHOICES[name]):
            wanted = "true or false" if _CHOICES[name] is bool else "a word"
            raise ModelError(path, f"{key} is {value!r}", f"give {wanted}")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _BEYOND:
        shown = "too large" if isinstance(value, int) and not isinstance(value, bool) else repr(value)
        raise ModelError(path, f"{key} is {shown}", "give a number")
    if name in _FRACTIONS:
        if value < 0 or (value > 1 and "drop" in name):
            raise ModelError(path, f"{key} is {value!r}", "give a share from 0 to 1" if "drop" in name else "give more")
        return float(value)
    if value != int(value) or value < 0:
        raise ModelError(path, f"{key} is {value!r}", "give a whole number")
    return int(value)


def _set_heads(fields: dict[str, Any], inferred: dict[str, int], checkpoint: Path) -> None:
    sides = ("encoder_attention_heads", "decoder_attention_heads")
    released = RELEASED_HEADS.get(inferred["d_model"])
    for side in sides:
        if side not in fields:
            if released is None:
                raise ModelError(
                    checkpoint,
                    f"the number of attention heads does not show in weights of width {inferred['d_model']}",
                    'give --config sizes.json with {"attention_heads": N}',
                )
            fields[side] = released
        if not fields[side] or inferred["d_model"] % fields[side]:
            raise ModelError(
                checkpoint, f"its sizes make no model ({inferred['d_model']} by {fields[side]} heads)", "correct them"
            )


def _window(fields: dict[str, Any], told: dict[str, str], path: Path) -> float:
    """Seconds of one window: as told, else the released ten, else the one whole number that the positions allow."""
    usual = LpmcConfig()
    rate = fields.get("sampling_rate", usual.sampling_rate)
    hop = fields.get("hop_length", usual.hop_length)
    if not rate or not hop:
        raise ModelError(path, f"the rate is {rate} Hz and the hop {hop} samples", "both must be above 0")
    positions, halvings = fields["max_source_frames"], fields["num_conv_layers"] - 1

    def fits(seconds: float) -> bool:
        return round(seconds * rate) // hop // 2**halvings + 1 == positions

    if "chunk_seconds" in told or fits(usual.chunk_seconds):
        seconds = fields.get("chunk_seconds", usual.chunk_seconds)
        if fits(seconds):
            return float(seconds)
        raise ModelError(
            path, f"windows of {seconds:g} s do not make the {positions} positions of the weights", "correct the file"
        )
    fitting = [seconds for seconds in range(1, LONGEST_WINDOW + 1) if fits(seconds)]
    if len(fitting) == 1:
        return float(fitting[0])
    raise ModelError(
        path,
        f"the length of its windows does not show in {positions} positions",
        'give --config sizes.json with {"chunk_seconds": N}, and its sampling_rate and hop_length if those are other '
        "than 16000 and 160",
    )


def _build_config(fields: dict[str, Any], path: Path) -> LpmcConfig:
    if fields["max_source_frames"] > fields["max_position_embeddings"]:
        raise ModelError(
            path,
            f"its sizes make no model ({fields['max_source_frames']} encoder positions, and room for "
            f"{fields['max_position_embeddings']})",
        )
    for name in ("bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id"):
        if fields.get(name, 0) >= fields["vocab_size"]:
            raise ModelError(path, f"{name} is {fields[name]}, and there are {fields['vocab_size']} tokens")
    try:
        return LpmcConfig(**fields)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(path, f"its sizes make no model ({reason})", "correct the sizes") from error


def _checked_generation(generation: dict[str, Any], config: LpmcConfig, path: Path) -> dict[str, Any]:
    """The settings, tried on the released ones. Raises `ModelError` where the library refuses them."""
    for name, value in generation.items():
        least = _LEAST.get(name, 0 if name.endswith("_token_id") else None)
        if least is None or (value is None and name not in _ALWAYS_A_NUMBER):
            continue
        kinds = int if isinstance(least, int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or value < least:
            wanted = "a whole number" if isinstance(least, int) else "a number"
            raise ModelError(path, f"{name} is {value!r}", f"give {wanted}, {least:g} or more")
        if name.endswith("_token_id") and value >= config.vocab_size:
            raise ModelError(path, f"{name} is {value}, and there are {config.vocab_size} tokens")
    for name in ("max_length", "max_new_tokens"):
        longest = generation.get(name) or 0
        if longest > config.max_position_embeddings:
            positions = config.max_position_embeddings
            raise ModelError(path, f"{name} is {longest}, but the weights have {positions} positions")
    if generation.get("num_beams") == 1:  # stopping early means nothing then, and the library would not save it
        generation.setdefault("early_stopping", False)
    settings = default_generation_config(config)
    try:
        settings.update(**generation)
        settings.validate(strict=True)
    except (ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ModelError(path, f"these settings cannot be decoded with ({reason[:200]})", "correct them") from error
    return generation
