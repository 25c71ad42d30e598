"""The authors' checkpoint file (.pth) read as data, and its tensors under released names, all accounted for.

The file is `{"epoch", "state_dict", "optimizer"}`; the state dict alone is taken as well. Nothing in it is ever run:
what would call code on loading is refused.
"""

from __future__ import annotations

import pickle
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lpmc_errors import ModelError

State = dict[str, torch.Tensor]  # by released names

# Released tensors that our code computes for itself, and the largest difference that is still rounding.
POSITIONS = "audio_encoder.positional_embedding"
WINDOW = "audio_encoder.mel_encoder.spec_fn.window"
FILTERS = "audio_encoder.mel_encoder.mel_scale.fb"
TABLES = {POSITIONS: 2e-6, WINDOW: 0.0, FILTERS: 2e-5}

SHARED = "bart.model.shared.weight"
COPIES_OF_SHARED = (
    "bart.model.encoder.embed_tokens.weight",
    "bart.model.decoder.embed_tokens.weight",
    "bart.lm_head.weight",
)
LOGITS_BIAS = "bart.final_logits_bias"
CONV_PREFIX, BART_PREFIX = "audio_encoder.", "bart."
OUR_CONV_PREFIX = "model.encoder.conv_stem."

_WRAPPERS = ("module.", "_orig_mod.")  # what distributed training and torch.compile put before every name
_STATE_KEYS = ("state_dict", "model_state_dict", "model")  # where a checkpoint may keep its weights
_REDUCED = (torch.float16, torch.bfloat16)
_FORMAT = "give a checkpoint in the released format"


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """What a checkpoint file holds, under released names."""

    path: Path
    state: State  # as stored, copies that the file leaves out filled in
    epoch: int | None  # None when the file does not say
    filled_in: tuple[str, ...]  # tensors that the file leaves out because others determine them
    stored_types: tuple[str, ...]  # such as ("float32",)


def read_checkpoint(path: Path) -> ReleasedCheckpoint:
    """Read a released checkpoint, or a bare state dict with released names, without running anything in it.

    `module.` of distributed training is taken off. Absent copies of the token matrix and an absent bias of the head
    (zeros, as released) are filled in.

    Raises `ModelError` when the file is missing, no checkpoint, damaged, or holds code; when something in it is no
    tensor, twice there, or not finite.
    """
    stored = _load(path)
    found = _find_state(stored, path)
    state: State = {}
    for key, value in found.items():
        name = _unwrapped(str(key))
        if not isinstance(value, torch.Tensor):
            raise ModelError(path, f"{name} is no tensor", _FORMAT)
        if name in state:
            raise ModelError(path, f"{name} is there twice, bare and wrapped", _FORMAT)
        _check_stored(value, name, path)
        if not value.is_floating_point():
            raise ModelError(path, f"{name} holds {_type_name(value)} and no fractions", _FORMAT)
        if not torch.isfinite(value).all():
            raise ModelError(path, f"{name} holds NaN or infinite numbers", "the training that wrote it had failed")
        state[name] = value
    filled_in = _fill_in(state)
    epoch = stored.get("epoch")
    return ReleasedCheckpoint(
        path=path,
        state=state,
        epoch=epoch if isinstance(epoch, int) and not isinstance(epoch, bool) else None,
        filled_in=filled_in,
        stored_types=tuple(sorted({_type_name(value) for value in state.values()})),
    )


def _check_stored(value: torch.Tensor, name: str, path: Path) -> None:
    """Raise `ModelError` for a tensor whose numbers are not there one by one: sparse, empty shells, or repeated."""
    if value.layout != torch.strided or value.device.type != "cpu":
        kind = "sparse" if value.layout != torch.strided else f"on the device {value.device.type!r}"
        raise ModelError(path, f"{name} is {kind}, without its numbers one by one", _FORMAT)
    if value.numel() * value.element_size() > path.stat().st_size:  # a few bytes that claim to be terabytes
        raise ModelError(path, f"{name} claims {value.numel():,} numbers, more than the file can hold", _FORMAT)


def _check_sums(path: Path) -> None:
    """Raise `ModelError` when a part of the archive is not what was written: torch maps it without looking.

    Where no sum at all is right, torch was told to write none (`set_crc32_options`).
    """
    broken, parts = [], 0
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            parts += part.file_size > 0
            try:
                with archive.open(part) as content:
                    while content.read(1 << 20):
                        pass
            except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
                broken.append(part.filename)
    if 0 < len(broken) < parts:
        raise ModelError(path, f"it is damaged ({len(broken)} of {parts} parts: {broken[0]})", "download it again")


def _load(path: Path) -> dict[Any, Any]:
    if not path.is_file():
        problem = "it is no file" if path.exists() else "no such file"
        raise ModelError(path, problem, "give the path of a released .pth checkpoint, or ORG/NAME on the Hub")
    try:
        if zipfile.is_zipfile(path):
            _check_sums(path)
        # Mapped, where the format allows it: two thirds of a released file are the optimiser's and need not be read.
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except PermissionError as error:
        raise ModelError(path, "no permission to read it", "change its permissions") from error
    except pickle.UnpicklingError as error:
        if "global" in str(error).lower():  # torch names the class or function that the file wants to call
            raise ModelError(
                path, "it holds Python objects that would run code when loaded", "get the checkpoint from its authors"
            ) from error
        raise ModelError(path, "it is not a PyTorch checkpoint", "give a released .pth file") from error
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
        IndexError,
        TypeError,
        OSError,
        zipfile.BadZipFile,
    ) as error:
        raise ModelError(path, "it is not a PyTorch checkpoint, or it is damaged", "download it again") from error
    if not isinstance(stored, dict):
        raise ModelError(path, "it holds no state_dict", _FORMAT)
    return stored


