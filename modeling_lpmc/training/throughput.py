"""How fast a run trains and what holds it up: clips a second, the share of time spent waiting for data, MFU.

    watch = ThroughputWatch(model.config)     # a callback, placed before the loggers so that they see its numbers
    next(watch.batches(epoch_iterator))       # the trainer takes its batches through this

Every logged loss then carries `THROUGHPUT_KEYS`. The first ten updates of a process are left out (compiling, choice of
kernels, cold caches), and so is the time of evaluations, checkpoints and logging.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modeling_lpmc.configuration_lpmc import LpmcConfig
from modeling_lpmc.modeling_lpmc import LpmcForConditionalGeneration

WARMUP_UPDATES = 10  # of each process; not counted
THROUGHPUT_KEYS = ("clips_per_second", "data_wait_share", "model_tflops", "mfu")
"""Names beside a logged loss: clips of all processes a second; share of the time (0 to 1) that this process waited for
a batch; model TFLOP/s of one device; that over the device's peak, left out where the peak is not known."""

# Dense peaks in TFLOP/s (bfloat16, TF32, float32) from NVIDIA's data sheets and the Ampere and Ada whitepapers, where
# half of a figure "with sparsity" is the dense one. The pattern is searched in what `torch.cuda` calls the device.
_PEAKS = (
    (r"H100 PCIe", (756.0, 378.0, 51.2)),
    (r"H100 NVL", (835.5, 417.5, 60.0)),
    (r"\bG?H[12]00\b", (989.4, 494.7, 66.9)),  # SXM, Grace; the H200 has the same
    (r"\bA100\b", (312.0, 156.0, 19.5)),
    (r"\bL40S\b", (362.0, 183.0, 91.6)),
    (r"\bL4$", (121.0, 60.0, 30.3)),
    (r"\bA10$", (125.0, 62.5, 31.2)),
    (r"RTX 4090", (165.2, 82.6, 82.6)),
    (r"RTX 3090$", (71.2, 35.6, 35.6)),
)


def peak_flops(device_name: str, *, bfloat16: bool, tf32: bool = False) -> float | None:
    """The data sheet's FLOP/s of a GPU in that precision, or None for one that is not in the table."""
    for pattern, peaks in _PEAKS:
        if re.search(pattern, device_name):
            return peaks[0 if bfloat16 else 1 if tf32 else 2] * 1e12
    return None


class TrainingFlops:
    """Operations of a forward and backward pass of one clip, counted once for each shape without computing anything.

    Matrix products, convolutions and attention are counted, as `FlopCounterMode` does; the Fourier transform is not.
    """

    def __init__(self, config: LpmcConfig) -> None:
        self.config = config
        self.known: dict[tuple[int, int], int] = {}
        self.model: Any = None

    def of_batch(self, batch: dict[str, Any]) -> int:
        """Operations of all clips of a batch of `CaptionCollator`."""
        clips, width = batch["labels"].shape
        if "input_features" in batch:
            return clips * self.of_clip(int(batch["input_features"].shape[-1]), int(width))
        frames = int(batch["input_values"].shape[-1]) // self.config.hop_length + 1
        spectrum = self.config.n_fft // 2 + 1
        return clips * (self.of_clip(frames, int(width)) + 2 * frames * spectrum * self.config.num_mel_bins)

    def of_clip(self, frames: int, tokens: int) -> int:
        """Operations of one clip of that many frames of log-mel features, with labels of that many tokens."""
        if (frames, tokens) not in self.known:
            self.known[frames, tokens] = self._count(frames, tokens)
        return self.known[frames, tokens]

    def _count(self, frames: int, tokens: int) -> int:
        if self.model is None:
            # Eager attention: the counter knows its products on every device. Meta tensors have shapes and no memory.
            config = type(self.config).from_dict(self.config.to_dict() | {"attn_implementation": "eager"})
            with torch.device("meta"):
                self.model = LpmcForConditionalGeneration(config).train()
        features = torch.empty(1, self.config.num_mel_bins, frames, device="meta")
        labels = torch.empty(1, tokens, dtype=torch.long, device="meta")
        with FlopCounterMode(display=False) as counter:
            self.model(input_features=features, labels=labels).loss.backward()
        self.model.zero_grad(set_to_none=True)
        return counter.get_total_flops()


