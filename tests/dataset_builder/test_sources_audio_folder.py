"""A folder of audio as people have it: subfolders, odd names, embedded tags, files that are no audio."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dataset_builder.sources.audio_folder import read_audio_folder
from lpmc_errors import AudioError, TableError

RATE = 8_000


def _tone(path: Path, seconds: float = 0.5, **header: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE)) / RATE)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for name, text in header.items():
            setattr(file, name, text)
        file.write(wave)
    return path


def _read(root: Path, **options):
    skipped: list[tuple[str, str]] = []
    tracks = list(
        read_audio_folder(
            root, on_skip=lambda path, why: skipped.append((path.relative_to(root).as_posix(), why)), **options
        )
    )
    return tracks, skipped


def test_files_of_all_kinds_are_found_in_order_and_described(tmp_path):
    for name in ("b/2.wav", "b/10.flac", "a.MP3", "c d/ä ö.ogg", "e.aiff"):
        _tone(tmp_path / name)
    for name in (".hidden.wav", ".cache/x.wav", "cover.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    tracks, skipped = _read(tmp_path)
    assert [track.track_id for track in tracks] == ["a.MP3", "b/10.flac", "b/2.wav", "c d/ä ö.ogg", "e.aiff"]
    assert [track.audio_path for track in tracks] == [track.track_id for track in tracks]
    assert all(track.source == "audio_folder" and track.tags == () for track in tracks)
    assert tracks[1].extra == {"duration_s": 0.5, "sampling_rate": RATE, "channels": 1}
    assert skipped == []


def test_the_embedded_genre_is_a_tag_and_title_artist_album_never_are(tmp_path):
    header = {"title": "Song", "artist": "Somebody", "album": "Record", "genre": "Rock; Blues", "date": "1971-03-01"}
    for name in ("a.flac", "b.ogg", "c.mp3"):
        _tone(tmp_path / name, **header)
    tracks, _ = _read(tmp_path)
    for track in tracks:
        assert track.tags == ("Rock", "Blues"), track.track_id
        assert (track.title, track.artist, track.album, track.year) == ("Song", "Somebody", "Record", 1971)


def test_the_parent_folder_is_a_tag_only_when_asked(tmp_path):
    _tone(tmp_path / "jazz/trio/a.flac", genre="swing")
    _tone(tmp_path / "b.wav")
    assert [track.tags for track in _read(tmp_path)[0]] == [(), ("swing",)]
    assert [track.tags for track in _read(tmp_path, folder_as_tag=True)[0]] == [(), ("trio", "swing")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tags.csv", 'file_name,tags,title,split\n./x/a.flac,"calm, piano",Own title,valid\nb.wav,,,\n'),
        ("tags.tsv", "file_name\ttags\ttitle\tsplit\nx\\a.flac\tcalm|piano\tOwn title\tvalid\n"),
        ("tags.jsonl", '{"file_name": "x/a.flac", "tags": ["calm", "piano"], "title": "Own title", "split": "valid"}'),
    ],
)
def test_the_tags_file_comes_before_what_the_files_say(tmp_path, name, content):
    _tone(tmp_path / "x/a.flac", genre="piano; folk", title="Embedded", artist="Somebody")
    _tone(tmp_path / "b.wav")
    (tmp_path / name).write_text(content, "utf-8")
    (b, a), skipped = _read(tmp_path)
    assert a.tags == ("calm", "piano", "folk")
    assert (a.title, a.artist, a.split, a.track_id) == ("Own title", "Somebody", "valid", "x/a.flac")
    assert b.tags == ()
    assert skipped == []


def test_a_tags_file_finds_names_whose_accents_are_stored_differently(tmp_path):
    _tone(tmp_path / unicodedata.normalize("NFD", "café.wav"))
    name = unicodedata.normalize("NFC", "café.wav")
    (tmp_path / "tags.csv").write_text(f"file_name,tags\n{name},calm\n", "utf-8")
    tracks, skipped = _read(tmp_path)
    assert [track.tags for track in tracks] == [("calm",)]
    assert skipped == []


def test_files_that_are_left_out_are_reported_with_the_reason(tmp_path):
    root, outside = tmp_path / "in", _tone(tmp_path / "out/secret.wav")
    _tone(root / "good.wav")
    (root / "torn.mp3").write_bytes(b"no audio at all")
    (root / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (root / "zero.wav").touch()
    soundfile.write(root / "empty.wav", np.zeros(0), RATE)
    (root / "link.wav").symlink_to(outside)
    (root / "folder").symlink_to(outside.parent)
    (root / "inner.wav").symlink_to(root / "good.wav")
    (root / "tags.csv").write_text("file_name,tags\ngood.wav,calm\ngone.wav,calm\n../out/secret.wav,x\n", "utf-8")
    tracks, skipped = _read(root)
    assert [track.track_id for track in tracks] == ["good.wav", "inner.wav"]
    reasons = dict(skipped)
    assert reasons.keys() == {
        *("torn.mp3", "song.m4a", "zero.wav", "empty.wav", "link.wav", "folder", "gone.wav", "../out/secret.wav")
    }
    assert "cannot be decoded" in reasons["song.m4a"]
    assert "convert it to FLAC or WAV" in reasons["torn.mp3"]
    assert reasons["empty.wav"] == "holds no sound"
    assert reasons["link.wav"] == "is a link that leads out of the folder"
    assert "not followed" in reasons["folder"]
    assert reasons["gone.wav"] == "is named in the tags file but is no audio file in the folder"
    assert all("\n" not in reason for reason in reasons.values())


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_a_name_that_is_not_text_is_reported_instead_of_breaking_the_table(tmp_path):
    _tone(tmp_path / "good.wav")
    shutil.copy(tmp_path / "good.wav", os.fsencode(tmp_path) + b"/caf\xe9.wav")
    tracks, skipped = _read(tmp_path)
    assert [track.track_id for track in tracks] == ["good.wav"]
    assert [reason for _, reason in skipped] == ["has a name that is not UTF-8"]


def test_a_folder_without_audio_and_a_tags_file_of_another_shape_are_named(tmp_path):
    with pytest.raises(AudioError, match="no such folder of audio files"):
        list(read_audio_folder(tmp_path / "nowhere"))
    with pytest.raises(AudioError, match="holds no audio files that can be read"):
        list(read_audio_folder(tmp_path))
    _tone(tmp_path / "a.wav")
    (tmp_path / "tags.csv").write_text("name,tags\na.wav,calm\n", "utf-8")
    with pytest.raises(TableError, match="has the columns name, tags; it needs file_name and tags"):
        list(read_audio_folder(tmp_path))
    (tmp_path / "tags.csv").write_text("file_name,tags\na.wav,calm\n./a.wav,loud\n", "utf-8")
    with pytest.raises(TableError, match=r"line 3: names a\.wav a second time"):
        list(read_audio_folder(tmp_path))
    (tmp_path / "tags.tsv").write_text("file_name\ttags\n", "utf-8")
    with pytest.raises(TableError, match=r"has tags\.csv and tags\.tsv, expected one"):
        list(read_audio_folder(tmp_path))


def test_real_recordings_are_read_with_their_own_rate_and_channels(recordings):
    tracks = {track.track_id: track for track in read_audio_folder(recordings[0].parent)}
    assert tracks["orchestra.wav"].extra == {"duration_s": 30.013, "sampling_rate": 22_050, "channels": 1}
    assert tracks["electronic.mp3"].extra["channels"] == 2
