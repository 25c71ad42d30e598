"""`lpmc caption --format`: what each trainer reads, by its own rule; what is done stays done, nothing is replaced."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
from tone_model import CAPTIONS, save_tone_model, write_track

from lpmc_errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PARTIAL, Interrupted, UsageError
from lpmc_files import claimed
from lpmc_folder import caption_folder
from modeling_lpmc.captioner import Captioner, CaptionSegment, TrackCaption
from modeling_lpmc.selection import Selection, Shard
from modeling_lpmc.sidecars import BESIDE, FORMATS, read_sidecar, subtitles

LOW, HIGH = CAPTIONS["low"], CAPTIONS["high"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tone_model(tmp_path_factory.mktemp("models") / "tones")


@pytest.fixture(scope="module")
def captioner(model: Path) -> Captioner:
    return Captioner.from_pretrained(model, "cpu")


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Two tracks, one of them in a folder of its own, and a file that is no audio."""
    folder = tmp_path / "songs"
    (folder / "deep").mkdir(parents=True)
    write_track(folder / "deep" / "a.b.wav", [("low", 10.0), ("low", 4.0)])
    write_track(folder / "high.flac", [("high", 10.0)])
    (folder / "broken.wav").write_text("not audio")
    return folder


def run(folder: Path, name: str, captioner: Captioner, **changes: Any) -> int:
    given: dict[str, Any] = {
        "output": None,
        "overwrite": False,
        "dry_run": False,
        "load": lambda: captioner,
        "batch_size": 8,
        "num_beams": 1,
        "as_json": True,
    }
    return caption_folder([folder], name, **given | changes)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out))


def never() -> Captioner:
    raise AssertionError("the model was loaded though there is nothing to do")


def test_acestep_finds_captions_and_no_lyrics(songs: Path, captioner: Captioner) -> None:
    assert run(songs, "acestep", captioner) == EXIT_PARTIAL
    written = {path.relative_to(songs).as_posix() for path in songs.rglob("*.txt")}
    assert written == {"deep/a.b.caption.txt", "high.caption.txt"}  # a plain <stem>.txt would be sung
    for audio, caption in ((songs / "deep" / "a.b.wav", LOW), (songs / "high.flac", HIGH)):
        assert (audio.parent / f"{audio.stem}.caption.txt").read_text(encoding="utf-8").strip() == caption


def test_musicgen_trainer_finds_the_caption_under_the_stem(songs: Path, captioner: Captioner) -> None:
    run(songs, "musicgen-trainer", captioner)
    assert (songs / "high.txt").read_text().strip() == HIGH
    assert (songs / "deep" / "a.b.txt").read_text().strip() == LOW


def test_audiocraft_finds_its_music_info(songs: Path, captioner: Captioner) -> None:
    run(songs, "audiocraft", captioner)
    info = json.loads((songs / "high.flac").with_suffix(".json").read_text())
    fields = {"title", "artist", "key", "bpm", "genre", "moods", "keywords", "description", "name", "instrument"}
    assert set(info) == fields
    assert info["description"] == HIGH
    assert {info[name] for name in fields - {"description"}} == {None}  # nothing that was not heard


