"""Checkpoints and sizes that are damaged or made to mislead: one line to the user, and nothing written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from released_reference import Sizes, make_state, save_checkpoint

from lpmc_errors import DiskError, ModelError, disk_faults_named
from modeling_lpmc import convert_checkpoint
from modeling_lpmc.conversion import convert_source

CONV = "audio_encoder.conv1.weight"
HEADS = '{"attention_heads": 4'


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return make_state(Sizes(), 5)


@pytest.fixture(scope="module")
def checkpoint(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(state, tmp_path_factory.mktemp("whole") / "last.pth")


def refusal(checkpoint: Path, folder: Path, told: str = HEADS + "}") -> str:
    (folder / "sizes.json").write_text(told)
    with pytest.raises(ModelError) as raised:
        convert_checkpoint(checkpoint, folder / "model", sizes=folder / "sizes.json")
    assert not (folder / "model").exists()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensor: tensor.to_sparse(), "is sparse"),
        (lambda tensor: tensor.to("meta"), "is on the device 'meta'"),
        (lambda tensor: torch.zeros(1).expand(10**6, 10**6), "claims 1,000,000,000,000 numbers"),
    ],
)
def test_a_tensor_without_its_numbers_is_refused(
    change: Callable[[torch.Tensor], torch.Tensor], problem: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = save_checkpoint(state | {CONV: change(state[CONV])}, tmp_path / "last.pth")
    assert f"{CONV} {problem}" in refusal(path, tmp_path)


def test_a_bit_that_fell_over_on_the_disk_is_noticed(checkpoint: Path, tmp_path: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 0x10
    (tmp_path / "last.pth").write_bytes(content)
    assert "it is damaged (1 of" in refusal(tmp_path / "last.pth", tmp_path)


def test_a_file_that_was_written_without_sums_is_taken(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        save_checkpoint(state, tmp_path / "last.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    (tmp_path / "sizes.json").write_text(HEADS + "}")
    assert convert_checkpoint(tmp_path / "last.pth", tmp_path / "model", sizes=tmp_path / "sizes.json").mapped


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("[" * 100_000, "it is not JSON"),
        (HEADS + ', "attention_heads": 2}', "'attention_heads' is there 2 times"),
        ('{"attention_heads": 1' + "0" * 400 + "}", "give a number"),
        (HEADS + ', "dropout": 1.5}', "give a share from 0 to 1"),
        (HEADS + ', "init_std": -1}', "init_std is -1"),
        (HEADS + ', "max_new_tokens": 1000}', "max_new_tokens is 1000, but the weights have 96 positions"),
        (HEADS + ', "bad_words_ids": []}', "these settings cannot be decoded with"),
    ],
)
def test_sizes_that_make_no_sense_are_one_line(told: str, problem: str, checkpoint: Path, tmp_path: Path) -> None:
    assert problem in refusal(checkpoint, tmp_path, told)


@pytest.mark.parametrize("more", ['"return_dict_in_generate": true', '"num_return_sequences": 3'])
def test_settings_that_change_what_generate_returns_can_be_compared(
    more: str, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "sizes.json").write_text(f"{HEADS}, {more}}}")
    report = convert_checkpoint(checkpoint, tmp_path / "model", sizes=tmp_path / "sizes.json")
    assert report.parity.greedy_equal
    assert report.parity.beams_equal


def test_a_folder_with_a_single_checkpoint_needs_no_variant(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text(HEADS + "}")
    report = convert_source(str(checkpoint.parent), tmp_path / "model", sizes=tmp_path / "sizes.json")
    assert report.checkpoint == "last.pth"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="it holds no checkpoint"):
        convert_source(str(tmp_path / "empty"), tmp_path / "other")


def test_a_link_to_a_place_that_is_not_there_yet_is_followed(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text(HEADS + "}")
    (tmp_path / "link").symlink_to("target")
    convert_checkpoint(checkpoint, tmp_path / "link", sizes=tmp_path / "sizes.json")
    assert (tmp_path / "target" / "config.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "sizes.json", "target"]


def test_a_full_disk_that_a_library_in_rust_finds_is_a_disk_error(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="no space is left"), disk_faults_named(tmp_path):
        raise RuntimeError(f"Error while serializing: I/O error: No space left on device (os error {errno.ENOSPC})")
    with pytest.raises(RuntimeError, match="something else"), disk_faults_named(tmp_path):
        raise RuntimeError("something else")


def test_a_soundfile_without_its_library_is_named_in_one_line(tmp_path: Path) -> None:
    packages = tmp_path / "site-packages"
    (packages / "soundfile-0.13.0.dist-info").mkdir(parents=True)
    (packages / "soundfile-0.13.0.dist-info" / "METADATA").write_text("Name: soundfile\nVersion: 0.13.0\n")
    (packages / "soundfile.py").write_text("raise OSError('sndfile library not found')\n")
    done = subprocess.run(
        [sys.executable, "-c", "import lpmc; lpmc.main()", "caption", "x.wav", "--model", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("lpmc: soundfile: cannot be loaded (sndfile library not found)")
