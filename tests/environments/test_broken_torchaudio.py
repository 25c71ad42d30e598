"""A torchaudio that is installed and cannot be loaded fails newer releases of transformers, but not the captioner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import interpreters
import numpy as np
import pytest
import soundfile
from interpreters import PROJECT_ITSELF, client
from small_captioner import ending_model, small_processor

from modeling_lpmc import save_for_hub

# How it fails where torch and torchaudio do not fit: a symbol is missing in its library, it was built for another CUDA,
# or it asks torch for something that is gone.
FAILURES = {
    "symbol": "raise OSError('libtorchaudio.so: undefined symbol: aoti_torch_abi_version')",
    "cuda": "raise RuntimeError('Detected that PyTorch and TorchAudio were compiled with different CUDA versions.')",
    "attribute": "import torch\ntorch.library.gone_since_this_release",
}

REMOTE = """
import importlib.metadata, importlib.util, inspect, json, logging, sys
import torch, transformers
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSpeechSeq2Seq, AutoTokenizer

first = {"extractor": AutoFeatureExtractor, "model": AutoModel}[sys.argv[2]]
warned = []

class Listener(logging.Handler):
    def emit(self, record):
        warned.append(record)

logging.getLogger().addHandler(Listener())
first.from_pretrained(sys.argv[1], trust_remote_code=True)
from transformers import AutoProcessor

model = AutoModelForSpeechSeq2Seq.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)
wave = torch.linspace(-0.5, 0.5, 160_000).sin()
print(json.dumps({
    "installed": importlib.metadata.version("torchaudio"),
    "needed": "import torchaudio" in inspect.getsource(transformers.audio_utils),
    "ours": importlib.util.find_spec("modeling_lpmc") is not None,
    "warned": [each.getMessage() for each in warned if "torchaudio" in each.getMessage()],
    "tokens": model.generate(**processor(audio=wave, sampling_rate=16_000, return_tensors="pt")).tolist(),
}))
"""

OURS = """
import json, logging, pkgutil, subprocess, sys
warned = []

class Listener(logging.Handler):
    def emit(self, record):
        warned.append(record)

logging.getLogger().addHandler(Listener())
import modeling_lpmc
modeling_lpmc.LpmcModel  # the file of the model asks transformers for BART before it asks for its neighbours
imported = [name for _, name, _ in pkgutil.walk_packages(modeling_lpmc.__path__, "modeling_lpmc.")]
for name in imported:
    __import__(name)
from modeling_lpmc.captioner import Captioner
from transformers import pipeline

directory, wave = sys.argv[1:]
captioned = [each.to_dict() for each in Captioner.from_pretrained(directory).caption_files([wave])]
piped = pipeline("music-captioning", model=directory, trust_remote_code=True, device=-1)(wave)
command = [sys.executable, "-m", "lpmc", "caption", wave, "--model", directory, "--json"]
done = subprocess.run(command, capture_output=True, text=True)
print(json.dumps({
    "warned": [each.getMessage() for each in warned if "torchaudio" in each.getMessage()],
    "imported": imported,
    "captioned": captioned,
    "piped": piped,
    "command": [done.returncode, done.stdout, done.stderr],
}))
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model"
    save_for_hub(ending_model(), small_processor(), path)
    return path


def _torchaudio(folder: Path, failure: str) -> Path:
    """A folder of packages that holds a torchaudio which does `failure` when it is imported."""
    (folder / "torchaudio").mkdir(parents=True)
    (folder / "torchaudio/__init__.py").write_text(f"{failure}\n")
    (folder / "torchaudio-2.11.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: torchaudio\nVersion: 2.11.0\n"
    (folder / "torchaudio-2.11.0.dist-info/METADATA").write_text(metadata)
    return folder


def _bare(version: str, packages: Path) -> interpreters.Environment:
    return interpreters.Environment(interpreters.transformers(version).python, (packages,))


@pytest.mark.parametrize("failure", FAILURES)
def test_a_bare_process_loads_and_captions(directory, failure, tmp_path):
    torchaudio = _torchaudio(tmp_path / "packages", FAILURES[failure])
    found = client(
        REMOTE, tmp_path, directory, "model", environment=_bare(interpreters.pinned("transformers"), torchaudio)
    )
    assert (found["installed"], found["needed"], found["ours"]) == ("2.11.0", True, False)
    assert len(found["tokens"][0]) > 2
    [warning] = found["warned"]
    assert warning.startswith("torchaudio: installed but broken (")
    assert "uninstall it, or install the build that belongs to this torch" in warning


@pytest.mark.parametrize("version", interpreters.TRANSFORMERS_NEEDS)
def test_every_release_loads_the_feature_extractor_first(directory, tmp_path, version):
    packages = _torchaudio(tmp_path / "packages", FAILURES["symbol"])
    found = client(REMOTE, tmp_path, directory, "extractor", environment=_bare(version, packages))
    assert len(found["tokens"][0]) > 2
    assert len(found["warned"]) == found["needed"]  # only releases that import it fail with it


def test_a_torchaudio_that_works_is_left_alone(directory, tmp_path):
    packages = _torchaudio(tmp_path / "packages", "working = True")
    code = REMOTE + "import torchaudio\nprint(json.dumps([torchaudio.working, [each.getMessage() for each in warned]]))"
    found = client(code, tmp_path, directory, "model", environment=_bare(interpreters.pinned("transformers"), packages))
    assert found == [True, []]


def test_this_package_its_pipeline_and_its_command_work(directory, tmp_path):
    torchaudio = _torchaudio(tmp_path / "packages", FAILURES["cuda"])
    wave = tmp_path / "tone.wav"
    soundfile.write(wave, 0.3 * np.sin(np.arange(240_000) / 20), 16_000)
    found: dict[str, Any] = client(
        OURS, tmp_path, directory, wave, environment=interpreters.Environment(PROJECT_ITSELF.python, (torchaudio,))
    )
    [warning] = found["warned"]
    assert warning.startswith("torchaudio: installed but broken (")
    assert {"modeling_lpmc.parity", "modeling_lpmc.training.trainer"} <= set(found["imported"])
    [track] = found["captioned"]
    texts = [(part["start"], part["end"], " ".join(part["text"].split())) for part in found["piped"]]
    assert texts == [(part["start"], part["end"], part["text"]) for part in track["segments"]]
    assert len(texts) == 2
    code, out, error = found["command"]
    assert code == 0, error
    assert json.loads(out)[0]["caption"] == track["caption"]
    assert len([line for line in error.splitlines() if "torchaudio" in line]) == 1


def test_this_package_still_loads_nothing_where_there_is_no_torchaudio(tmp_path):
    code = (
        "import json, sys, modeling_lpmc; print(json.dumps([n for n in ('torch', 'transformers') if n in sys.modules]))"
    )
    assert client(code, tmp_path) == []