def test_stable_audio_gets_its_prompt_from_the_module(songs: Path, captioner: Captioner, tmp_path: Path) -> None:
    run(songs, "stable-audio", captioner, output=tmp_path / "prompts")
    spec = importlib.util.spec_from_file_location("custom_metadata", tmp_path / "prompts" / "custom_metadata.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.get_custom_metadata({"relpath": "deep/a.b.wav"}, None) == {"prompt": LOW}
    assert module.get_custom_metadata({"relpath": "broken.wav"}, None) == {"__reject__": True}
    assert not list(songs.rglob("*.json"))  # nothing beside the audio where another folder was named


def test_an_audiofolder_is_read_with_its_captions(songs: Path, captioner: Captioner) -> None:
    (songs / "broken.wav").unlink()
    assert run(songs, "hf", captioner) == EXIT_DONE
    rows = [json.loads(line) for line in (songs / "metadata.jsonl").read_text().splitlines()]
    assert {row["file_name"]: row["caption"] for row in rows} == {"deep/a.b.wav": LOW, "high.flac": HIGH}
    assert all((songs / row["file_name"]).is_file() for row in rows)


def test_tables_hold_a_line_for_each_track(songs: Path, captioner: Captioner, tmp_path: Path) -> None:
    run(songs, "csv", captioner, output=tmp_path / "out")
    with (tmp_path / "out" / "captions.csv").open(newline="", encoding="utf-8") as file:
        assert [(row["path"], float(row["duration"]), row["caption"]) for row in csv.DictReader(file)] == [
            ("deep/a.b.wav", 14.0, LOW),
            ("high.flac", 10.0, HIGH),
        ]
    run(songs, "jsonl", captioner, output=tmp_path / "out")
    first = json.loads((tmp_path / "out" / "captions.jsonl").read_text().splitlines()[0])
    assert [(part["start"], part["end"]) for part in first["segments"]] == [(0.0, 10.0), (4.0, 14.0)]


def test_subtitles_show_one_line_at_a_time_in_real_time() -> None:
    text = subtitles(
        [CaptionSegment(0.0, 10.0, "one"), CaptionSegment(10.0, 20.0, "two"), CaptionSegment(3653.5, 3663.5, "x")]
    )
    stamps = re.findall(r"(\S+) --> (\S+)", text)
    assert stamps == [
        ("00:00:00,000", "00:00:10,000"),
        ("00:00:10,000", "00:00:20,000"),
        ("01:00:53,500", "01:01:03,500"),
    ]
    overlapped = subtitles([CaptionSegment(0.0, 10.0, "one"), CaptionSegment(4.0, 14.0, "two")])
    assert re.findall(r"(\S+) --> (\S+)", overlapped)[0] == ("00:00:00,000", "00:00:04,000")
    assert overlapped.split("\n\n")[1].splitlines()[0] == "2"


@pytest.mark.parametrize("name", FORMATS)
def test_a_second_run_captions_only_what_is_missing(
    name: str, songs: Path, captioner: Captioner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(songs, name, captioner) == EXIT_PARTIAL
    first = told(capsys)
    assert [Path(path).name for path in first["written"]] == ["a.b.wav", "high.flac"]
    assert [Path(path).name for path in first["failed"]] == ["broken.wav"]
    (songs / "broken.wav").unlink()
    assert run(songs, name, captioner, load=never) == EXIT_DONE
    assert len(told(capsys)["kept"]) == 2
    write_track(songs / "new.wav", [("low", 10.0)])
    assert run(songs, name, captioner) == EXIT_DONE
    third = told(capsys)
    assert ([Path(path).name for path in third["written"]], len(third["kept"])) == (["new.wav"], 2)


@pytest.mark.parametrize("name", sorted(BESIDE))
def test_a_file_that_is_there_is_never_replaced_unasked(
    name: str, songs: Path, captioner: Captioner, capsys: pytest.CaptureFixture[str]
) -> None:
    (songs / "broken.wav").unlink()
    mine = (songs / "high.flac").with_suffix(BESIDE[name])
    mine.write_text("")  # no caption of any format
    assert run(songs, name, captioner) == EXIT_PARTIAL
    report = told(capsys)
    assert mine.read_text() == ""
    assert f"{mine}: is there" in report["failed"][str(songs / "high.flac")]
    assert run(songs, name, captioner, overwrite=True) == EXIT_DONE
    assert HIGH in read_sidecar(name, mine)


def test_a_table_of_somebody_else_stops_the_run_before_the_model_is_loaded(songs: Path, captioner: Captioner) -> None:
    (songs / "metadata.jsonl").write_text('{"file_name": "high.flac", "label": 3}\n')
    with pytest.raises(UsageError, match=r"metadata\.jsonl: is no table of format hf"):
        run(songs, "hf", captioner, load=never)
    assert "label" in (songs / "metadata.jsonl").read_text()


def test_overwriting_some_rows_keeps_the_others(songs: Path, captioner: Captioner) -> None:
    run(songs, "jsonl", captioner)
    table = songs / "captions.jsonl"
    table.write_text(table.read_text().replace(LOW, "By hand.").replace(HIGH, "Too."))
    caption_folder(
        [songs / "high.flac"], "jsonl", songs, overwrite=True, dry_run=False,
        load=lambda: captioner, batch_size=8, num_beams=1, as_json=True,
    )  # fmt: skip
    rows = {row["path"]: row["caption"] for row in map(json.loads, table.read_text().splitlines())}
    assert rows == {"deep/a.b.wav": "By hand.", "high.flac": HIGH}


def test_rows_of_files_that_are_gone_leave_the_table(songs: Path, captioner: Captioner) -> None:
    """`audiofolder` fails as a whole where one row's file is missing."""
    (songs / "broken.wav").unlink()
    run(songs, "hf", captioner)
    (songs / "high.flac").unlink()
    assert run(songs, "hf", captioner, dry_run=True, load=never) == EXIT_DONE
    assert len((songs / "metadata.jsonl").read_text().splitlines()) == 2
    assert run(songs, "hf", captioner, load=never) == EXIT_DONE
    rows = [json.loads(line) for line in (songs / "metadata.jsonl").read_text().splitlines()]
    assert [row["file_name"] for row in rows] == ["deep/a.b.wav"]
    pytest.importorskip("torchcodec", reason="datasets reads an audiofolder with torchcodec only")
    loaded = datasets.load_dataset("audiofolder", data_dir=str(songs), split="train")
    assert loaded["caption"] == [LOW]


def test_the_gone_are_left_out_also_when_others_are_captioned(songs: Path, captioner: Captioner) -> None:
    run(songs, "csv", captioner)
    (songs / "high.flac").rename(songs / "renamed.flac")
    run(songs, "csv", captioner)
    with (songs / "captions.csv").open(newline="", encoding="utf-8") as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["deep/a.b.wav", "renamed.flac"]


def test_a_path_that_is_not_there_is_refused_and_nothing_is_left(tmp_path: Path, captioner: Captioner) -> None:
    with pytest.raises(UsageError, match="nowhere: there is no such file or folder; check the name"):
        run(tmp_path / "nowhere", "hf", captioner, load=never)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["hf", "jsonl", "csv", "acestep"])
def test_shards_write_together_what_one_run_writes(
    name: str, songs: Path, captioner: Captioner, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        write_track(songs / "deep" / f"{number}.wav", [("low", 10.0)])
    (songs / "broken.wav").unlink()

    def written() -> dict[str, bytes]:
        files = [path for path in songs.rglob("*") if path.suffix in (".jsonl", ".csv", ".txt")]
        return {path.relative_to(songs).as_posix(): path.read_bytes() for path in files}

    run(songs, name, captioner, overwrite=True)
    whole, done = written(), []
    for path in whole:
        (songs / path).unlink()
    capsys.readouterr()
    for number in (3, 1, 2):
        run(songs, name, captioner, selection=Selection(shard=Shard(number, 3)))
        done += told(capsys)["written"]
    assert written() == whole
    assert len(done) == len(set(done)) == 8


def test_a_module_of_somebody_else_is_not_replaced(songs: Path, captioner: Captioner) -> None:
    (songs / "broken.wav").unlink()
    mine = songs / "custom_metadata.py"
    mine.write_text("# mine\n")
    with pytest.raises(UsageError, match=r"custom_metadata\.py: is there and does not give"):
        run(songs, "stable-audio", captioner, load=never)
    assert mine.read_text() == "# mine\n"
    assert run(songs, "stable-audio", captioner, overwrite=True) == EXIT_DONE
    assert run(songs, "stable-audio", captioner, load=never) == EXIT_DONE


def test_what_was_measured_stands_where_the_formats_have_a_place_for_it(
    songs: Path, captioner: Captioner, capsys: pytest.CaptureFixture[str]
) -> None:
    rate, beats = 16_000, np.zeros(16_000 * 20, np.float32)
    tone = np.sin(2 * np.pi * 440 * np.arange(1600) / rate) * np.hanning(1600)
    for at in range(0, len(beats) - 1600, rate // 2):  # 120 a minute
        beats[at : at + 1600] += (0.5 * tone).astype(np.float32)
    soundfile.write(songs / "beat.wav", beats, rate)
    run(songs, "audiocraft", captioner, facts=True)
    info = json.loads((songs / "beat.json").read_text())
    assert (info["bpm"], info["key"]) == (120, None)  # one note is no key
    for name in ("hf", "jsonl", "csv"):
        run(songs, name, captioner, facts=True)
    hf = {row["file_name"]: row for row in map(json.loads, (songs / "metadata.jsonl").read_text().splitlines())}
    assert abs(hf["beat.wav"]["bpm"] - 120) < 1
    assert -40 < hf["beat.wav"]["loudness_lufs"] < -5
    assert {row["key"] for row in hf.values()} == {None}
    with (songs / "captions.csv").open(newline="", encoding="utf-8") as file:
        assert {row["path"]: row["key"] for row in csv.DictReader(file)}["beat.wav"] == ""


def test_the_style_reaches_the_caption_and_an_unknown_one_is_refused(songs: Path, captioner: Captioner) -> None:
    given: list[Any] = []

    class Noting:
        def caption_files(self, paths: Sequence[Path], **options: Any) -> Iterator[Any]:
            given.append(options["style"])
            return captioner.caption_files(paths, **options)

    run(songs, "acestep", captioner, load=Noting, style="raw")
    assert given == ["raw"]
    with pytest.raises(UsageError, match="style 'odd': is unknown; use house or raw"):
        list(captioner.caption_files([], style="odd"))


def test_two_tracks_that_would_share_a_file_are_named(songs: Path, captioner: Captioner) -> None:
    write_track(songs / "high.wav", [("low", 10.0)])
    with pytest.raises(UsageError, match=r"would hold the caption of two files, .*high\.flac and .*high\.wav"):
        run(songs, "acestep", captioner, load=never)


@pytest.mark.parametrize("name", ["hf", "audiocraft"])
def test_what_is_read_beside_the_audio_is_not_written_elsewhere(
    name: str, songs: Path, captioner: Captioner, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is read beside the audio only"):
        run(songs, name, captioner, output=tmp_path / "out", load=never)


def test_a_dry_run_writes_nothing(songs: Path, captioner: Captioner, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(songs.rglob("*"))
    assert run(songs, "csv", captioner, dry_run=True, load=never) == EXIT_DONE
    assert len(told(capsys)["missing"]) == 3
    assert sorted(songs.rglob("*")) == before


def test_a_second_run_on_the_same_table_is_refused(songs: Path, captioner: Captioner) -> None:
    with (
        claimed(songs, ".captions.csv.lock", "writes the captions"),
        pytest.raises(UsageError, match="another process writes the captions there"),
    ):
        run(songs, "csv", captioner, load=never)


def test_a_folder_of_bad_files_fails(tmp_path: Path, captioner: Captioner) -> None:
    (tmp_path / "bad.wav").write_text("not audio")
    assert run(tmp_path, "srt", captioner) == EXIT_FAILED


class Interrupting:
    """A captioner that is interrupted after the first track."""

    def __init__(self, captioner: Captioner) -> None:
        self.captioner = captioner

    def caption_files(self, paths: Sequence[Path], **options: Any) -> Iterator[Any]:
        yield next(self.captioner.caption_files(paths, **options))
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["acestep", "csv"])
def test_an_interrupted_run_keeps_what_is_done_and_goes_on(
    name: str, songs: Path, captioner: Captioner, capsys: pytest.CaptureFixture[str]
) -> None:
    (songs / "broken.wav").unlink()
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted, match="interrupted with 1 of 2 files captioned; run the same command again"):
        run(songs, name, captioner, load=lambda: Interrupting(captioner))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert run(songs, name, captioner) == EXIT_DONE
    report = told(capsys)
    assert [Path(path).name for path in report["kept"]] == ["a.b.wav"]
    assert [Path(path).name for path in report["written"]] == ["high.flac"]


def test_a_run_that_is_ended_says_how_far_it_came(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "songs"
    folder.mkdir()
    write_track(folder / "000.wav", [("low", 80.0)])  # a batch by itself
    write_track(folder / "long.wav", [("high", 240.0)])
    for number in range(1, 120):
        os.link(folder / "long.wav", folder / f"{number:03}.wav")
    command = [sys.executable, "-c", "import lpmc; lpmc.main()", "caption", str(folder), "--model", str(model)]
    process = subprocess.Popen(
        [*command, "--format", "acestep", "--beams", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while not (folder / "000.caption.txt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == EXIT_INTERRUPTED, said
    done = re.search(r"interrupted with (\d+) of 121", said)
    assert done is not None
    assert 1 <= int(done[1]) == len(list(folder.glob("*.caption.txt"))) < 121


def test_a_format_that_nobody_reads_is_a_usage_error(songs: Path, captioner: Captioner) -> None:
    with pytest.raises(UsageError, match="format 'suno': is unknown; use acestep"):
        run(songs, "suno", captioner, load=never)


def test_a_track_is_named_by_its_place_below_the_folder(tmp_path: Path) -> None:
    from modeling_lpmc.sidecars import Layout, table_row

    result = TrackCaption(str(tmp_path / "a" / "b.wav"), 1.0, (), "x")
    assert table_row(Layout("csv", tmp_path), result)["path"] == "a/b.wav"
