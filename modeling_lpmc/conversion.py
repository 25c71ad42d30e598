"""The authors' released checkpoint (.pth) to a model directory of this project, every tensor accounted for.

Each tensor of the checkpoint is either mapped, or compared with what our code computes and dropped; nothing is ignored
and nothing is left at its random start. Afterwards the written model is loaded again and compared with a second way to
the same numbers: the checkpoint's own tables, its convolutions and transformers' stock BART, loaded under the released
names. What was done and measured goes into `conversion.json`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from lpmc_errors import ModelError
from lpmc_files import write_json

from .configuration_lpmc import LpmcConfig
from .export import save_for_hub
from .feature_extraction_lpmc import LpmcFeatureExtractor
from .modeling_lpmc import LpmcForConditionalGeneration
from .parity import FILTERS, POSITIONS, WINDOW, State, measure_parity
from .processing_lpmc import LpmcProcessor
from .tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

BART_BASE = "facebook/bart-base"  # whose tokenizer and sizes the released model has
BART_BASE_VOCABULARY = 50265
RELEASED_HEADS = {768: 12}  # attention heads by d_model; they leave no trace in the weights
NO_TOKENIZER = "none"
RECORD = "conversion.json"

# Released tensors that our code computes itself: name -> largest difference that is still rounding.
_TABLES = {POSITIONS: 2e-6, WINDOW: 0.0, FILTERS: 2e-5}
_SHARED = "bart.model.shared.weight"
_COPIES_OF_SHARED = (
    "bart.model.encoder.embed_tokens.weight",
    "bart.model.decoder.embed_tokens.weight",
    "bart.lm_head.weight",
)
_CONV_PREFIX, _BART_PREFIX = "audio_encoder.", "bart."
_OUR_CONV_PREFIX = "model.encoder.conv_stem."

PARITY_TOLERANCE = 1e-3  # of embeddings, encoder states and logits, all of which are of order one; measured: 1e-6

_SIZE_KEYS = {  # key of sizes.json -> the config fields it stands for
    "d_model": ("d_model",),
    "encoder_layers": ("encoder_layers",),
    "decoder_layers": ("decoder_layers",),
    "attention_heads": ("encoder_attention_heads", "decoder_attention_heads"),
    "ffn_dim": ("encoder_ffn_dim", "decoder_ffn_dim"),
    "vocab_size": ("vocab_size",),
    "label_smoothing": ("label_smoothing",),
    "bos": ("bos_token_id",),
    "pad": ("pad_token_id",),
    "eos": ("eos_token_id",),
    "decoder_start": ("decoder_start_token_id",),
}
_GENERATION_KEYS = ("max_length", "num_beams")


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did and how exactly; the same is in `conversion.json` beside the weights."""

    checkpoint: str  # file name
    sha256: str
    epoch: int | None  # as the checkpoint says
    tokenizer: str  # the name it was loaded from, or "none"
    parameters: int  # unique ones
    mapped: int  # tensors that are now weights, the three copies of the embeddings included
    dropped: dict[str, float]  # tensors that our code computes: largest difference from ours
    parity: dict[str, float | bool]  # largest differences of the written model from the checkpoint run by stock BART
    files: list[str]


def convert_checkpoint(
    checkpoint: Path, output: Path, *, sizes: Path | None = None, tokenizer: str | None = None
) -> ConversionReport:
    """Convert a released checkpoint {"epoch", "state_dict", "optimizer"} into the model directory `output`.

    Args:
        checkpoint: the .pth file. It is read as data only: a file that would run code is refused.
        sizes: JSON of what the weights do not show, above all `attention_heads`; needed unless the model has the
            released size. Known keys: d_model, encoder_layers, decoder_layers, attention_heads, ffn_dim, vocab_size,
            label_smoothing, bos, pad, eos, decoder_start, max_length, num_beams.
        tokenizer: folder or Hub id of the model's tokenizer. By default facebook/bart-base for a vocabulary of 50,265;
            where it cannot be had, the model is written with its feature extractor but without a tokenizer and
            processor, and the report says `tokenizer: none`.

    Raises:
        ModelError: the file is missing, no checkpoint or holds code; keys are missing or unknown; a shape, a tied copy
            or a table differs; the sizes contradict the weights; the named tokenizer does not fit; the written model
            does not reproduce the checkpoint.
        DiskError: `output` cannot be written.
    """
    checkpoint, output = Path(checkpoint), Path(output)
    stored = _read_checkpoint(checkpoint)
    released = _released_state(stored, checkpoint)
    config, generation = _read_sizes(sizes, _infer_sizes(released, checkpoint), checkpoint)
    model = _build_model(config, checkpoint)
    dropped = _check_tables(released, model, checkpoint)
    _check_copies(released, checkpoint)
    weights = _map_weights(released, model, checkpoint)
    model.load_state_dict(weights, strict=True)
    model.tie_weights()
    for name, value in generation.items():
        setattr(model.generation_config, name, value)
    loaded, tokenizer_name = _find_tokenizer(tokenizer, config, checkpoint)
    extractor = _extractor_for(config)
    files = save_for_hub(model, LpmcProcessor(extractor, loaded) if loaded is not None else extractor, output)
    report = ConversionReport(
        checkpoint=checkpoint.name,
        sha256=_sha256(checkpoint),
        epoch=stored.get("epoch") if isinstance(stored.get("epoch"), int) else None,
        tokenizer=tokenizer_name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        mapped=len(weights),
        dropped=dropped,
        parity=measure_parity(released, output, extractor),
        files=sorted({path.name for path in files} | {RECORD}),
    )
    write_json(output / RECORD, asdict(report))
    worst = max(value for name, value in report.parity.items() if name.endswith("_max_abs"))
    if worst > PARITY_TOLERANCE or not report.parity["captions_equal"]:
        raise ModelError(
            checkpoint,
            f"the written model differs from the checkpoint by {worst:g} (captions equal: "
            f"{report.parity['captions_equal']})",
            f"do not use {output}; see its {RECORD} and report the versions of torch and transformers",
        )
    return report


