"""How closely a converted model reproduces the checkpoint that it came from, as figures and as a page to read.

The checkpoint is run a second way that shares no model code with this project: its own mel and position tables, its
convolutions by `torch.nn.functional`, and transformers' stock BART, loaded under the released names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import BartConfig, BartForConditionalGeneration, GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from .feature_extraction_lpmc import LpmcFeatureExtractor
from .modeling_lpmc import LpmcForConditionalGeneration
from .released_checkpoint import FILTERS, POSITIONS, WINDOW, State

# What may differ, in float32 on one machine; measured at small and at full size: 0 to 1e-5.
PARITY_TOLERANCES = {
    "log_mel_relative": 1e-4,
    "embeddings_max_abs": 1e-4,
    "encoder_max_abs": 1e-4,
    "loss_abs": 1e-5,
    "logits_max_abs": 1e-3,
}
PARITY_PAGE = "PARITY.md"
PARITY_STEPS = 4  # what `progress` counts to

_BART_FIELDS = (
    *("vocab_size", "max_position_embeddings", "d_model", "encoder_layers", "decoder_layers"),
    *("encoder_attention_heads", "decoder_attention_heads", "encoder_ffn_dim", "decoder_ffn_dim"),
    *("activation_function", "scale_embedding"),
    *("bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id"),
)
_POWER_FLOOR = 1e-10  # below which the released code calls it silence
# Captions are compared at their full length, those of large models up to this many tokens: at the released size (149 M
# parameters, on one core of a CPU) all 128 of two clips, greedily and with 5 beams, by both programs, take minutes.
_LARGE_PARAMETERS, _LARGE_TOKENS = 50_000_000, 48
_LABELS = 24  # tokens of the longer of two captions whose loss is compared
_PROBE_SEED = 20230731  # the paper's date

Progress = Callable[[int, int, str], None]  # steps done, steps in all, the present one


@dataclass(frozen=True)
class Parity:
    """Largest differences of the written model from the checkpoint, over two clips of one window."""

    log_mel_relative: float  # of the power of a cell of the mel spectrogram, as a share of that power
    embeddings_max_abs: float  # after convolutions and sinusoids
    encoder_max_abs: float  # last hidden states of the encoder
    loss_abs: float  # of two random captions of unequal length, with label smoothing
    logits_max_abs: float
    greedy_equal: bool  # the tokens of a search without beams
    beams_equal: bool  # the tokens of the search that generation_config.json describes
    beams: int
    greedy_tokens: int  # length of the longest caption that was compared
    beam_tokens: int
    torch: str  # versions under which this was measured
    transformers: str

    def faults(self) -> list[str]:
        """What is not as close as it must be, in words; empty when all is."""
        values = {name: getattr(self, name) for name in PARITY_TOLERANCES}
        faults = [
            f"{name} {value:g} (at most {PARITY_TOLERANCES[name]:g})"
            for name, value in values.items()
            if not value <= PARITY_TOLERANCES[name]  # so that NaN is one as well
        ]
        faults += [] if self.greedy_equal else ["other greedy tokens"]
        return faults + ([] if self.beams_equal else [f"other tokens with {self.beams} beams"])


@torch.no_grad()
def measure_parity(
    state: State, output: Path, extractor: LpmcFeatureExtractor, progress: Progress | None = None
) -> Parity:
    """Compare the model directory `output` with its checkpoint (`state`, by released names).

    About a minute of a CPU at the released size; `progress` is told each step.
    """
    tell = progress or (lambda done, total, note: None)
    tell(0, PARITY_STEPS, "comparing spectra and states")
    model = LpmcForConditionalGeneration.from_pretrained(output).eval()
    bart = _stock_bart(state, model)
    waves = _probe_clips(extractor)
    features = extractor(list(waves), sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_features"]
    power = _released_power(state, waves, extractor)
    embeddings = _released_embeddings(state, 10 * torch.log10(power))
    encoded = bart.model.encoder(inputs_embeds=embeddings).last_hidden_state
    labels = _labels(model)
    ours = model(input_features=features, labels=labels)
    logits = bart(
        encoder_outputs=BaseModelOutput(encoded),
        decoder_input_ids=_shifted(labels, model.config.decoder_start_token_id, model.config.pad_token_id),
    ).logits
    loss = _smoothed_loss(logits, labels, model.config.label_smoothing)
    compared = {}
    decoding = model.generation_config  # as saved; the comparison changes the model's
    for step, beams in enumerate((1, decoding.num_beams), start=1):
        tell(step, PARITY_STEPS, f"comparing captions, beams: {beams}")
        settings = _settings(decoding, beams, large=model.num_parameters() > _LARGE_PARAMETERS)
        expected = _generate(bart, settings, encoder_outputs=BaseModelOutput(encoded))
        compared[step] = (_generate(model, settings, input_features=features), expected)
    tell(PARITY_STEPS, PARITY_STEPS, "compared")
    return Parity(
        log_mel_relative=_rounded(((10 ** (features.double() / 10) - power.double()).abs() / power.double()).max()),
        embeddings_max_abs=_rounded((model.model.encoder.conv_stem(features) - embeddings).abs().max()),
        encoder_max_abs=_rounded((ours.encoder_last_hidden_state - encoded).abs().max()),
        loss_abs=_rounded((ours.loss - loss).abs()),
        logits_max_abs=_rounded((ours.logits - logits).abs().max()),
        greedy_equal=torch.equal(*compared[1]),
        beams_equal=torch.equal(*compared[2]),
        beams=decoding.num_beams,
        greedy_tokens=compared[1][1].shape[1],
        beam_tokens=compared[2][1].shape[1],
        torch=torch.__version__,
        transformers=transformers.__version__,
    )


def parity_page(parity: Parity, checkpoint: str, sha256: str) -> str:
    """The figures as Markdown for people."""
    what = {
        "log_mel_relative": "log-mel spectrogram, largest error of a cell's power as a share of it",
        "embeddings_max_abs": "audio embeddings (convolutions and sinusoids), largest difference",
        "encoder_max_abs": "encoder states, largest difference",
        "loss_abs": "loss of random captions with label smoothing, difference",
        "logits_max_abs": "logits, largest difference",
    }
    rows = [f"| {text} | {getattr(parity, name):g} | {PARITY_TOLERANCES[name]:g} |" for name, text in what.items()]
    for text, equal, tokens in (
        ("greedy captions", parity.greedy_equal, parity.greedy_tokens),
        (f"captions with {parity.beams} beams", parity.beams_equal, parity.beam_tokens),
    ):
        rows.append(f"| {text}, up to {tokens} tokens | {'the same tokens' if equal else 'other tokens'} | the same |")
    lines = [
        "# How exactly this model reproduces its checkpoint",
        "",
        f"`{checkpoint}` (SHA-256 `{sha256}`)",
        "was run a second way, without this model's code: with its own mel filters, window and positions, its",
        "convolutions by torch, and the BART of transformers. Both were given the same two synthetic clips (a noisy",
        "chord and swelling noise) and, for the loss, the same random captions.",
        "",
        "| compared | difference | allowed |",
        "|---|---|---|",
        *rows,
        "",
        f"float32 on a CPU, torch {parity.torch}, transformers {parity.transformers}. The same figures are in",
        "`conversion.json`, under `parity`.",
    ]
    return "\n".join(lines) + "\n"


def _stock_bart(state: State, model: LpmcForConditionalGeneration) -> BartForConditionalGeneration:
    bart = BartForConditionalGeneration(BartConfig(**{name: getattr(model.config, name) for name in _BART_FIELDS}))
    weights = {key.removeprefix("bart."): value.float() for key, value in state.items() if key.startswith("bart.")}
    bart.load_state_dict(weights, strict=True)
    return bart.eval()


def _released_power(state: State, waves: torch.Tensor, extractor: LpmcFeatureExtractor) -> torch.Tensor:
    """Power in mel bands, from the checkpoint's own window and filters: (batch, mel, frames)."""
    window, filters = state[WINDOW].float(), state[FILTERS].float()
    spectrum = torch.stft(
        waves, window.shape[0], hop_length=extractor.hop_length, window=window, pad_mode="reflect", return_complex=True
    )
    energy = spectrum.real.square()
    if extractor.spectrum == "power":
        energy = energy + spectrum.imag.square()
    return (filters.T @ energy).clamp(min=_POWER_FLOOR)


