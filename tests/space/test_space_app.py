"""The demo app without a browser: its files, its API as a program sees it, and what it refuses."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import gradio
import httpx
import numpy as np
import pytest
import soundfile
import yaml
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from tone_model import CAPTIONS, save_tone_model, write_track

from lpmc_errors import AudioError, UsageError
from modeling_lpmc.captioner import CaptionSegment
from modeling_lpmc.shipped import SHIPPED_FOLDER
from space import space_files
from space.app import MAX_MINUTES, clock, launch, main, message_for_users, seconds, table


@pytest.fixture(scope="module")
def client(demo):
    return Client(demo.url, verbose=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0:00"),
        (10.0, "0:10"),
        (49.947, "0:49.95"),
        (59.95, "0:59.95"),
        (59.996, "1:00"),
        (60.0, "1:00"),
        (599.5, "9:59.50"),
        (3599.999, "1:00:00"),
        (3725.01, "1:02:05.01"),
    ],
)
def test_times_are_minutes_and_seconds_with_hundredths_only_where_there_are_any(value, text):
    assert clock(value) == text
    assert seconds(text) == pytest.approx(value, abs=0.005)


def test_the_row_of_a_short_file_ends_with_the_file():
    assert table([CaptionSegment(0.0, 7.5, "Drums.")]) == [["0:00", "0:07.50", "Drums."]]


def test_an_error_names_the_file_but_no_folder_of_the_server():
    error = AudioError("/tmp/gradio/0a1b2c/song.wav", "is empty (0 bytes)", "copy it again")

    assert message_for_users(error) == "song.wav: is empty (0 bytes); copy it again"


def test_the_api_gives_rows_track_caption_and_json_with_real_seconds(client, tmp_path):
    path = write_track(tmp_path / "song.flac", [("low", 10), ("low", 10), ("noise", 9.95)], rate=44100)

    rows, caption, file = client.predict(handle_file(path), api_name="/caption")

    assert rows["headers"] == ["Start", "End", "Caption"]
    assert rows["data"] == [
        ["0:00", "0:10", CAPTIONS["low"]],
        ["0:10", "0:20", CAPTIONS["low"]],
        ["0:19.95", "0:29.95", CAPTIONS["noise"]],
    ]
    assert caption == CAPTIONS["low"]
    assert Path(_downloaded(file)).name == "song.captions.json"
    told = json.loads(Path(_downloaded(file)).read_text())
    assert told == {
        "path": "song.flac",
        "duration": 29.95,
        "segments": [
            {"start": 0.0, "end": 10.0, "text": CAPTIONS["low"]},
            {"start": 10.0, "end": 20.0, "text": CAPTIONS["low"]},
            {"start": 19.95, "end": 29.95, "text": CAPTIONS["noise"]},
        ],
        "caption": CAPTIONS["low"],
        "tags": told["tags"],
        "notes": [],
        "facts": told["facts"],
    }
    assert {tag["name"]: tag["confidence"] for tag in told["tags"]}["bass"] > 0.6
    assert set(told["facts"]) == {"bpm", "bpm_confidence", "key", "key_confidence", "loudness_lufs"}


def _downloaded(file):
    return file["value"] if isinstance(file, dict) else file


def test_rows_arrive_one_after_the_other(client, tmp_path):
    path = write_track(tmp_path / "song.wav", [("low", 10), ("high", 10), ("noise", 10)])

    job = client.submit(handle_file(path), api_name="/caption")
    job.result(timeout=60)

    assert [len(rows["data"]) for rows, *_ in job.outputs()] == [1, 2, 3, 3]
    assert [caption for _, caption, _ in job.outputs()][:3] == ["", "", ""]


def bad_files(folder: Path) -> list[tuple[Path, str]]:
    (folder / "notes.wav").write_text("not music")
    soundfile.write(folder / "short.wav", np.ones(3200) * 0.1, 16000)
    soundfile.write(folder / "silent.wav", np.zeros(32000), 16000)
    with soundfile.SoundFile(folder / "long.flac", "w", 8000, 1, "PCM_16") as file:
        for _ in range(MAX_MINUTES + 1):
            file.write(np.zeros(8000 * 60, np.int16))
    return [
        (folder / "notes.wav", "notes.wav: is not an audio file that can be read"),
        (folder / "short.wav", "short.wav: lasts 0.20 s"),
        (folder / "silent.wav", "silent.wav: silence: nothing to caption"),
        (folder / "long.flac", "long.flac: is longer than 600 s"),
    ]


def test_a_bad_file_is_answered_with_its_reason_in_one_line_without_server_paths(client, demo, tmp_path):
    for path, reason in bad_files(tmp_path):
        with pytest.raises(AppError) as caught:
            client.predict(handle_file(path), api_name="/caption")
        message = str(caught.value)
        assert reason in message
        assert "\n" not in message
        assert str(demo.folder.parent) not in message
        assert "/tmp" not in message


def test_no_audio_at_all_is_answered_with_what_to_do(client):
    with pytest.raises(AppError, match="Choose a music file or record some music first"):
        client.predict(None, api_name="/caption")


def test_the_api_describes_itself(client):
    described = client.view_api(return_format="dict")["named_endpoints"]

    assert list(described) == ["/caption"]
    assert [parameter["parameter_name"] for parameter in described["/caption"]["parameters"]] == ["audio"]
    assert "Describe music in words" in described["/caption"]["description"]


def test_files_of_the_server_are_not_served(demo):
    for path in (demo.folder / "app.py", demo.folder / "tones" / "config.json", demo.log, Path("/etc/passwd")):
        answer = httpx.get(f"{demo.url}/gradio_api/file={path}")
        assert answer.status_code == 403, path


def test_a_request_cannot_name_a_file_of_the_server_as_its_audio(demo, tmp_path):
    path = write_track(demo.folder / "private.wav", [("low", 2)])
    audio = {"path": str(path), "meta": {"_type": "gradio.FileData"}}

    event = httpx.post(f"{demo.url}/gradio_api/call/caption", json={"data": [audio]}).json()["event_id"]
    answer = httpx.get(f"{demo.url}/gradio_api/call/caption/{event}", timeout=60).text

    assert "event: error" in answer
    assert CAPTIONS["low"] not in answer
    assert str(demo.folder) not in answer


def test_a_file_above_the_size_limit_is_refused(demo):
    answer = httpx.post(f"{demo.url}/gradio_api/upload", files={"files": ("a.wav", bytes(101 * 2**20))}, timeout=60)

    assert answer.status_code == 413


def test_the_app_runs_from_its_own_files_alone(demo):
    """The compiled files prove that it imported the modules beside it and not an installed copy."""
    compiled = {path.name.split(".")[0] for path in (demo.folder / "modeling_lpmc" / "__pycache__").iterdir()}

    assert {"audio", "captioner", "modeling_lpmc"} <= compiled
    assert compiled <= {path.stem for path in (demo.folder / "modeling_lpmc").glob("*.py")}


def test_space_readme_carries_what_the_hub_reads():
    text = space_files()["README.md"].read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])

    assert front["sdk"] == "gradio"
    assert front["sdk_version"] == gradio.__version__
    assert front["python_version"] == "3.12"
    assert front["app_file"] in space_files()
    assert front["license"] == "apache-2.0"
    assert len(front["short_description"]) <= 60  # the Hub's limit
    assert {front["colorFrom"], front["colorTo"]} <= {
        "red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray",
    }  # fmt: skip


def test_space_files_exist_and_load_nothing_heavy():
    assert all(path.is_file() for path in space_files().values())
    code = "import sys, space; space.space_files(); print('torch' in sys.modules, 'gradio' in sys.modules)"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "False False"


def test_a_space_without_a_model_has_the_one_that_ships(monkeypatch):
    monkeypatch.delenv("LPMC_MODEL", raising=False)
    launched = []
    monkeypatch.setattr("space.app.launch", lambda model, **settings: launched.append((model, settings)))

    main()

    assert launched == [("lpmc_mini", {"revision": None})]
    assert (SHIPPED_FOLDER / "model.safetensors").stat().st_size < 25e6


def test_a_port_that_is_taken_is_wrong_usage(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(UsageError, match=f"port {port}: cannot be listened on"):
            launch(save_tone_model(tmp_path / "model"), port=port)
