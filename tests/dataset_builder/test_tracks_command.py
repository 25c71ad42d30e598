"""`lpmc tracks` as a user meets it: the report, the table, the exit codes, and one clear line for every mistake."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from typer.testing import CliRunner

from dataset_builder.sources import SOURCES
from dataset_builder.sources.bad_rows import ByChoice
from dataset_builder.sources.options import parse_options, read_source, source_options
from dataset_builder.tracks import TaggedTrack, read_tracks, write_tracks
from lpmc import app
from lpmc_errors import TableError, UsageError

SONGS = (
    "track_id,tags,split,artist,audio\n"
    '007,"slow;fast;rock;rock",train,Foo,a.mp3\n'
    '008,"acordion;rock",test,foo,b.mp3\n'
    "009,,train,Bar,\n"
)


def lpmc(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["tracks", *map(str, arguments)])


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    path = tmp_path / "songs.csv"
    path.write_text(SONGS)
    return path


# --- report and table -------------------------------------------------------------------------------------------------


def test_without_output_only_the_report_is_printed(songs: Path) -> None:
    result = lpmc("table", "--root", songs)
    assert result.exit_code == 0, result.stderr
    for words in (
        "tracks",
        "train 2, test 1",
        "fast + slow",
        "acordion (1) -> accordion",
        "LEAK",
        "nothing was written",
    ):
        assert words in result.stdout
    assert [path.name for path in songs.parent.iterdir()] == ["songs.csv"]


def test_with_output_the_table_is_written_and_the_next_step_named(songs: Path) -> None:
    output = songs.parent / "deep" / "tracks.parquet"
    result = lpmc("table", "--root", songs, "--output", output)
    assert result.exit_code == 0, result.stderr
    assert [each.track_id for each in read_tracks(output)] == ["007", "008", "009"]
    assert f"3 tracks written to {output}" in result.stdout
    assert f"lpmc pseudo-caption {output}" in result.stdout


def test_json_is_all_there_is_on_standard_output_and_says_what_the_text_says(songs: Path) -> None:
    result = lpmc("table", "--root", songs, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["source"], report["output"], report["tracks"], report["skipped"]) == ("table", None, 3, [])
    assert report["splits"] == {"train": 2, "test": 1}
    assert report["tags"]["without_tags"] == 1
    assert report["contradictory_tags"][0]["tags"] == ["fast", "slow"]
    assert report["misspelled_tags"] == [{"tag": "acordion", "tracks": 1, "suggestion": "accordion"}]
    assert report["audio"]["missing"] == 2
    assert report["leaks"]["by_kind"] == {"artist": 1}
    assert report["licences"][0]["audio_publishable"] is False


def test_misspelled_and_contradictory_tags_are_written_as_they_are(songs: Path) -> None:
    output = songs.parent / "tracks.parquet"
    lpmc("table", "--root", songs, "--output", output)
    assert [each.tags for each in read_tracks(output)] == [("slow", "fast", "rock"), ("acordion", "rock"), ()]


def test_audio_is_looked_for_beside_the_table_or_under_audio_root(songs: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp3").touch()
    assert json.loads(lpmc("table", "--root", songs, "--json").stdout)["audio"]["missing"] == 1
    (tmp_path / "clips").mkdir()
    elsewhere = lpmc("table", "--root", songs, "--audio-root", tmp_path / "clips", "--json")
    assert json.loads(elsewhere.stdout)["audio"] == {
        "root": str(tmp_path / "clips"),
        "named": 2,
        "embedded": 0,
        "missing": 2,
        "missing_files": ["a.mp3", "b.mp3"],
    }


def test_a_source_that_takes_an_audio_root_is_given_the_one_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = source_reading(monkeypatch, reads_clips)
    (tmp_path / "x").mkdir()
    lpmc(asked, "--root", tmp_path, "--audio-root", tmp_path / "x")
    assert CLIPS_ASKED.pop() == tmp_path / "x"
    clips = tmp_path / "clips"
    clips.mkdir()
    for also in ([], ["--audio-root", clips]):
        found = lpmc(asked, "--root", tmp_path, "--set", f"audio_root={clips}", "--json", *also)
        assert CLIPS_ASKED.pop() == clips
        assert json.loads(found.stdout)["audio"]["root"] == str(clips)


CLIPS_ASKED: list[Path | None] = []


def reads_clips(root: Path, *, audio_root: Path | None = None) -> Any:
    CLIPS_ASKED.append(audio_root)
    yield TaggedTrack("1", ("rock",), audio_path="1.mp3")


def source_reading(monkeypatch: pytest.MonkeyPatch, reader: Any) -> str:
    """Make a function of this file a source, and give its name."""
    monkeypatch.setitem(sys.modules, "readers_of_the_test", sys.modules[__name__])
    monkeypatch.setitem(SOURCES, "mine", f"readers_of_the_test:{reader.__name__}")
    return "mine"


def skips_some(root: Path, *, on_skip: Any = None) -> Any:
    for number in range(25):
        on_skip(Path(f"bad-{number}\udcfc.mp3"), "is no audio")
    yield TaggedTrack("1", ("rock",))


def test_items_left_out_give_exit_code_3_the_first_are_named_and_json_has_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = source_reading(monkeypatch, skips_some)
    result = lpmc(asked, "--root", tmp_path, "--output", tmp_path / "t.parquet")
    assert result.exit_code == 3
    assert result.stderr.count("skipped bad-") == 20
    assert "and 5 more" in result.stderr
    assert (tmp_path / "t.parquet").is_file()
    skipped = json.loads(lpmc(asked, "--root", tmp_path, "--json").stdout)["skipped"]
    assert len(skipped) == 25
    assert skipped[0] == {"item": r"bad-0\udcfc.mp3", "reason": "is no audio"}


def leaves_some_out(root: Path, *, on_skip: Any = None) -> Any:
    on_skip("1.mp3", ByChoice("its licence was not asked for"))
    yield TaggedTrack("2", ("rock",))


def test_items_left_out_by_choice_are_named_and_are_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = lpmc(source_reading(monkeypatch, leaves_some_out), "--root", tmp_path)
    assert (result.exit_code, result.stderr) == (0, "left out 1.mp3: its licence was not asked for\n")


def test_where_every_row_is_bad_the_first_are_named_beside_the_error(tmp_path: Path) -> None:
    (tmp_path / "songs.csv").write_text("id,tags,audio\n1,rock,/a.mp3\n2,rock,/b.mp3\n")
    result = lpmc("table", "--root", tmp_path / "songs.csv")
    assert result.exit_code == 1
    assert "line 2: names the absolute path '/a.mp3'" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("lpmc: ")


def test_signs_that_steer_a_terminal_are_written_as_escapes(tmp_path: Path) -> None:
    (tmp_path / "songs.csv").write_text('id,tags,audio\n"a\nb\x1b[31m",rock|rock,a.mp3\n"c\nd",rock,"/x\n.mp3"\n')
    result = lpmc("table", "--root", tmp_path / "songs.csv")
    assert "'rock' of a\\nb\\x1b[31m" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1


def cannot_be_read(root: Path) -> Any:
    yield TaggedTrack("1", ("rock",))
    raise PermissionError(errno.EACCES, "Permission denied", str(root / "tags.csv"))


def test_a_file_that_may_not_be_read_is_no_matter_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = lpmc(source_reading(monkeypatch, cannot_be_read), "--root", tmp_path, "--output", tmp_path / "t.parquet")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"lpmc: {tmp_path}/tags.csv: cannot be read (Permission denied)")
    assert list(tmp_path.iterdir()) == []


def test_leaks_are_a_warning_here_and_no_exit_code(songs: Path) -> None:
    result = lpmc("table", "--root", songs)
    assert "1 training track by an artist" in result.stdout
    assert "--leaks drop" in result.stdout
    assert "--leaks allow" in result.stdout
    assert result.exit_code == 0


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["spotify", "--root", "."], 2, "spotify: is no source; the sources are"),
        (["table", "--root", "none.csv"], 1, "none.csv: no such file or folder"),
        (["table", "--root", "n" * 300], 1, "no such file or folder"),
        (["table", "--root", "songs.csv", "--output", "n" * 300 + ".parquet"], 1, "the name is too long"),
        (["table", "--root", "songs.csv", "--audio-root", "clps"], 2, "--audio-root clps: no such folder"),
        (["table", "--root", "songs.csv", "--set", "id_column"], 2, "has no value; write --set id_column=VALUE"),
        (["table", "--root", "songs.csv", "--set", "column=x"], 2, "is no option of the source table"),
        (["table", "--root", "songs.csv", "--set", "split=a", "--set", "split=b"], 2, "split is given twice"),
        (["table", "--root", "songs.csv", "--output", "folder"], 2, "--output folder: is a folder"),
        (["table", "--root", "songs.csv", "--output", "folder/../songs.csv"], 2, "is the corpus itself"),
        (["table", "--root", "songs.csv", "--output", "songs.csv/t.parquet"], 2, "songs.csv is no folder"),
        (["table", "--root", "songs.csv", "--output", "nowhere/t.parquet"], 2, "nowhere is no folder"),
        (["rendered", "--root", "new", "--set", "clips=many"], 2, "clips=many: the value is no int"),
        (["rendered", "--root", "new", "--set", "clips="], 2, "clips=: the value is no int"),
        (
            ["fma", "--root", ".", "--set", "subset=huge"],
            2,
            "is no such choice; choose from small, medium, large, full",
        ),
        (["msd_ecals", "--root", ".", "--set", "pickles=perhaps"], 2, "the value is no bool"),
        (["msd_ecals", "--root", ".", "--set", "paths="], 2, "the value is no Path"),
        (["table", "--root", "twice.csv", "--set", "id_column=tags"], 3, "skipped"),
    ],
)
def test_a_mistake_is_one_line_with_its_exit_code_and_leaves_nothing_behind(
    songs: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(songs.parent)
    Path("folder").mkdir()
    Path("nowhere").symlink_to("removed")
    Path("twice.csv").write_text("id,tags\n1,rock\n2,rock\n")
    before = sorted(songs.parent.rglob("*"))
    result = lpmc(*arguments)
    assert result.exit_code == code, result.stderr
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert sorted(songs.parent.rglob("*")) == before
    assert songs.read_text() == SONGS


def repeats_an_id(root: Path) -> Any:
    yield from (TaggedTrack(track_id, ("rock",)) for track_id in ("1", "2", "1"))


def has_no_id(root: Path) -> Any:
    yield from (TaggedTrack(track_id, ("rock",)) for track_id in ("1", ""))


@pytest.mark.parametrize(("reader", "words"), [(repeats_an_id, "'1' occurs twice"), (has_no_id, "row 2 has an empty")])
@pytest.mark.parametrize("writes", [True, False])
def test_ids_that_repeat_or_are_empty_are_named_with_and_without_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Any, words: str, writes: bool
) -> None:
    output = ["--output", tmp_path / "t.parquet"] if writes else []
    result = lpmc(source_reading(monkeypatch, reader), "--root", tmp_path, *output)
    assert result.exit_code == 1
    assert words in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("known", [{"title": "half \ud83d a face"}, {"year": 10**30}, {"extra": {"x": "\udcfc"}}])
def test_what_no_table_can_hold_is_named_with_its_track(tmp_path: Path, known: dict[str, Any]) -> None:
    tracks = [TaggedTrack("1", ("rock",)), TaggedTrack("2", ("rock",), **known)]
    with pytest.raises(TableError, match="track '2': cannot be written"):
        write_tracks(tracks, tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_table_keeps_every_field_of_many_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset_builder.tracks.ROWS_PER_GROUP", 2)
    whole = TaggedTrack(
        *("0", ("a", "b"), "train", "s", "l", "p.mp3", ("c1", "c2"), "t", "ar", "al", 1999, {"k": [1, None], "a": "é"})
    )
    tracks = [whole, *(TaggedTrack(str(n), ()) for n in range(1, 5))]
    assert write_tracks(iter(tracks), tmp_path / "t.parquet") == 5
    assert list(read_tracks(tmp_path / "t.parquet")) == tracks


def test_ctrl_c_while_reading_gives_75_and_leaves_the_old_table(tmp_path: Path) -> None:
    table, output = tmp_path / "many.jsonl", tmp_path / "out" / "tracks.parquet"
    with table.open("w") as file:
        file.writelines(f'{{"id": "{number}", "tags": ["rock", "slow", "piano"]}}\n' for number in range(400_000))
    output.parent.mkdir()
    output.write_bytes(b"old")
    command = [sys.executable, "-m", "lpmc", "tracks", "table", "--root", str(table), "--output", str(output)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(os.listdir(output.parent)) < 2 and time.monotonic() < deadline:  # until it has begun to write
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "interrupted" in errors
    assert len(errors.strip().splitlines()) == 1
    assert [path.name for path in output.parent.iterdir()] == ["tracks.parquet"]
    assert output.read_bytes() == b"old"


# --- options ----------------------------------------------------------------------------------------------------------


def takes_all_kinds(
    root: Path,
    *,
    whole: int = 1,
    share: float = 0.5,
    flag: bool = False,
    name: str | None = None,
    file: Path | None = None,
    size: Literal["small", "large"] | None = None,
    level: Literal[1, 2] = 1,
    on_skip: Any = None,
) -> Any:
    yield TaggedTrack(repr([whole, share, flag, name, str(file), size, level]), ())


def test_options_reach_the_reader_as_what_it_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = source_reading(monkeypatch, takes_all_kinds)
    given = ["whole=7", "share=0.25", "flag=Yes", "name=a=b", "file=x/y", "size=large", "level=2"]
    (track,) = read_source(asked, tmp_path, given)
    assert track.track_id == "[7, 0.25, True, 'a=b', 'x/y', 'large', 2]"
    assert set(source_options(asked)) == {"whole", "share", "flag", "name", "file", "size", "level"}
    assert parse_options(asked, ["name="]) == {"name": ""}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("whole=1.5", "is no int"),
        ("share=half", "is no float"),
        ("flag=maybe", "is no bool"),
        ("size=huge", "choose from small, large"),
        ("size=", "choose from small, large"),
        ("level=3", "choose from 1, 2"),
        ("on_skip=print", "is no option"),
        ("root=x", "is no option"),
        ("=x", "is no option"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_would(
    monkeypatch: pytest.MonkeyPatch, option: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        parse_options(source_reading(monkeypatch, takes_all_kinds), [option])


def test_every_source_has_options_that_can_be_named() -> None:
    for name in SOURCES:
        assert "root" not in source_options(name)