def _released_embeddings(state: State, mel: torch.Tensor) -> torch.Tensor:
    """The released convolutions and positions, straight from the checkpoint: (batch, positions, d_model)."""
    names = ["conv1", *sorted({key.split(".")[2] for key in state if ".conv_stack." in key}, key=int)]
    hidden = mel
    for number, name in enumerate(names):
        prefix = "audio_encoder." + (name if name == "conv1" else f"conv_stack.{name}")
        weight, bias = state[f"{prefix}.weight"].float(), state[f"{prefix}.bias"].float()
        hidden = torch.nn.functional.gelu(
            torch.nn.functional.conv1d(hidden, weight, bias, stride=1 if number == 0 else 2, padding=1)
        )
    return hidden.transpose(1, 2) + state[POSITIONS].float()


def _probe_clips(extractor: LpmcFeatureExtractor) -> torch.Tensor:
    """Two clips of one window that need no file: a noisy chord, and noise that swells."""
    seconds = torch.arange(extractor.chunk_samples) / extractor.sampling_rate
    noise = torch.randn(2, extractor.chunk_samples, generator=torch.Generator().manual_seed(_PROBE_SEED))
    chord = sum(torch.sin(2 * torch.pi * hz * seconds) for hz in (220.0, 277.2, 329.6))
    return torch.stack([0.1 * chord + 0.01 * noise[0], 0.3 * noise[1] * seconds / extractor.chunk_seconds])


