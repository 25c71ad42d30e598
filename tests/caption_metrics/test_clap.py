"""CLAP similarity and retrieval on a small CLAP whose text projection is fitted to four tones."""

from __future__ import annotations

import hashlib
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_models import save_bert, save_clap

from caption_metrics import clap
from caption_metrics.clap import (
    AudioEmbeddings,
    Clap,
    clap_values,
    embed_audio,
    hits_at,
    load_clap,
    median_rank,
    recall_at,
    retrieval_ranks,
)
from lpmc_errors import AudioError, ModelError, TableError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
soundfile = pytest.importorskip("soundfile")

RATE = 16_000  # Hz, of the small model; its windows are one second long
CAPTIONS = ["a sad piano", "loud drums", "the violin sings", "a fast guitar"]


def tone(pitch: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """A tone of `pitch` Hz with its octave, or noise where it is 0."""
    if not pitch:
        return 0.2 * np.random.default_rng(0).standard_normal(int(rate * seconds))
    time = np.arange(int(rate * seconds)) / rate
    return 0.3 * np.sin(2 * np.pi * pitch * time) + 0.1 * np.sin(4 * np.pi * pitch * time)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    for name, pitch in (("low", 150), ("middle", 900), ("high", 3000), ("noise", 0)):
        soundfile.write(folder / f"{name}.wav", tone(pitch), RATE, subtype="FLOAT")
    return [folder / f"{name}.wav" for name in ("low", "middle", "high", "noise")]


@pytest.fixture(scope="module")
def folder(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text projection is fitted until every caption is nearest to its own clip."""
    folder = save_clap(tmp_path_factory.mktemp("models") / "tiny-clap")
    network = transformers.ClapModel.from_pretrained(folder)
    heard = torch.tensor(embed_audio(files, str(folder)).vectors)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(CAPTIONS, padding=True, return_tensors="pt")
    with torch.no_grad():
        pooled = network.text_model(tokens["input_ids"], tokens["attention_mask"]).pooler_output
    transformers.set_seed(0)
    optimiser = torch.optim.Adam(network.text_projection.parameters(), lr=0.02)
    for _ in range(300):
        cosines = torch.nn.functional.normalize(network.text_projection(pooled), dim=-1) @ heard.T
        loss = torch.nn.functional.cross_entropy(50 * cosines, torch.arange(4))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Clap:
    return load_clap(str(folder))


@pytest.fixture(scope="module")
def matrix(folder: Path, files: list[Path]) -> np.ndarray:
    """Cosines of the captions (rows) and clips (columns), each by itself through the library's model and processor."""
    network = transformers.ClapModel.from_pretrained(folder).eval()
    processor = transformers.ClapProcessor.from_pretrained(folder)
    rows = []
    with torch.no_grad():
        for caption in CAPTIONS:
            texts = network.get_text_features(**processor.tokenizer(caption, return_tensors="pt")).pooler_output[0]
            row = []
            for file in files:
                audio = processor.feature_extractor(soundfile.read(file)[0], sampling_rate=RATE, return_tensors="pt")
                row.append(float(texts @ network.get_audio_features(**audio).pooler_output[0]))
            rows.append(row)
    return np.array(rows)


def test_the_similarity_is_the_cosine_that_the_model_gives(model: Clap, files: list[Path], matrix: np.ndarray) -> None:
    assert clap_values(CAPTIONS, files, model) == pytest.approx(np.diag(matrix), abs=1e-5)
    crossed = clap_values(CAPTIONS, files[::-1], model)
    assert crossed == pytest.approx(np.diag(matrix[:, ::-1]), abs=1e-5)
    assert (np.diag(matrix) > crossed + 0.01).all()  # the fitted model tells the clips apart


def test_the_rank_counts_the_clips_that_are_nearer_to_the_caption(
    model: Clap, files: list[Path], matrix: np.ndarray
) -> None:
    assert retrieval_ranks(CAPTIONS, files, model).tolist() == [1, 1, 1, 1]
    for shift in (1, 2, 3):  # each caption with another's clip
        moved = CAPTIONS[shift:] + CAPTIONS[:shift]
        expected = []
        for place in range(4):
            row = matrix[(place + shift) % 4]
            expected.append(1 + sum(row[other] > row[place] for other in range(4)))
        assert retrieval_ranks(moved, files, model).tolist() == expected
    ranks = np.array([1.0, 3.0, math.nan, 2.0, 11.0])
    assert [recall_at(ranks, k) for k in (1, 2, 5, 10)] == [0.25, 0.5, 0.75, 0.75]
    assert hits_at(ranks, 2) == pytest.approx([1, 0, math.nan, 1, 0], nan_ok=True)
    assert median_rank(ranks) == 2.5
    assert math.isnan(recall_at(ranks[2:3], 1))
    assert math.isnan(median_rank(ranks[2:3]))


def test_captions_made_blind_gain_nothing_by_ties_copies_or_constancy(
    model: Clap, files: list[Path], tmp_path: Path
) -> None:
    heard = embed_audio(files, model)
    constant = retrieval_ranks(["a sad piano"] * 4, heard, model)
    assert sorted(constant) == [1, 2, 3, 4]
    assert recall_at(constant, 1) == 0.25  # chance
    deaf = AudioEmbeddings(np.repeat(heard.vectors[:1], 4, axis=0), heard.rows, {})
    assert retrieval_ranks(CAPTIONS, deaf, model).tolist() == [4, 4, 4, 4]  # the worst rank of the tie
    shutil.copy(files[0], tmp_path / "copy.wav")
    copied = retrieval_ranks([*CAPTIONS, CAPTIONS[0]], [*files, tmp_path / "copy.wav"], model)
    assert copied.tolist() == [2, 1, 1, 1, 2]
    assert retrieval_ranks([*CAPTIONS, CAPTIONS[0]], [*files, files[0]], model).tolist() == [1, 1, 1, 1, 1]
    assert retrieval_ranks(["", *CAPTIONS[1:]], heard, model).tolist() == [4, 1, 1, 1]
    assert clap_values(["", *CAPTIONS[1:]], heard, model)[0] == 0


def test_ranks_are_the_same_however_the_work_is_divided(
    model: Clap, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = CAPTIONS[1:] + CAPTIONS[:1]
    whole = embed_audio(files, model)
    expected = retrieval_ranks(moved, whole, model)
    monkeypatch.setattr(clap, "BATCH_WINDOWS", 1)
    monkeypatch.setattr(clap, "BATCH_TEXTS", 1)
    monkeypatch.setattr(clap, "ROWS_COMPARED", 3)
    steps: list[tuple[int, int]] = []
    single = embed_audio([*files, files[0]], model, progress=lambda *step: steps.append(step))
    assert single.rows.tolist() == [0, 1, 2, 3, 0]  # a file that stands twice is heard once
    assert np.abs(single.vectors - whole.vectors).max() < 1e-5
    assert retrieval_ranks([*moved, moved[0]], single, model).tolist() == [*expected, expected[0]]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("batch", [clap.BATCH_WINDOWS, 1])
def test_audio_that_cannot_be_read_is_recorded_and_passed_over(
    batch: int, model: Clap, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clap, "BATCH_WINDOWS", batch)
    (tmp_path / "text.wav").write_text("no audio", encoding="utf-8")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    # Broken in its second second, after a first window that is whole.
    soundfile.write(tmp_path / "broken.wav", np.r_[tone(900), np.nan, tone(900)], RATE, subtype="FLOAT")
    broken = [tmp_path / name for name in ("text.wav", "empty.wav", "broken.wav", "absent.wav")]
    paths = [files[0], *broken, *files[1:]]
    captions = [CAPTIONS[0], "an empty clip", "a", "loud drums", "drums", *CAPTIONS[1:]]
    heard = embed_audio(paths, model)
    assert heard.rows.tolist() == [0, -1, -1, -1, -1, 1, 2, 3]
    assert set(heard.faults) == {str(path) for path in broken}
    assert heard.faults[str(broken[0])].startswith("cannot be read: ")
    assert heard.faults[str(broken[1])].startswith("holds no audio")
    assert heard.faults[str(broken[2])].startswith("holds samples that are no numbers")
    values, ranks = clap_values(captions, heard, model), retrieval_ranks(captions, heard, model)
    assert np.isnan(values).tolist() == np.isnan(ranks).tolist() == (heard.rows < 0).tolist()
    assert ranks[heard.rows >= 0].tolist() == [1, 1, 1, 1]
    with pytest.raises(AudioError, match="none of 4 audio files can be read"):
        embed_audio(broken, model)
    with pytest.raises(TableError, match="3 for 8 audio files"):
        clap_values(CAPTIONS[:3], heard, model)


def test_a_long_file_is_heard_to_its_end_in_windows_spread_evenly(
    model: Clap, files: list[Path], tmp_path: Path
) -> None:
    one, other = embed_audio(files[:2], model).vectors
    soundfile.write(tmp_path / "both.wav", np.r_[tone(150), tone(900)], RATE, subtype="FLOAT")
    both = embed_audio([tmp_path / "both.wav"], model).vectors[0]
    expected = (one + other) / np.linalg.norm(one + other)
    assert both == pytest.approx(expected, abs=1e-5)
    long = [tone(150)] * 7 + [tone(0)]  # eight seconds; six windows of one second, the last of them the noise
    soundfile.write(tmp_path / "long.wav", np.concatenate(long), RATE, subtype="FLOAT")
    windows = list(clap._windows(str(tmp_path / "long.wav"), model))
    assert [len(window) for window in windows] == [RATE] * clap.MOST_WINDOWS
    assert windows[-1] == pytest.approx(tone(0), abs=1e-6)


def test_channels_are_averaged_and_other_rates_converted(model: Clap, files: list[Path], tmp_path: Path) -> None:
    rate = 44_100
    left, right = tone(900, 0.9, rate), tone(3000, 0.9, rate)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), rate)
    (window,) = clap._windows(str(tmp_path / "stereo.wav"), model)
    assert len(window) == pytest.approx(0.9 * RATE, abs=2)
    expected = (tone(900, 0.9) + tone(3000, 0.9)) / 2
    middle = slice(1000, -1000)  # the resampler's filter reaches over the ends
    assert window[middle] == pytest.approx(expected[: len(window)][middle], abs=1e-3)


def test_nothing_is_drawn_at_random_with_feature_fusion(files: list[Path], tmp_path: Path) -> None:
    """The library's extractor marks one clip of a batch, drawn at random, as a longer one."""
    model = load_clap(str(save_clap(tmp_path / "fused", fusion=True)))
    together = embed_audio(files, model).vectors
    assert np.abs(together[::-1] - embed_audio(files[::-1], model).vectors).max() < 1e-5
    alone = [embed_audio([file], model).vectors[0] for file in files]
    assert np.abs(together - alone).max() < 1e-5


def test_the_signature_names_model_revision_and_how_it_listens(folder: Path, model: Clap) -> None:
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]
    expected = f"model:tiny-clap|revision:sha256:{digest}|tokens:64|rate:16000|windows:1s-spread-6|fusion:off|cosine"
    assert model.signature == expected
    assert model.truncated(["a piano", "piano " * 63]) == 1


def test_what_is_no_clap_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gives no features of audio and text"):
        load_clap(str(save_bert(tmp_path / "bert")))
    with pytest.raises(ModelError, match="cannot be reached"):
        clap_values([], [], "someone/no-such-clap")