@dataclass
class _Measured:
    """What was counted since some moment; seconds of this process."""

    seconds: float = 0.0
    waited: float = 0.0
    clips: int = 0
    flops: int = 0
    updates: int = 0

    def add(self, other: _Measured) -> None:
        for name in vars(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class _Settings:
    processes: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    peak: float | None = None


class ThroughputWatch(TrainerCallback):
    """Counts what a run gets done; see the head of this file for how it is hooked in.

    The clock runs from the moment when an update's first batch is asked for to the end of the last update before a log,
    an evaluation or a checkpoint, the device idle again; so none of those is counted, and nothing is left in a queue.
    """

    def __init__(self, config: LpmcConfig) -> None:
        self.flops = TrainingFlops(config)
        self.settings = _Settings()
        self.interval = _Measured()  # since the last log
        self.whole = _Measured()
        self.began: float | None = None
        self.updates = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Learn on how many devices of which kind the run goes on."""
        device, peak = args.device, None
        if device.type == "cuda":
            tf32 = torch.backends.cuda.matmul.allow_tf32
            peak = peak_flops(torch.cuda.get_device_name(device), bfloat16=bool(args.bf16), tf32=tf32)
        self.settings = _Settings(args.world_size, device, peak)
        self.interval, self.whole, self.began, self.updates = _Measured(), _Measured(), None, 0

    def batches(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """`iterator` again, with the time noted that each batch takes to come, and what is in it."""
        return _TimedBatches(iterator, self)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop the clock where something else than training follows."""
        self.updates += 1
        self.interval.updates += 1
        last_of_warmup = self.updates == WARMUP_UPDATES
        paused = control.should_log or control.should_evaluate or control.should_save or control.should_training_stop
        if not (last_of_warmup or paused):
            return
        if self.settings.device.type == "cuda":
            torch.cuda.synchronize(self.settings.device)
        if self.updates <= WARMUP_UPDATES:
            self.interval = _Measured()
        elif self.began is not None:
            self.interval.seconds += time.perf_counter() - self.began
        self.began = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Put the numbers since the last log beside the loss, for later callbacks and in the trainer's history."""
        if not logs or "loss" not in logs or not self.interval.updates:
            return
        numbers = self._numbers(self.interval)
        logs.update(numbers)
        if state.log_history:
            state.log_history[-1].update(numbers)
        self.whole.add(self.interval)
        self.interval = _Measured()

    def summary(self) -> dict[str, Any]:
        """`THROUGHPUT_KEYS` over all that this process has counted, and of how many updates; empty for a short run."""
        return {"updates": self.whole.updates, **self._numbers(self.whole)} if self.whole.updates else {}

    def _numbers(self, measured: _Measured) -> dict[str, float]:
        if not measured.seconds:
            return {}
        rate = measured.flops / measured.seconds
        numbers = {
            "clips_per_second": round(self.settings.processes * measured.clips / measured.seconds, 2),
            "data_wait_share": round(min(1.0, measured.waited / measured.seconds), 4),
            "model_tflops": round(rate / 1e12, 4),
        }
        return numbers | ({"mfu": round(rate / self.settings.peak, 4)} if self.settings.peak else {})


class _TimedBatches:
    """An iterator whose waits a `ThroughputWatch` notes."""

    def __init__(self, iterator: Iterator[Any], watch: ThroughputWatch) -> None:
        self.iterator = iterator
        self.watch = watch

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        watch, asked = self.watch, time.perf_counter()
        if watch.began is None:
            watch.began = asked
        batch = next(self.iterator)
        came = time.perf_counter()
        watch.interval.waited += came - asked
        watch.interval.clips += len(batch["labels"])
        watch.interval.flops += watch.flops.of_batch(batch)
        watch.began += time.perf_counter() - came  # counting a new shape takes half a second and is no training
        return batch


__all__ = ["THROUGHPUT_KEYS", "WARMUP_UPDATES", "ThroughputWatch", "TrainingFlops", "peak_flops"]