def _labels(model: LpmcForConditionalGeneration) -> torch.Tensor:
    """Two random captions, `<s> ... </s>`, the second half as long and filled up with -100: (2, tokens)."""
    config = model.config
    longest = min(_LABELS, config.max_position_embeddings)
    drawn = torch.randint(config.vocab_size, (2, longest), generator=torch.Generator().manual_seed(_PROBE_SEED))
    drawn[:, 0] = config.bos_token_id
    for row, length in enumerate((longest, longest // 2)):
        drawn[row, length - 1] = config.eos_token_id
        drawn[row, length:] = -100
    return drawn


def _shifted(labels: torch.Tensor, start: int, pad: int) -> torch.Tensor:
    """What the decoder reads for `labels`: one to the right, behind the start token, padded."""
    shifted = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == -100, pad)


def _smoothed_loss(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Mean over the tokens of the cross-entropy with a target spread by `smoothing` over the vocabulary."""
    counted = labels != -100
    surprise = -logits[counted].log_softmax(dim=-1)
    right = surprise.gather(1, labels[counted][:, None]).squeeze(1)
    return ((1 - smoothing) * right + smoothing * surprise.mean(dim=1)).mean()


def _settings(settings: GenerationConfig, beams: int, *, large: bool) -> GenerationConfig:
    changed = copy.deepcopy(settings)
    if large:
        changed.max_length = min(changed.max_length, _LARGE_TOKENS)
    changed.num_beams = beams
    if beams == 1:
        changed.early_stopping = False  # it belongs to beams
        changed.num_return_sequences = 1 if not changed.do_sample else changed.num_return_sequences
    return changed


def _generate(model: Any, settings: GenerationConfig, **inputs: Any) -> torch.Tensor:
    """The tokens of a captioner or of stock BART."""
    model.generation_config = settings  # not as an argument: the library would fill what is None from the model's own
    torch.manual_seed(_PROBE_SEED)  # for settings that draw
    written = model.generate(**inputs)
    tokens: torch.Tensor = getattr(written, "sequences", written)  # return_dict_in_generate
    return tokens


def _rounded(value: torch.Tensor) -> float:
    return float(f"{float(value):.2e}")  # as it is printed, so that the page and the record say the same