def _read_checkpoint(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(path, "no such file", "give the path of a released .pth checkpoint")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" in str(error).lower():  # torch names the class or function that the file wants to call
            raise ModelError(
                path, "it holds Python objects that would run code when loaded", "get the checkpoint from its authors"
            ) from error
        raise ModelError(path, "it is not a PyTorch checkpoint", "give a released .pth file") from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError, OSError) as error:
        raise ModelError(path, "it is not a PyTorch checkpoint, or it is damaged", "download it again") from error
    if not isinstance(stored, dict) or not isinstance(stored.get("state_dict"), dict):
        raise ModelError(path, "it holds no state_dict", "give a checkpoint in the released format")
    return stored


def _released_state(stored: dict[str, Any], path: Path) -> State:
    """The state dict with released names, without the `module.` that distributed training puts before them."""
    state = {str(key).removeprefix("module."): value for key, value in stored["state_dict"].items()}
    for key, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise ModelError(path, f"{key} is no tensor", "give a checkpoint in the released format")
        if not torch.isfinite(value).all():
            raise ModelError(path, f"{key} holds NaN or infinite numbers", "the training that wrote it had failed")
    return state


def _infer_sizes(state: State, path: Path) -> dict[str, int]:
    """The config fields that can be read off the shapes."""

    def shape(key: str, axes: int) -> torch.Size:
        if key not in state:
            raise ModelError(path, f"the tensor {key} is missing", "give a checkpoint in the released format")
        if state[key].ndim != axes:
            raise ModelError(path, f"{key} has {state[key].ndim} axes instead of {axes}", "give a released checkpoint")
        return state[key].shape

    def count(prefix: str) -> int:
        return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})

    vocab_size, d_model = shape(_SHARED, 2)
    return {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "max_position_embeddings": shape("bart.model.decoder.embed_positions.weight", 2)[0] - 2,  # BART's offset
        "encoder_layers": count("bart.model.encoder.layers."),
        "decoder_layers": count("bart.model.decoder.layers."),
        "encoder_ffn_dim": shape("bart.model.encoder.layers.0.fc1.weight", 2)[0],
        "decoder_ffn_dim": shape("bart.model.decoder.layers.0.fc1.weight", 2)[0],
        "num_mel_bins": shape("audio_encoder.conv1.weight", 3)[1],
        "num_conv_layers": 1 + count("audio_encoder.conv_stack."),
        "max_source_frames": shape(POSITIONS, 2)[0],
        "n_fft": shape(WINDOW, 1)[0],
    }


def _read_sizes(
    sizes: Path | None, inferred: dict[str, int], checkpoint: Path
) -> tuple[dict[str, Any], dict[str, int]]:
    """Config fields and generation settings from the weights and, where given, sizes.json."""
    fields: dict[str, Any] = dict(inferred)
    generation: dict[str, int] = {}
    if sizes is not None:
        for key, value in _read_sizes_file(sizes).items():
            if key in _GENERATION_KEYS:
                generation[key] = value
                continue
            for field in _SIZE_KEYS[key]:
                if field in inferred and inferred[field] != value:
                    raise ModelError(
                        sizes, f"{key} is {value}, but the weights have {inferred[field]}", "correct the file"
                    )
                fields[field] = value
    if "encoder_attention_heads" not in fields:
        heads = RELEASED_HEADS.get(inferred["d_model"])
        if heads is None:
            raise ModelError(
                checkpoint,
                f"the number of attention heads does not show in weights of width {inferred['d_model']}",
                'give --config sizes.json with {"attention_heads": N}',
            )
        fields |= {"encoder_attention_heads": heads, "decoder_attention_heads": heads}
    return fields, generation


