"""The command line as a user meets it: fast help, one clear line for every mistake, documented exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tone_model import save_tone_model, write_track
from typer.core import TyperGroup
from typer.main import get_command

import dataset_builder
from dataset_builder.sources import SOURCES
from dataset_builder.sources.options import source_options
from dataset_builder.tracks import read_tracks
from lpmc import app

COMMANDS = [
    "quickstart",
    "tracks",
    "pseudo-caption",
    "report",
    "merge-shards",
    "build",
    "lint",
    "push",
    "train",
    "convert",
    "caption",
    "evaluate",
    "push-metric",
    "audio-dependence",
    "demo",
    "space",
    "ratings",
]
README = Path(__file__).resolve().parent.parent / "README.md"


def lpmc(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lpmc", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, env=environment)


def commands() -> Mapping[str, Any]:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group.commands


def test_help_names_every_command_and_the_exit_codes_and_loads_nothing_heavy() -> None:
    script = (
        "import sys, lpmc\n"
        "try:\n    lpmc.app(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'datasets', 'transformers', 'gradio', 'pyarrow', 'numpy', 'openai'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    for name in COMMANDS:
        assert name in result.stdout
    assert "75 interrupted" in " ".join(result.stdout.split())


def test_the_readme_lists_every_command_and_no_other() -> None:
    assert re.findall(r"^\| `lpmc ([a-z-]+)", README.read_text("utf-8"), re.MULTILINE) == COMMANDS
    assert set(commands()) == set(COMMANDS)


def test_the_readme_names_only_options_that_its_commands_have() -> None:
    wrong = []
    for line in re.findall(r"^(?:\.venv/bin/)?lpmc .*", README.read_text("utf-8"), re.MULTILINE):
        words = re.sub(r'"[^"]*"', "TEXT", line.partition(" # ")[0])
        command = commands()[words.split()[1]]
        if isinstance(command, TyperGroup):
            others = command.commands
            command = others.get(words.split()[2]) or others["recipe"]  # `lpmc train NAME`
        known = {option for parameter in command.params for option in parameter.opts}
        wrong += [f"{option}: {line}" for option in re.findall(r"--[a-z-]+", words) if option not in known]
    assert not wrong


def test_the_readme_names_every_source() -> None:
    text = README.read_text("utf-8").partition("**Corpora**")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", text)) >= set(SOURCES)


def test_the_page_of_the_sources_names_each_with_all_its_options() -> None:
    page = (
        (README.parent / "dataset_builder/README.md").read_text("utf-8").partition("## Sources")[2].partition("## ")[0]
    )
    rows = {cells[1].strip(" `"): cells for line in page.splitlines() if len(cells := line.split("|")) == 8}
    assert set(rows) - {"source", "---"} == set(SOURCES)
    lacking = [
        f"{name}: {option}"
        for name in SOURCES
        for option in source_options(name)
        if option not in "".join(rows[name]).replace("audio-root", "audio_root")
    ]
    assert not lacking


def test_the_page_of_the_package_lists_what_it_exports() -> None:
    page = (README.parent / "dataset_builder/README.md").read_text("utf-8").partition("\n\nBeside them")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(dataset_builder.__all__)
    assert all(getattr(dataset_builder, name).__name__ == name for name in dataset_builder.__all__)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = lpmc(command, "--help")
    assert result.returncode == 0
    assert command in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["singing"], 2, "No such command"),
        (["pseudo-caption", "none.parquet", "--output", "c.parquet"], 1, "none.parquet: no such tracks table"),
        (["tracks", "spotify", "--root", ".", "--output", "t.parquet"], 2, "spotify: is no source"),
        (["tracks", "table", "--root", "none.csv", "--output", "t.parquet"], 1, "none.csv: no such file"),
        (["tracks", "rendered", "--root", ".", "--output", "t", "--set", "clips=x"], 2, "clips=x: the value is no int"),
        (["tracks", "rendered", "--root", ".", "--output", "t", "--set", "clip=1"], 2, "its options are: clips"),
        (["train", "none.yaml", "--output", "m"], 2, "none.yaml: no such recipe"),
        (["evaluate", "none.json"], 1, "none.json: no such file"),
        (["convert", "none.pth", "--output", "m"], 1, "none.pth"),
        (["quickstart", "--audio", "none.wav"], 1, "none.wav: no such file or folder"),
        (["caption", "none.wav"], 1, "none.wav: no such file"),
        (["caption", "none.wav", "--model", "no/such/folder"], 1, "no such model directory"),
        (["demo", "--model", "/none/at/all"], 1, "/none/at/all"),
        (["push", ".", "--repo", "lp-musiccaps"], 2, "lp-musiccaps"),
        (["lint", "/none/at/all"], 2, "/none/at/all: no such folder"),
        (["lint", "."], 2, "holds no data set, model, metric or Space"),
        (["report", "none.sqlite"], 1, "none.sqlite"),
        (["merge-shards", "none.parquet", "--tracks", "t.parquet", "--output", "c.parquet"], 1, "no such"),
        (["build", "c.parquet", "--tracks", "t.parquet", "--config", "x"], 1, "t.parquet: no such tracks table"),
    ],
)
def test_a_mistake_is_one_clear_line_with_its_exit_code(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    result = lpmc(*arguments, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    if arguments[0] != "singing":
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backend", "bard"], "choose from openai, local, grammar, tag-concat, template"),
        (["--backend", "openai", "--base-url", "http://127.0.0.1:9/v1"], "--model: is needed"),
        (["--instructions", "sing"], "unknown instruction 'sing'"),
        (["--backend", "openai", "--model", "m", "--base-url", "nowhere"], "is not an http(s) address"),
        (["--wording", "loud"], "choose from released, grounded, small"),
    ],
)
def test_wrong_options_of_pseudo_caption_are_named(tmp_path: Path, options: list[str], words: str) -> None:
    (tmp_path / "tags.csv").write_text("track_id,tags\na,rock\n")
    made = lpmc("tracks", "table", "--root", "tags.csv", "--output", "t.parquet", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    result = lpmc("pseudo-caption", "t.parquet", "--output", "c.parquet", *options, cwd=tmp_path)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_unreachable_endpoint_is_one_line_and_writes_no_table(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("track_id,tags\na,rock\n")
    lpmc("tracks", "table", "--root", "tags.csv", "--output", "t.parquet", cwd=tmp_path)
    command = ["pseudo-caption", "t.parquet", "--output", "c.parquet", "--backend", "openai", "--model", "m"]
    result = lpmc(*command, "--base-url", "http://127.0.0.1:9/v1", cwd=tmp_path)
    assert result.returncode == 1
    assert "cannot be reached" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "c.parquet").exists()


def test_a_users_table_becomes_captions_and_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text(
        'track_id,tags,split\n007,"rock, electric guitar",train\n008,,train\n009,flute,test\n'
    )
    made = lpmc("tracks", "table", "--root", "tags.csv", "--output", "t.parquet", "--json", cwd=tmp_path)
    assert json.loads(made.stdout)["tracks"] == 3
    assert [track.track_id for track in read_tracks(tmp_path / "t.parquet")] == ["007", "008", "009"]
    captioned = lpmc(
        "pseudo-caption", "t.parquet", "--output", "c.parquet", "--backend", "template", "--json", cwd=tmp_path
    )
    assert json.loads(captioned.stdout)["outcomes"] == {"ok": 2, "skipped_no_tags": 1}
    built = lpmc("build", "c.parquet", "--tracks", "t.parquet", "--config", "mine", "--json", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["rows"] == {"train": 2, "test": 1}
    script = "from datasets import load_dataset; print(load_dataset('lp-musiccaps')['test'][0]['caption_template'])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert loaded.stdout.strip() == "the music is characterized by flute", loaded.stderr


def test_caption_reports_the_bad_file_keeps_the_rest_and_exits_3(tmp_path: Path) -> None:
    model = save_tone_model(tmp_path / "model")
    (tmp_path / "songs").mkdir()
    write_track(tmp_path / "songs" / "good.wav", [("low", 10.0), ("high", 4.0)])
    (tmp_path / "songs" / "bad.wav").write_text("not audio")
    result = lpmc("caption", "songs", "--model", model, "--json", cwd=tmp_path)
    assert result.returncode == 3
    (entry,) = json.loads(result.stdout)
    assert set(entry) == {"path", "duration", "segments", "caption", "tags", "notes", "facts"}
    assert set(entry["facts"]) == {"bpm", "bpm_confidence", "key", "key_confidence", "loudness_lufs"}
    assert [(segment["start"], segment["end"]) for segment in entry["segments"]] == [(0.0, 10.0), (4.0, 14.0)]
    assert "bad.wav" in result.stderr
    assert lpmc("caption", "songs/bad.wav", "--model", model, cwd=tmp_path).returncode == 1


def test_captions_are_not_lost_to_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    model = save_tone_model(tmp_path / "model")
    write_track(tmp_path / "song.wav", [("low", 10.0)])
    early = lpmc("caption", "song.wav", "--model", model, "--output", "model", cwd=tmp_path)
    assert (early.returncode, early.stdout) == (2, "")
    assert "model: is a folder; name a file for the JSON" in early.stderr
    late = lpmc("caption", "song.wav", "--model", model, "--json", "--output", "/proc/none/captions.json", cwd=tmp_path)
    assert late.returncode == 1
    assert len(json.loads(late.stdout)) == 1


def test_a_conversion_without_a_tokenizer_says_that_one_is_needed(oracle_model: Path, tmp_path: Path) -> None:
    checkpoint, sizes = oracle_model / "small_checkpoint.pth", oracle_model / "small_config.json"
    done = lpmc("convert", checkpoint, "--config", sizes, "--output", "model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "run it again with --tokenizer" in done.stdout
    assert "lpmc caption" not in done.stdout
    refused = lpmc("caption", oracle_model / "small_clip0.wav", "--model", "model", cwd=tmp_path)
    assert refused.returncode == 1
    assert "run `lpmc convert` again with --tokenizer" in refused.stderr


def test_a_name_with_a_line_break_and_a_place_that_takes_no_files_end_in_one_line(tmp_path):
    songs = tmp_path / "songs.csv"
    songs.write_text("track_id,tags\n1,rock\n")
    for arguments in (["--root", "no\nsuch.csv"], ["--root", str(songs), "--output", "/proc/none/tracks.parquet"]):
        done = subprocess.run(
            [sys.executable, "-m", "lpmc", "tracks", "table", *arguments], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert done.stderr.startswith("lpmc: ")


def test_ctrl_c_inside_a_string_that_is_run_gives_the_documented_exit_code(tmp_path: Path) -> None:
    """CPython would kill the process by SIGINT at its end: see `interrupt_is_answered`."""
    (tmp_path / "struck.py").write_text(
        "import typer, lpmc\n"
        "app = typer.Typer(cls=lpmc.FaultsInOneLine)\n"
        "@app.callback()\n"
        "def callback(): pass\n"
        "@app.command()\n"
        "def work(): exec('raise KeyboardInterrupt')\n"
        "app()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "struck", "work"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[1]}"},
    )
    assert (done.returncode, done.stderr) == (75, "lpmc: interrupted; run the same command again\n")
