"""Runs of training in processes of their own, which may be killed at a chosen moment or belong to one run of several.

The processes come from a server that has imported the libraries once, so that each costs a fork and no import.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import socket
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from training_corpus import KINDS, row, write_dataset

from lpmc_errors import LpmcError
from modeling_lpmc.training.progress import Progress
from modeling_lpmc.training.train import run_training
from modeling_lpmc.training.trainer import CaptionTrainer

SECONDS = 180  # a process that takes longer hangs
TINY = """
model: {tokenizer: train, vocabulary_size: 300, d_model: 32, encoder_layers: 1, decoder_layers: 1, attention_heads: 2,
  feed_forward: 64, max_caption_positions: 64, num_mel_bins: 32, initial_deviation: 0.1, calibrate: true,
  dropout: 0.1, label_smoothing: 0.1}
data: {config: clips, captions: [caption_writing, caption_summary]}
optimisation: {updates: 14, warmup_updates: 2, batch_size: 4, clips_per_step: 1, learning_rate: 0.003, log_every: 3,
  save_every: 4, precision: float32}
"""
TAGS = {"low": ["deep", "slow"], "high": ["bright"], "noise": ["slow", "harsh", "bright"], "beat": ["fast"]}

_processes = multiprocessing.get_context("forkserver")
# Not this file: the server of Python 3.11 does not know pytest's path, and ignores what it cannot import.
_processes.set_forkserver_preload(["modeling_lpmc.training.train", "pyarrow.parquet", "soundfile", "hub_cards"])


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes in one thread inside the block: several would wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_corpus(folder: Path, *, seconds: float = 10.0) -> Path:
    """Eleven training clips with one or two captions of uneven length and tags, and five held-out clips."""
    train: list[dict[str, Any]] = []
    for number in range(11):
        kind = list(KINDS)[number % 4]
        more = " ".join([KINDS[kind], *["Then it all begins again, louder."] * (number % 3)])
        summary = {"caption_summary": KINDS[kind].split()[1] if number % 2 else None}
        train.append(row(kind, number, seconds, caption_writing=more, tag=TAGS[kind], **summary))
    held_out = [row(kind, 50, seconds, caption_summary=None) for kind in [*KINDS]]
    held_out.append(row("low", 51, seconds, caption_writing="Low.", caption_summary=None))
    written = write_dataset(folder / "data", {"clips": {"train": train, "test": held_out}})
    # `datasets` caches a folder under its last name and its card, whatever its files hold: without this, a corpus that
    # another test or an earlier version of this one wrote would come back.
    content = hashlib.blake2b(b"".join(path.read_bytes() for path in sorted(written.glob("*/*"))), digest_size=8)
    return written.rename(folder / f"corpus-{content.hexdigest()}")


def write_recipe(folder: Path, text: str = TINY) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def asked(folder: Path, *more: str) -> list[str]:
    """The overrides that name the corpus in `folder`, and `more`."""
    return [f"data.dataset={next(folder.glob('corpus-*'))}", f"data.cache={folder / 'cache'}", *more]


@dataclass(frozen=True)
class KillAt:
    """A moment for SIGKILL: after update `update` is reported, before part `part` of any update, counted from 1, or
    when a file whose path ends with `file` appears in the output directory or beside it."""

    update: int | None = None
    part: int | None = None
    file: str | None = None


def start(
    recipe: Path | str,
    output: Path,
    overrides: Sequence[str],
    kill_at: KillAt | None = None,
    environment: dict[str, str] | None = None,
) -> Any:
    """Begin a run in a process of its own. Its error lands in `output` with `.error` behind it."""
    process = _processes.Process(target=_train, args=(recipe, output, overrides, kill_at, environment or {}))
    process.start()
    return process


def ended(process: Any) -> int:
    """The exit code of a process of `start`; a hanging one is killed and fails the test."""
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        raise AssertionError("the run hangs")
    return process.exitcode


def run_apart(recipe: Path | str, output: Path, overrides: Sequence[str], kill_at: KillAt | None = None) -> int:
    return ended(start(recipe, output, overrides, kill_at))


def run_shared(recipe: Path | str, output: Path, overrides: Sequence[str], kill_at: KillAt | None = None) -> list[int]:
    """Exit codes of a run in two processes, joined by gloo. `kill_at` kills the first one, and then both are dead."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    joined = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    pair = []
    for rank in range(2):
        own = joined | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        pair.append(start(recipe, output, overrides, kill_at if rank == 0 else None, own))
    codes = [ended(pair[0])]
    if codes[0] != 0:
        pair[1].kill()  # as a launcher does when one process dies
    return [*codes, ended(pair[1])]


def error_of(output: Path) -> str:
    return Path(f"{output}.error").read_text(encoding="utf-8")


def record(output: Path) -> dict[str, Any]:
    return json.loads((output / "training.json").read_text(encoding="utf-8"))


def curve(output: Path) -> list[tuple[int, float, float]]:
    """Update, loss and learning rate of every logged entry."""
    return [(point["update"], point["loss"], point["learning_rate"]) for point in record(output)["loss_curve"]]


def weights(output: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(output / "model.safetensors")


def _train(
    recipe: Path | str, output: Path, overrides: list[str], kill_at: KillAt | None, environment: dict[str, str]
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    kill_at = kill_at or KillAt()
    parts = 0
    whole_step = CaptionTrainer.training_step

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def step(self: CaptionTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal parts
        parts += 1
        if parts == kill_at.part:
            die()
        return whole_step(self, *args, **kwargs)

    def watch(progress: Progress) -> None:
        if progress.stage == "training" and progress.done == kill_at.update:
            die()

    def wait_for_file() -> None:
        ending = str(kill_at.file)
        while not any(f"{place}/{name}".endswith(ending) for place, _, names in os.walk(output) for name in names):
            pass
        die()

    CaptionTrainer.training_step = step  # type: ignore[method-assign]  # of this process alone
    if kill_at.file is not None:
        threading.Thread(target=wait_for_file, daemon=True).start()
    try:
        run_training(recipe, output, overrides, progress=watch)
    except LpmcError as error:
        Path(f"{output}.error").write_text(str(error), encoding="utf-8")
        raise SystemExit(error.exit_code) from None
    except Exception:
        Path(f"{output}.error").write_text(traceback.format_exc(), encoding="utf-8")
        raise
