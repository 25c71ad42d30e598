"""What a stranger does with a model directory, under any release of transformers; it imports nothing of this project.

    python captioner_client.py DIRECTORY

loads every auto class with `trust_remote_code=True`, captions what lies in DIRECTORY-inputs.npz, saves all of it to
DIRECTORY-again, loads that, and prints one line of JSON. Nothing is asserted here: the test compares with what this
project computes.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

PROJECT_MODULES = ("modeling_lpmc", "lpmc_errors", "lpmc_files", "lpmc")
OPTIONAL = ("soundfile", "soxr", "accelerate", "torchaudio", "torchcodec", "librosa", "datasets")
WAYS: dict[str, dict[str, Any]] = {
    "as the model says": {},
    "greedy": {"num_beams": 1, "early_stopping": False},
    "three beams, penalised": {"num_beams": 3, "length_penalty": 2.0, "max_new_tokens": 12},
    "two captions a clip": {"num_beams": 4, "num_return_sequences": 2, "max_length": 16},
    "sampled": {"num_beams": 1, "early_stopping": False, "do_sample": True, "top_k": 20, "max_length": 20},
    # Without early stopping the library itself ends sampled beams at other places in 4.53 than in 4.57.
    "sampled beams": {"num_beams": 2, "early_stopping": True, "do_sample": True, "top_k": 20, "max_length": 12},
}
SEED = 7  # of sampling
_DTYPE = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"


def captions_of(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, list[list[int]]]:
    """Token ids of `inputs` for each of `WAYS`."""
    found = {}
    for name, options in WAYS.items():
        torch.manual_seed(SEED)
        found[name] = model.generate(**inputs, **options).tolist()
    return found


def inputs_beside(directory: Path) -> dict[str, torch.Tensor]:
    """The arrays of DIRECTORY-inputs.npz."""
    with np.load(f"{directory}-inputs.npz") as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def greedy(model: Any, features: torch.Tensor) -> list[list[int]]:
    """Token ids without beams."""
    return model.generate(input_features=features, **WAYS["greedy"]).tolist()


def unlike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """The names of tensors that only one has, or that are not bit for bit the same in both."""
    both = one.keys() & other.keys()
    return sorted((one.keys() ^ other.keys()) | {name for name in both if not torch.equal(one[name], other[name])})


def opened(directory: Path) -> dict[str, Any]:
    """What comes of `directory`. Beside it are written DIRECTORY-again, -extracted.npy and -buffers.pt."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSpeechSeq2Seq

    remote = {"trust_remote_code": True}
    out = Path(f"{directory}-again")
    given = inputs_beside(directory)
    features, waveforms = given["features"], given["waveforms"]
    model = AutoModel.from_pretrained(directory, **remote).eval()
    speech = AutoModelForSpeechSeq2Seq.from_pretrained(directory, **remote).eval()
    half = AutoModel.from_pretrained(directory, **remote, **{_DTYPE: torch.bfloat16}).eval()
    extractor = AutoFeatureExtractor.from_pretrained(directory, **remote)
    result = {
        "transformers": transformers.__version__,
        "importable": [name for name in (*PROJECT_MODULES, *OPTIONAL) if importlib.util.find_spec(name)],
        "config": AutoConfig.from_pretrained(directory, **remote).to_dict(),
        "modules": sorted({type(each).__module__.split(".")[0] for each in (model, speech, extractor, model.config)}),
        "from features": captions_of(model, {"input_features": features}),
        "from waveforms": captions_of(model, {"input_values": waveforms}),
        "speech seq2seq, greedy": greedy(speech, features),
        "bfloat16": [sorted({str(each.dtype) for each in half.parameters()}), greedy(half, features)],
        "loss": model(input_features=features, labels=given["labels"]).loss.item(),
    }
    extracted = extractor(list(waveforms), sampling_rate=16_000, return_tensors="np")["input_features"]
    np.save(f"{directory}-extracted.npy", extracted)
    torch.save(dict(model.named_buffers()), f"{directory}-buffers.pt")
    model.save_pretrained(out, safe_serialization=False)  # which version 4 obeys, left to itself
    result["weights"] = sorted(path.name for path in out.iterdir() if path.suffix not in (".json", ".md", ".py", ""))
    if (directory / "tokenizer.json").exists():
        result |= with_tokenizer(directory, out, waveforms)
    else:
        extractor.save_pretrained(out)
    again = AutoModelForSpeechSeq2Seq.from_pretrained(out, **remote).eval()
    result["saved and loaded"] = {
        "unlike": unlike(model.state_dict(), again.state_dict()),
        "buffers unlike": unlike(dict(model.named_buffers()), dict(again.named_buffers())),
        "tied": again.lm_head.weight is again.model.shared.weight is again.model.decoder.embed_tokens.weight,
        "greedy": greedy(again, features),
        "extractor": AutoFeatureExtractor.from_pretrained(out, **remote).to_dict() == extractor.to_dict(),
    }
    result["imported"] = [name for name in PROJECT_MODULES if name in sys.modules]
    return result


def with_tokenizer(directory: Path, out: Path, waveforms: torch.Tensor) -> dict[str, Any]:
    """What a processor adds: texts, labels and the pipeline."""
    from transformers import AutoProcessor, AutoTokenizer, pipeline

    remote = {"trust_remote_code": True}
    processor = AutoProcessor.from_pretrained(directory, **remote)
    tokenizer = AutoTokenizer.from_pretrained(directory, **remote)
    processor.save_pretrained(out)
    text = "Fast punk rock: loud guitars, shouted vocals."
    result: dict[str, Any] = {
        "labels": processor(text=text)["labels"],
        "decoded": [tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)],
    }
    for place in (directory, out):
        again = AutoProcessor.from_pretrained(place, **remote)
        result["decoded"] += again.batch_decode(again(text=[text])["labels"])
        captions = pipeline("music-captioning", model=str(place), trust_remote_code=True, device=-1)
        result[f"pipeline of {'the directory' if place == directory else 'the copy'}"] = captions(
            [wave.numpy() for wave in waveforms], batch_size=2
        )
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(opened(Path(sys.argv[1]))))