def _find_state(stored: dict[Any, Any], path: Path) -> dict[Any, Any]:
    """The weights in a checkpoint: under one of the usual keys, or the file itself."""
    for key in _STATE_KEYS:
        if isinstance(stored.get(key), dict):
            return stored[key]
    if any(_unwrapped(str(key)).startswith((CONV_PREFIX, BART_PREFIX)) for key in stored):
        return stored
    raise ModelError(path, "it holds no state_dict", _FORMAT)


def _unwrapped(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _fill_in(state: State) -> tuple[str, ...]:
    if SHARED not in state:
        return ()  # said where the sizes are read
    missing = [key for key in COPIES_OF_SHARED if key not in state]
    state.update(dict.fromkeys(missing, state[SHARED]))
    if LOGITS_BIAS not in state:
        missing.append(LOGITS_BIAS)
        state[LOGITS_BIAS] = torch.zeros(1, state[SHARED].shape[0])
    return tuple(missing)


def infer_sizes(checkpoint: ReleasedCheckpoint) -> dict[str, int]:
    """The fields of `LpmcConfig` that can be read off the shapes. Raises `ModelError` for a missing or odd tensor."""
    state, path = checkpoint.state, checkpoint.path

    def shape(key: str, axes: int) -> torch.Size:
        if key not in state:
            raise ModelError(path, f"the tensor {key} is missing", _FORMAT)
        if state[key].ndim != axes:
            raise ModelError(path, f"{key} has {state[key].ndim} axes instead of {axes}", _FORMAT)
        return state[key].shape

    def count(prefix: str) -> int:
        return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})

    vocab_size, d_model = shape(SHARED, 2)
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


def check_tables(checkpoint: ReleasedCheckpoint, ours: State) -> dict[str, float]:
    """Compare the tables in the checkpoint with ours (by released names); return the largest difference of each.

    A table that is stored in half precision must be ours rounded so; ours then takes its place in the state, because
    rounding moves the spectrum by far more than what the comparison afterwards allows.
    """
    state, path = checkpoint.state, checkpoint.path
    differences = {}
    for key, tolerance in TABLES.items():
        stored = state.get(key)
        if stored is None:
            raise ModelError(path, f"the tensor {key} is missing", _FORMAT)
        if stored.shape != ours[key].shape:
            raise ModelError(
                path,
                f"{key} has shape {tuple(stored.shape)}, not {tuple(ours[key].shape)}",
                "correct the sizes, if they were given; else it cannot be converted",
            )
        if stored.dtype in _REDUCED:
            tolerance += torch.finfo(stored.dtype).eps  # values of order one, rounded
        differences[key] = float((stored.float() - ours[key]).abs().max())
        if differences[key] > tolerance:
            raise ModelError(
                path,
                f"{key} differs from ours by {differences[key]:g}, more than {tolerance:g}",
                "it was trained with another front end and cannot be converted, unless --config corrects its sizes",
            )
        if stored.dtype in _REDUCED:
            state[key] = ours[key].clone()
    return differences


def check_copies(checkpoint: ReleasedCheckpoint) -> None:
    """The four token matrices must be one before they are stored once. Raises `ModelError`."""
    for key in COPIES_OF_SHARED:
        if not torch.equal(checkpoint.state[key], checkpoint.state[SHARED]):
            raise ModelError(
                checkpoint.path, f"{key} differs from {SHARED}", "its embeddings are untied and cannot be converted"
            )


def map_weights(checkpoint: ReleasedCheckpoint, expected: State) -> State:
    """Released names to ours, in float32; every key on both sides (`expected`: our model's) is used exactly once.

    Raises `ModelError` for a tensor that is missing, unknown or of another shape.
    """
    path = checkpoint.path
    weights: State = {}
    for key, value in checkpoint.state.items():
        if key in TABLES:
            continue
        if key.startswith(BART_PREFIX):
            weights[key.removeprefix(BART_PREFIX)] = value.float()
        elif key.startswith(CONV_PREFIX):
            weights[OUR_CONV_PREFIX + key.removeprefix(CONV_PREFIX)] = value.float()
        else:
            raise ModelError(path, f"the tensor {key} is unknown", _FORMAT)
    for problem, names in (("missing", set(expected) - set(weights)), ("unknown", set(weights) - set(expected))):
        if names:
            first, more = sorted(names)[0], len(names) - 1
            also = f" and {more} more" if more else ""
            raise ModelError(path, f"the tensor {first}{also} is {problem}", _FORMAT)
    for key, value in weights.items():
        if value.shape != expected[key].shape:
            raise ModelError(
                path, f"{key} has shape {tuple(value.shape)}, not {tuple(expected[key].shape)}", "correct the sizes"
            )
    return weights


def _type_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
