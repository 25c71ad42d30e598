"""What a run's log says of its speed: clips, waiting and operations, without the time that is no training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from modeling_lpmc import LpmcConfig, LpmcForConditionalGeneration
from modeling_lpmc.training import throughput
from modeling_lpmc.training.throughput import WARMUP_UPDATES, ThroughputWatch, TrainingFlops, peak_flops

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_mel_bins": 8,
    "num_conv_layers": 2,
}


class Clock:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput.time, "perf_counter", clock)
    return clock


def batch(clips: int, tokens: int = 8) -> dict[str, torch.Tensor]:
    return {"labels": torch.zeros(clips, tokens, dtype=torch.long), "input_features": torch.zeros(clips, 8, 32)}


class Run:
    """Updates as the trainer makes them, on a clock: each waits `wait` seconds for its batch and works for `work`."""

    def __init__(self, clock: Clock, folder: Path, clips: int = 4) -> None:
        self.clock, self.clips = clock, clips
        self.watch = ThroughputWatch(LpmcConfig(**SMALL, max_source_frames=16))
        self.arguments = TrainingArguments(output_dir=str(folder), use_cpu=True)
        self.state, self.control = TrainerState(), TrainerControl()
        self.watch.on_train_begin(self.arguments, self.state, self.control)
        self.wait = 0.0
        self.batches = self.watch.batches(self._loader())

    def _loader(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            self.clock.now += self.wait
            yield batch(self.clips)

    def updates(
        self, number: int, *, wait: float, work: float, then: str = "log", pause: float = 0.0
    ) -> dict[str, Any]:
        for update in range(number):
            self.wait = wait
            next(self.batches)
            self.clock.now += work
            last = update == number - 1
            self.control.should_log = last and then == "log"
            self.control.should_evaluate = last and then == "evaluate"
            self.watch.on_step_end(self.arguments, self.state, self.control)
        logs: dict[str, Any] = {"loss": 1.0}
        if then == "log":
            self.state.log_history.append(dict(logs))
            self.watch.on_log(self.arguments, self.state, self.control, logs=logs)
        self.clock.now += pause
        return logs


def test_the_first_updates_of_a_process_are_left_out(clock: Clock, tmp_path: Path) -> None:
    run = Run(clock, tmp_path)
    assert run.updates(WARMUP_UPDATES - 1, wait=5.0, work=5.0) == {"loss": 1.0}
    logs = run.updates(11, wait=0.25, work=0.75)  # one more of the warm-up, and ten that count
    assert logs["clips_per_second"] == pytest.approx(4.0)
    assert logs["data_wait_share"] == pytest.approx(0.25)
    assert run.watch.summary()["updates"] == 10


def test_logging_evaluating_and_saving_are_no_training_time(clock: Clock, tmp_path: Path) -> None:
    run = Run(clock, tmp_path)
    run.updates(WARMUP_UPDATES, wait=1.0, work=1.0, pause=100.0)
    run.updates(5, wait=0.5, work=0.5, pause=1000.0)
    run.updates(3, wait=0.5, work=0.5, then="evaluate", pause=1000.0)
    logs = run.updates(2, wait=0.5, work=0.5)
    assert logs["clips_per_second"] == pytest.approx(4.0)
    assert logs["data_wait_share"] == pytest.approx(0.5)
    summary = run.watch.summary()
    assert (summary["updates"], summary["clips_per_second"]) == (10, pytest.approx(4.0))
    assert run.state.log_history[-1]["clips_per_second"] == logs["clips_per_second"]


def test_operations_are_those_of_a_real_forward_and_backward_pass() -> None:
    config = LpmcConfig(**SMALL, max_source_frames=16)
    torch.manual_seed(0)
    model = LpmcForConditionalGeneration(config).train()
    for tokens in (8, 16):
        given = batch(3, tokens)
        with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
            model.set_attn_implementation("eager")
            model(input_features=given["input_features"], labels=given["labels"]).loss.backward()
        assert TrainingFlops(config).of_batch(given) == counter.get_total_flops() > 0
    waves = {"labels": torch.zeros(3, 8, dtype=torch.long), "input_values": torch.zeros(3, 31 * 160)}
    mel = 2 * 32 * 513 * 8  # frames, bins of the spectrum, bands
    flops = TrainingFlops(config)
    assert flops.of_batch(waves) == flops.of_batch(batch(3)) + 3 * mel


def test_counting_a_shape_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    TrainingFlops(LpmcConfig(**SMALL, max_source_frames=16)).of_batch(batch(2))
    assert torch.equal(torch.rand(3), expected)


def test_mfu_needs_a_peak_and_is_the_share_of_it(clock: Clock, tmp_path: Path) -> None:
    run = Run(clock, tmp_path)
    run.updates(WARMUP_UPDATES, wait=0.0, work=1.0)
    without = run.updates(2, wait=0.0, work=1.0)
    assert "mfu" not in without
    run.watch.settings.peak = 1e12 * 2
    run.watch.flops.of_batch = lambda given: int(1e12)  # type: ignore[method-assign,assignment]
    logs = run.updates(2, wait=0.0, work=1.0)
    assert (logs["mfu"], logs["model_tflops"]) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("name", "bfloat16"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H200", 989.4),
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA A10G", None),
        ("NVIDIA RTX A1000", None),
    ],
)
def test_the_peak_of_a_gpu_is_that_of_its_data_sheet(name: str, bfloat16: float | None) -> None:
    found = peak_flops(name, bfloat16=True)
    assert found == (None if bfloat16 is None else bfloat16 * 1e12)
    if found is not None:
        assert found > peak_flops(name, bfloat16=False, tf32=True) > peak_flops(name, bfloat16=False)  # type: ignore[operator]


def test_the_batches_themselves_pass_unchanged_to_their_end() -> None:
    given = [batch(2), batch(1)]
    watch = ThroughputWatch(LpmcConfig(**SMALL, max_source_frames=16))
    assert [one is other for one, other in zip(watch.batches(iter(given)), given, strict=True)] == [
        True,
        True,
    ]