def _read_sizes_file(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(path, "it cannot be read", "give the path of a sizes.json") from error
    except ValueError as error:
        raise ModelError(path, f"it is not JSON ({error})", "correct the file") from error
    if not isinstance(given, dict):
        raise ModelError(path, "it is not a JSON object", 'write {"attention_heads": N}')
    known = {*_SIZE_KEYS, *_GENERATION_KEYS}
    for key, value in given.items():
        if key not in known:
            raise ModelError(path, f"the key {key!r} is unknown", f"use {', '.join(sorted(known))}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ModelError(path, f"{key} is {value!r}", "give a number")
    return given


def _build_model(config: dict[str, Any], path: Path) -> LpmcForConditionalGeneration:
    try:
        return LpmcForConditionalGeneration(LpmcConfig(**config)).eval()
    except (ValueError, TypeError) as error:
        raise ModelError(
            path, f"its sizes make no model ({str(error).splitlines()[0]})", "correct the sizes"
        ) from error


def _check_tables(state: State, model: LpmcForConditionalGeneration, path: Path) -> dict[str, float]:
    """Compare the tables in the checkpoint with ours; return the largest difference of each."""
    encoder = model.model.encoder
    ours = {
        POSITIONS: encoder.conv_stem.positional_embedding,
        WINDOW: encoder.log_mel.window,
        FILTERS: encoder.log_mel.mel_filters,
    }
    differences = {}
    for key, tolerance in _TABLES.items():
        if key not in state:
            raise ModelError(path, f"the tensor {key} is missing", "give a checkpoint in the released format")
        if state[key].shape != ours[key].shape:
            raise ModelError(path, f"{key} has shape {tuple(state[key].shape)}, not {tuple(ours[key].shape)}")
        differences[key] = float((state[key].float() - ours[key]).abs().max())
        if differences[key] > tolerance:
            raise ModelError(
                path,
                f"{key} differs from ours by {differences[key]:g}, more than {tolerance:g}",
                "it was trained with another front end and cannot be converted",
            )
    return differences


def _check_copies(state: State, path: Path) -> None:
    """The four token matrices must be one before they are stored once."""
    for key in _COPIES_OF_SHARED:
        if key in state and not torch.equal(state[key], state[_SHARED]):
            raise ModelError(path, f"{key} differs from {_SHARED}", "its embeddings are untied and cannot be converted")


def _map_weights(state: State, model: LpmcForConditionalGeneration, path: Path) -> State:
    """Released names to ours, float32; every key on both sides is used exactly once."""
    weights: State = {}
    for key, value in state.items():
        if key in _TABLES:
            continue
        if key.startswith(_BART_PREFIX):
            weights[key.removeprefix(_BART_PREFIX)] = value.float()
        elif key.startswith(_CONV_PREFIX):
            weights[_OUR_CONV_PREFIX + key.removeprefix(_CONV_PREFIX)] = value.float()
        else:
            raise ModelError(path, f"the tensor {key} is unknown", "give a checkpoint in the released format")
    expected = model.state_dict()
    for problem, names in (("missing", set(expected) - set(weights)), ("unknown", set(weights) - set(expected))):
        if names:
            first, more = sorted(names)[0], len(names) - 1
            also = f" and {more} more" if more else ""
            raise ModelError(path, f"the tensor {first}{also} is {problem}", "give a checkpoint in the released format")
    for key, value in weights.items():
        if value.shape != expected[key].shape:
            raise ModelError(path, f"{key} has shape {tuple(value.shape)}, not {tuple(expected[key].shape)}")
    return weights


def _find_tokenizer(name: str | None, config: dict[str, Any], path: Path) -> tuple[PreTrainedTokenizerBase | None, str]:
    if name is None:
        if config["vocab_size"] != BART_BASE_VOCABULARY:
            return None, NO_TOKENIZER
        try:
            return load_tokenizer(BART_BASE)
        except ModelError as error:
            logger.warning("%s; the model is written without tokenizer", error)
            return None, NO_TOKENIZER
    tokenizer = load_tokenizer(name).tokenizer
    if len(tokenizer) > config["vocab_size"]:
        raise ModelError(name, f"it has {len(tokenizer)} tokens, and {path.name} only {config['vocab_size']}")
    for token in ("bos_token_id", "pad_token_id", "eos_token_id"):
        wanted = getattr(LpmcConfig(**config), token)
        if getattr(tokenizer, token) != wanted:
            raise ModelError(name, f"its {token} is {getattr(tokenizer, token)}, and the model's {wanted}")
    return tokenizer, name


def _extractor_for(config: dict[str, Any]) -> LpmcFeatureExtractor:
    return LpmcFeatureExtractor(num_mel_bins=config["num_mel_bins"], n_fft=config["n_fft"])


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
