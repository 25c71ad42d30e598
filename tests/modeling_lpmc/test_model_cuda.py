"""The network on a GPU against the same network on the CPU: features, loss, captions, training. Skips without CUDA."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_captioner import ending_model, features, small_model
from torch import nn
from transformers import GenerationMixin

from modeling_lpmc import LpmcFeatureExtractor, LpmcForConditionalGeneration, convert_checkpoint
from modeling_lpmc.search_plan_lpmc import plan_search

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

LABELS = torch.tensor([[0, 11, 12, 13, 14, 2], [0, 21, 22, 2, -100, -100], [0, 31, 2, -100, -100, -100]])


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Float32 means float32: cuDNN would otherwise round convolutions to TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def on_both(**changes: float) -> tuple[LpmcForConditionalGeneration, LpmcForConditionalGeneration]:
    """The same weights on the CPU and on the GPU."""
    return small_model(**changes), small_model(**changes).to("cuda")


def relative(got: torch.Tensor, wanted: torch.Tensor) -> float:
    got, wanted = got.detach().double().cpu(), wanted.detach().double().cpu()
    return float((got - wanted).norm() / wanted.norm())


def noise(batch: int) -> torch.Tensor:
    return torch.randn(batch, 160_000, generator=torch.Generator().manual_seed(1)) * 0.1


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_spectrograms_of_the_gpu_are_those_of_the_cpu(precision: str) -> None:
    waves = noise(2)
    waves[1, 80_000:] = 0.0
    on_cpu = LpmcFeatureExtractor()(waves, sampling_rate=16000, return_tensors="pt")["input_features"]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)  # "high", TF32, is what people set to train faster
    try:
        outside = LpmcFeatureExtractor()(waves, sampling_rate=16000, return_tensors="pt", device="cuda")
        model = small_model().to("cuda")
        with torch.autocast("cuda", dtype=torch.bfloat16):
            inside = model.model.encoder.log_mel(waves.to("cuda"))
    finally:
        torch.set_float32_matmul_precision(before)
    assert outside["input_features"].device.type == "cuda"
    for got in (outside["input_features"], inside):
        assert got.dtype == torch.float32
        off = (got.cpu() - on_cpu).abs()  # dB; the largest stand where the real part is nearly zero
        assert off.max() < 0.1
        assert off.mean() < 0.001
        assert (got[1, :, 600:] == -100).all(), "silence is exactly -100 dB"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_encoder_and_loss_of_the_gpu_are_those_of_the_cpu(dtype: torch.dtype, tolerance: float) -> None:
    cpu, gpu = on_both()
    inputs = features(3)
    with torch.no_grad():
        wanted = cpu(input_features=inputs, labels=LABELS)
        got = gpu.to(dtype)(input_features=inputs.cuda(), labels=LABELS.cuda())
    assert got.loss.dtype == torch.float32
    assert relative(got.encoder_last_hidden_state, wanted.encoder_last_hidden_state) < tolerance
    assert relative(got.logits, wanted.logits) < tolerance
    assert got.loss.item() == pytest.approx(wanted.loss.item(), rel=tolerance)


@pytest.mark.parametrize("beams", [1, 5])
def test_captions_of_the_gpu_are_those_of_the_cpu_token_by_token(beams: int) -> None:
    cpu, gpu = on_both()
    inputs = features(8)
    settings = {"num_beams": beams, "early_stopping": beams > 1, "max_length": 40}
    wanted = cpu.generate(input_features=inputs, **settings)
    assert len({tuple(row) for row in wanted.tolist()}) > 4, "the captions must differ for this to mean anything"
    assert torch.equal(gpu.generate(input_features=inputs.cuda(), **settings).cpu(), wanted)
    waves = noise(4)
    wanted = cpu.generate(input_values=waves, **settings)
    assert torch.equal(gpu.generate(input_values=waves.cuda(), **settings).cpu(), wanted)


def searching(beams: int) -> dict[str, Any]:
    """Captions that end at different lengths, so that clips leave the batch."""
    return {"num_beams": beams, "early_stopping": beams > 1, "max_length": 60}


@pytest.mark.parametrize("beams", [1, 5])
def test_the_own_search_on_the_gpu_writes_what_the_library_and_the_cpu_write(beams: int) -> None:
    cpu, gpu = ending_model(), ending_model().to("cuda")
    inputs, settings = features(6), searching(beams)
    assert plan_search(gpu, None, None, {"input_features": inputs.cuda(), **settings}) is not None
    wanted = cpu.generate(input_features=inputs, **settings)
    assert len(set((wanted != cpu.config.pad_token_id).sum(1).tolist())) > 1
    got = gpu.generate(input_features=inputs.cuda(), **settings)
    assert got.device.type == "cuda"
    assert torch.equal(got.cpu(), wanted)
    assert torch.equal(got, GenerationMixin.generate(gpu, input_features=inputs.cuda(), **settings))
    several = settings | {"num_return_sequences": beams}
    assert torch.equal(
        gpu.generate(input_features=inputs.cuda(), **several).cpu(), cpu.generate(input_features=inputs, **several)
    )


@pytest.mark.parametrize("beams", [1, 5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_captions_of_the_own_search_begin_as_the_library_s(beams: int, dtype: torch.dtype) -> None:
    model = ending_model().to("cuda", dtype)
    inputs, settings = features(6).cuda(), searching(beams)
    assert plan_search(model, None, None, {"input_features": inputs, **settings}) is not None
    ours = model.generate(input_features=inputs, **settings)
    theirs = GenerationMixin.generate(model, input_features=inputs, **settings)
    shortest = min(ours.shape[1], theirs.shape[1], 6)
    same = (ours[:, :shortest] == theirs[:, :shortest]).float().mean()
    assert same > 0.7, "rounding may change some beams, not most"
    assert int(ours.max()) < model.config.vocab_size


@pytest.mark.parametrize("beams", [1, 5])
def test_compiled_steps_of_the_own_search_write_the_same_captions(beams: int) -> None:
    model = ending_model().to("cuda")
    settings = searching(beams)
    for clips in (6, 2):
        inputs = features(6)[:clips].cuda()
        model.set_decoding()
        wanted = model.generate(input_features=inputs, **settings)
        model.set_decoding(compiled=True)
        for _ in range(2):
            assert torch.equal(model.generate(input_features=inputs, **settings), wanted)


@pytest.mark.parametrize("beams", [1, 5])
def test_autocast_on_the_gpu_is_left_to_the_library(beams: int) -> None:
    model = ending_model().to("cuda")
    inputs, settings = features(6).cuda(), searching(beams)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert plan_search(model, None, None, {"input_features": inputs, **settings}) is None
        ours = model.generate(input_features=inputs, **settings)
        assert torch.equal(ours, GenerationMixin.generate(model, input_features=inputs, **settings))


def test_a_model_that_moves_between_devices_takes_its_captions_along() -> None:
    model = ending_model()
    inputs, settings = features(6), searching(5)
    wanted = model.generate(input_features=inputs, **settings)
    assert torch.equal(model.to("cuda").generate(input_features=inputs.cuda(), **settings).cpu(), wanted)
    assert torch.equal(model.to("cpu").generate(input_features=inputs, **settings), wanted)


@pytest.mark.parametrize("beams", [1, 5])
def test_compiled_generation_with_a_static_cache_writes_the_same_captions(beams: int) -> None:
    model = small_model().to("cuda")
    inputs = features(4).cuda()
    settings = {"num_beams": beams, "early_stopping": beams > 1, "max_length": 24}
    wanted = model.generate(input_features=inputs, **settings)
    assert torch.equal(model.generate(input_features=inputs, cache_implementation="static", **settings), wanted)
    model.forward = torch.compile(model.forward)  # type: ignore[method-assign]
    for _ in range(2):
        got = model.generate(input_features=inputs, cache_implementation="static", **settings)
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("allow_tf32", [False, True])
def test_the_released_model_is_reproduced_on_the_gpu(allow_tf32: bool, oracle_model: Path, tmp_path: Path) -> None:
    torch.backends.cudnn.allow_tf32 = allow_tf32  # PyTorch's default is true
    convert_checkpoint(oracle_model / "small_checkpoint.pth", tmp_path, sizes=oracle_model / "small_config.json")
    expected = np.load(oracle_model / "small_expected.npz")
    clips = []
    for number in range(3):
        with wave.open(str(oracle_model / f"small_clip{number}.wav")) as file:
            pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        clips.append(pcm.astype(np.float32) / 32768)
    extractor = LpmcFeatureExtractor.from_pretrained(tmp_path)
    inputs = extractor(clips, sampling_rate=16000, return_tensors="pt", device="cuda")["input_features"]
    for attention in ("sdpa", "eager"):
        model = LpmcForConditionalGeneration.from_pretrained(tmp_path, attn_implementation=attention).to("cuda").eval()
        with torch.no_grad():
            out = model(input_features=inputs, labels=torch.from_numpy(expected["labels"]).cuda())
        wanted = torch.from_numpy(expected["encoder_last_hidden_state"])
        assert (out.encoder_last_hidden_state.cpu() - wanted).abs().max() < (1e-2 if allow_tf32 else 1e-4)
        assert out.loss.item() == pytest.approx(float(expected["loss"]), abs=1e-2 if allow_tf32 else 1e-4)
        for name, beams in (("greedy_tokens", 1), ("beam5_tokens", 5)):
            tokens = model.generate(input_features=inputs, num_beams=beams, early_stopping=beams > 1)
            assert torch.equal(tokens.cpu(), torch.from_numpy(expected[name])), (attention, name)


def gradients(model: nn.Module, dtype: torch.dtype | None) -> tuple[float, torch.Tensor]:
    """Loss and all gradients end to end, from waveforms; `dtype` is that of autocast."""
    model.train()
    model.zero_grad()
    device = next(model.parameters()).device
    waves, labels = noise(3).to(device), LABELS.to(device)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        loss = model(input_values=waves, labels=labels).loss
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten().float().cpu() for p in model.parameters() if p.grad is not None])


def test_a_training_step_of_the_gpu_is_that_of_the_cpu() -> None:
    cpu, gpu = on_both()
    loss, wanted = gradients(cpu, None)
    for dtype, tolerance in ((None, 1e-4), (torch.bfloat16, 0.1)):
        got_loss, got = gradients(gpu, dtype)
        assert got_loss == pytest.approx(loss, rel=tolerance)
        assert relative(got, wanted) < tolerance


def test_checkpointed_and_compiled_training_steps_have_the_same_gradients() -> None:
    model = small_model().to("cuda")
    loss, wanted = gradients(model, None)
    model.gradient_checkpointing_enable()
    got_loss, got = gradients(model, None)
    assert got_loss == pytest.approx(loss, rel=1e-5)
    assert relative(got, wanted) < 1e-4
    model.gradient_checkpointing_disable()
    compiled = torch.compile(model)
    got_loss, got = gradients(compiled, None)
    assert got_loss == pytest.approx(loss, rel=1e-5)
    assert relative(got, wanted) < 1e-4
