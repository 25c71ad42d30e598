"""Captions of clips that are not trained on, made while training runs, and the file that shows how they change."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import TrainingArguments
from transformers.integrations.fsdp import is_fsdp_managed_module

from lpmc_files import write_text
from modeling_lpmc.processing_lpmc import LpmcProcessor
from modeling_lpmc.training.audio_cache import FULL_SCALE
from modeling_lpmc.training.data import CaptionedClips, ClipDataset

SAMPLES, SAMPLES_PAGE = "samples.jsonl", "samples.md"
FINAL = "final"  # in place of the update, for captions of the weights that the run saves
_INPUTS = ("input_features", "input_values")


@contextlib.contextmanager
def nothing_disturbed(model: torch.nn.Module) -> Iterator[None]:
    """Inside the block the model does not train; afterwards mode, random states and gradients' switch are as before.

    The random states are torch's of the CPU and of every GPU: dropout of the next update must not depend on whether
    anybody looked.
    """
    was_training = model.training
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    on_cpu = torch.get_rng_state()
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        torch.set_rng_state(on_cpu)
        if on_devices:
            torch.cuda.set_rng_state_all(on_devices)
        model.train(was_training)


def fixed_clips(number: int, clips: int) -> list[int]:
    """The same at most `number` of `clips` clips at every evaluation, spread evenly over the split."""
    return np.unique(np.linspace(0, clips - 1, min(number, clips)).round().astype(int)).tolist()


def caption_clips(
    model: Any,
    processor: LpmcProcessor,
    clips: ClipDataset,
    numbers: Sequence[int],
    args: TrainingArguments,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Captions of the middle windows of `numbers`, in their order, decoded as the saved model decodes.

    Of several processes each captions its share, and all of them return all captions: every one must call this, with
    the same clips. The shares are of one length (the last clip is repeated), so that a model whose weights are divided
    over the processes can decode as well. Precision is that of training. `report` hears how many of this process's
    clips are done.
    """
    if not numbers:
        return []
    share = list(numbers[args.process_index :: args.world_size])
    share += [numbers[-1]] * (-(-len(numbers) // args.world_size) - len(share))
    captions: list[str] = []
    divided = is_fsdp_managed_module(model)
    with nothing_disturbed(model):
        for start in range(0, len(share), args.per_device_eval_batch_size):
            inputs = _batch(clips, share[start : start + args.per_device_eval_batch_size], args.device)
            with torch.autocast(args.device.type, torch.bfloat16, enabled=args.bf16), _whole(model, divided):
                tokens = model.generate(**inputs, synced_gpus=divided)
            captions += [text.strip() for text in processor.batch_decode(tokens)]
            report(len(captions), len(share))
    if args.world_size == 1:
        return captions
    # Process after process; clip i was the (i // processes)-th of process i % processes.
    everyone = np.array(gather_object(captions), dtype=object).reshape(args.world_size, len(share))
    return [str(everyone[i % args.world_size, i // args.world_size]) for i in range(len(numbers))]


def _batch(clips: ClipDataset, numbers: Sequence[int], device: torch.device) -> dict[str, torch.Tensor]:
    examples = [clips[number] for number in numbers]
    batch = {}
    for name in _INPUTS:
        if name in examples[0]:
            values = torch.from_numpy(np.stack([example[name] for example in examples])).to(device)
            batch[name] = values if values.is_floating_point() else values.float() / FULL_SCALE
    return batch


def _whole(model: Any, divided: bool) -> contextlib.AbstractContextManager[Any]:
    from torch.distributed.fsdp import FullyShardedDataParallel

    if divided and isinstance(model, FullyShardedDataParallel):
        return FullyShardedDataParallel.summon_full_params(model)
    return contextlib.nullcontext()


class SampleBook:
    """`samples.jsonl` and `samples.md` of a run: the captions of the fixed clips, evaluation after evaluation.

    A row is {"update", "clip", "reference", "caption"}; the update of the last ones is "final". `begin` must come
    first.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._rows: list[dict[str, Any]] = []

    def begin(self, update: int) -> None:
        """Take up the rows of the run that goes on after `update`; what it had written of later ones is made again."""
        self._rows = rows_until(self._directory / SAMPLES, update)

    def add(self, update: int | str, held_out: CaptionedClips, numbers: Sequence[int], captions: Sequence[str]) -> str:
        """Write the captions of one evaluation, and return them as a Markdown table. Raises `DiskError`."""
        rows = [
            {
                "update": update,
                "clip": held_out.track_ids[number],
                "reference": held_out.captions[number][0],
                "caption": caption,
            }
            for number, caption in zip(numbers, captions, strict=True)
        ]
        self._rows = [row for row in self._rows if row["update"] != update] + rows
        write_rows(self._directory / SAMPLES, self._rows)
        write_text(self._directory / SAMPLES_PAGE, self._page())
        return _table(rows)

    def _page(self) -> str:
        lines = ["# Sample captions", ""]
        for update in dict.fromkeys(row["update"] for row in self._rows):
            title = "The saved weights" if update == FINAL else f"After update {update:,}"
            lines += [f"## {title}", "", _table([row for row in self._rows if row["update"] == update]), ""]
        return "\n".join(lines)


def rows_until(path: Path, update: int) -> list[dict[str, Any]]:
    """The rows of a JSONL file up to `update`; a line that a kill cut short, and all later ones, are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if isinstance(row.get("update"), int) and row["update"] <= update:
            rows.append(row)
    return rows


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write JSONL, whole or not at all. Raises `DiskError`."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| clip | reference | caption |", "|---|---|---|"]
    lines += [f"| {_cell(row['clip'])} | {_cell(row['reference'])} | {_cell(row['caption'])} |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
