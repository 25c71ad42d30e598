"""How closely a converted model reproduces the checkpoint that it came from.

The checkpoint is run a second way that shares no model code with this project: its own mel and position tables, its
convolutions by `torch.nn.functional`, and transformers' stock BART, loaded under the released names.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import BartConfig, BartForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from .feature_extraction_lpmc import LpmcFeatureExtractor, log_mel
from .modeling_lpmc import LpmcForConditionalGeneration

State = dict[str, torch.Tensor]  # by released names

# Released tensors that our code computes for itself.
POSITIONS = "audio_encoder.positional_embedding"
WINDOW = "audio_encoder.mel_encoder.spec_fn.window"
FILTERS = "audio_encoder.mel_encoder.mel_scale.fb"

BART_FIELDS = (
    "vocab_size",
    "max_position_embeddings",
    "d_model",
    "encoder_layers",
    "decoder_layers",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "bos_token_id",
    "pad_token_id",
    "eos_token_id",
    "decoder_start_token_id",
)

CAPTION_TOKENS = 16  # length of the captions that are compared; five beams on a CPU take a second for each
PROBE_SEED = 20230731  # the paper's date


@torch.no_grad()
def measure_parity(state: State, output: Path, extractor: LpmcFeatureExtractor) -> dict[str, float | bool]:
    """Largest differences between the written model and the checkpoint run without our model code."""
    model = LpmcForConditionalGeneration.from_pretrained(output).eval()
    waves = _probe_clips(extractor)
    features = extractor(list(waves), sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_features"]
    mel = log_mel(waves, state[WINDOW].float(), state[FILTERS].float(), extractor.hop_length)
    embeddings = _released_embeddings(state, mel)
    bart = BartForConditionalGeneration(
        BartConfig(**{name: getattr(model.config, name) for name in BART_FIELDS})
    ).eval()
    bart.load_state_dict({key.removeprefix("bart."): value.float() for key, value in state.items() if "bart." in key})
    encoded = bart.model.encoder(inputs_embeds=embeddings).last_hidden_state
    decoding = copy.deepcopy(model.generation_config)
    decoding.max_length = min(CAPTION_TOKENS, decoding.max_length)
    tokens = bart.generate(encoder_outputs=BaseModelOutput(encoded), generation_config=decoding)
    logits = bart(encoder_outputs=BaseModelOutput(encoded), decoder_input_ids=tokens).logits
    ours = model(input_features=features, decoder_input_ids=tokens)
    our_tokens = model.generate(input_features=features, generation_config=decoding)
    return {
        "log_mel_max_abs": float((features - mel).abs().max()),
        "embeddings_max_abs": float((model.model.encoder.conv_stem(features) - embeddings).abs().max()),
        "encoder_max_abs": float((ours.encoder_last_hidden_state - encoded).abs().max()),
        "logits_max_abs": float((ours.logits - logits).abs().max()),
        "captions_equal": bool(torch.equal(our_tokens, tokens)),
    }


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
    noise = torch.randn(2, extractor.chunk_samples, generator=torch.Generator().manual_seed(PROBE_SEED))
    chord = sum(torch.sin(2 * torch.pi * hz * seconds) for hz in (220.0, 277.2, 329.6))
    return torch.stack([0.1 * chord + 0.01 * noise[0], 0.3 * noise[1] * seconds / extractor.chunk_seconds])
