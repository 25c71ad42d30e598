"""Which files of a folder are taken: globs, folders of folders, and the shares of several machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpmc_errors import AudioError, UsageError
from modeling_lpmc.selection import Selection, Shard, find_audio


@pytest.fixture
def music(tmp_path: Path) -> Path:
    for name in ("a.mp3", "b.wav", "live/a.mp3", "live/2020/c.FLAC", "demo [1].ogg", "notes.txt", ".hidden/x.wav"):
        file = tmp_path / "music" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "music"


def names(folder: Path, selection: Selection) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_audio([folder], selection)]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["a.mp3", "b.wav", "demo [1].ogg", "live/2020/c.FLAC", "live/a.mp3"]),
        (Selection(recursive=False), ["a.mp3", "b.wav", "demo [1].ogg"]),
        (Selection(include=("*.mp3",)), ["a.mp3", "live/a.mp3"]),
        (Selection(include=("*.mp3", "*.wav"), exclude=("live/*",)), ["a.mp3", "b.wav"]),
        (Selection(include=("live/*",)), ["live/2020/c.FLAC", "live/a.mp3"]),
        (Selection(exclude=("a.*",)), ["b.wav", "demo [1].ogg", "live/2020/c.FLAC"]),
        (Selection(include=("demo [[]1].ogg",)), ["demo [1].ogg"]),
    ],
)
def test_globs_are_matched_with_names_or_with_places(music: Path, selection: Selection, expected: list[str]) -> None:
    assert names(music, selection) == expected


def test_globs_that_leave_nothing_are_told_from_a_folder_without_audio(music: Path) -> None:
    with pytest.raises(AudioError, match="holds 5 audio files, and --include and --exclude leave none of them"):
        find_audio([music], Selection(include=("*.aiff",)))
    (music / "empty").mkdir()
    with pytest.raises(AudioError, match="holds no audio file"):
        find_audio([music / "empty"], Selection(include=("*.aiff",)))


def test_a_file_that_is_named_is_taken_whatever_the_globs_say(music: Path) -> None:
    assert find_audio([music / "notes.txt"], Selection(include=("*.mp3",))) == [music / "notes.txt"]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
def test_shares_are_disjoint_and_whole(tmp_path: Path, count: int) -> None:
    for number in range(50):
        (tmp_path / f"{number}.wav").touch()
    shares = [find_audio([tmp_path], Selection(shard=Shard(number, count))) for number in range(1, count + 1)]
    assert sorted(path for share in shares for path in share) == find_audio([tmp_path])
    if count == 2:
        assert min(map(len, shares)) >= 15  # of 25; 1 of 400 draws is more uneven


def test_a_file_stays_in_its_share_when_others_come_and_wherever_the_folder_lies(tmp_path: Path) -> None:
    for folder, count in (("one", 20), ("deeper/two", 60)):
        (tmp_path / folder / "x").mkdir(parents=True)
        for number in range(count):
            (tmp_path / folder / "x" / f"{number}.wav").touch()
    share = Selection(shard=Shard(2, 3))
    few, many = names(tmp_path / "one", share), names(tmp_path / "deeper/two", share)
    assert few
    assert few == [name for name in many if (tmp_path / "one" / name).exists()]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", "1 / 2", "١/٢"])
def test_a_share_that_is_none_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is no share; give i/n with i from 1 to n"):
        Shard.parse(text)


def test_a_share_is_read_as_it_is_written() -> None:
    assert Shard.parse("2/8") == Shard(2, 8)
