"""A folder of audio as people have it: subfolders, odd names, embedded tags, files that are no audio."""

from __future__ import annotations

import os
import shutil
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dataset_builder.sources.audio_folder import read_audio_folder
from dataset_builder.sources.options import read_source
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
            root, on_skip=lambda item, why: skipped.append((Path(item).relative_to(root).as_posix(), why)), **options
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


def _frame(name: str, text: str, version: int, encoding: int) -> bytes:
    """A text frame of ID3v2 (id3.org): name, size (seven bits a byte in version 4), flags, encoding, text."""
    encoded = {
        0: lambda: text.encode("latin-1"),
        1: lambda: b"\xff\xfe" + text.encode("utf-16-le"),
        2: lambda: text.encode("utf-16-be"),
        3: lambda: text.encode("utf-8"),
    }[encoding]()
    content = bytes([encoding]) + encoded
    size = _seven_bits(len(content)) if version == 4 else struct.pack(">I", len(content))
    return name.encode() + size + b"\0\0" + content


def _seven_bits(size: int) -> bytes:
    return bytes((size >> shift) & 127 for shift in (21, 14, 7, 0))


def _with_id3(path: Path, version: int, encoding: int, **texts: str) -> None:
    """Put an ID3v2 tag before the sound of an MP3 file."""
    frames = b"".join(_frame(name, text, version, encoding) for name, text in texts.items())
    path.write_bytes(b"ID3" + bytes([version, 0, 0]) + _seven_bits(len(frames)) + frames + path.read_bytes())


@pytest.mark.parametrize(("version", "encoding"), [(3, 0), (3, 1), (4, 0), (4, 1), (4, 2), (4, 3)])
def test_id3_texts_are_read_in_every_encoding(tmp_path, version, encoding):
    _with_id3(
        _tone(tmp_path / "a.mp3"),
        version,
        encoding,
        TIT2="Tïtle",
        TPE1="Ärtist",
        TALB="Àlbum",
        TCON="Röck",
        TYER="1987",
    )
    ((track,), _) = _read(tmp_path)
    assert (track.title, track.artist, track.album, track.year) == ("Tïtle", "Ärtist", "Àlbum", 1987)
    assert track.tags == ("Röck",)


@pytest.mark.parametrize(
    ("version", "genre", "tags"),
    [
        (3, "(17)", ("Rock",)),
        (3, "17", ("Rock",)),
        (3, "Rock/Pop", ("Rock", "Pop")),
        (4, "Rock\0Pop", ("Rock", "Pop")),
        (4, "17\x0013\0Krautrock", ("Rock", "Pop", "Krautrock")),
        (3, "(4)Eurodisco", ("Disco", "Eurodisco")),
        (3, "Drum & Bass", ("Drum & Bass",)),
        (3, "[Ambient, Drone]", ("Ambient", "Drone")),
        (3, "x" * 600, ()),
    ],
)
def test_id3_genres_may_be_numbers_or_several(tmp_path, version, genre, tags):
    _with_id3(_tone(tmp_path / "a.mp3"), version, 3 if version == 4 else 0, TCON=genre)
    ((track,), _) = _read(tmp_path)
    assert track.tags == tags


def test_the_old_tag_at_the_end_of_a_file_is_read(tmp_path):
    path = _tone(tmp_path / "a.mp3")
    fields = [b"Title".ljust(30, b"\0"), b"Artist".ljust(30, b"\0"), b"Album".ljust(30, b"\0"), b"1999", bytes(30)]
    path.write_bytes(path.read_bytes() + b"TAG" + b"".join(fields) + bytes([13]))
    ((track,), _) = _read(tmp_path)
    assert (track.title, track.artist, track.album, track.year, track.tags) == (
        "Title",
        "Artist",
        "Album",
        1999,
        ("Pop",),
    )


def test_a_vorbis_comment_may_name_several_genres(tmp_path):
    path = _tone(tmp_path / "a.flac")
    texts = [b"GENRE=Jazz", b"genre=Bossa Nova", b"GENRE=Jazz", b"TITLE=Song", b"ARTIST=Somebody", b"LICENSE=CC BY 4.0"]
    block = b"\0\0\0\0" + struct.pack("<I", len(texts)) + b"".join(struct.pack("<I", len(t)) + t for t in texts)
    whole = path.read_bytes()
    assert whole[:5] == b"fLaC\0"  # then the stream's own block of 34 bytes, after which another one may follow
    path.write_bytes(whole[:42] + b"\x04" + len(block).to_bytes(3, "big") + block + whole[42:])
    ((track,), _) = _read(tmp_path)
    assert track.tags == ("Jazz", "Bossa Nova")
    assert (track.title, track.artist, track.licence) == ("Song", "Somebody", "CC BY 4.0")


def test_an_m4a_is_read_where_pyav_is_installed(tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        container.metadata.update({"genre": "Soul", "title": "Song", "artist": "Somebody"})
        stream = container.add_stream("aac", rate=8_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    ((track,), skipped) = _read(tmp_path)
    assert (track.tags, track.title, track.artist) == (("Soul",), "Song", "Somebody")
    assert (track.extra["sampling_rate"], track.extra["channels"]) == (8_000, 1)
    assert 0.1 < track.extra["duration_s"] < 0.5
    assert skipped == []
    monkeypatch.setattr("dataset_builder.sources.embedded_tags.find_spec", lambda name: None)
    _tone(tmp_path / "b.wav")
    tracks, skipped = _read(tmp_path)
    assert [track.track_id for track in tracks] == ["b.wav"]
    assert "convert it to FLAC or WAV" in skipped[0][1]


@pytest.mark.parametrize(
    "header",
    [
        b"ID3\x03\0\0\x7f\x7f\x7f\x7fTCON\x7f\xff\xff\xff\0\0\0Rock",  # sizes far beyond the file
        b"ID3\x04\0\x40\0\0\0\x20" + b"\xff" * 32,  # an extended header of nonsense
        b"ID3\x03\0\0\0\0\0\x20TCON\0\0\0\x04\0\0\x01\xff\xfe\x00" + b"\0" * 18,  # half a character
    ],
)
def test_a_damaged_tag_costs_the_texts_at_most(tmp_path, header):
    good = _tone(tmp_path / "good.wav")
    path = _tone(tmp_path / "a.mp3")
    path.write_bytes(header + path.read_bytes())
    tracks, skipped = _read(tmp_path)
    assert len(tracks) + len(skipped) == 2
    assert tracks[-1].track_id == good.name
    assert all("\0" not in tag for track in tracks for tag in track.tags)


def test_texts_that_one_reader_stumbles_over_come_from_the_other(tmp_path):
    _with_id3(_tone(tmp_path / "a.mp3"), 3, 0, TRCK="1" * 5_000, TIT2="Title", TCON="Rock")
    ((track,), skipped) = _read(tmp_path)
    assert (track.title, track.tags, skipped) == ("Title", ("Rock",), [])


def test_licence_and_split_stand_where_the_files_say_none(tmp_path):
    _tone(tmp_path / "a.flac", license="CC0 1.0")
    _tone(tmp_path / "b.flac")
    _tone(tmp_path / "c.flac")
    (tmp_path / "tags.csv").write_text("file_name,tags,licence,split\nc.flac,calm,CC BY-SA 4.0,test\n", "utf-8")
    tracks = list(read_source("audio_folder", tmp_path, ["licence=CC BY 4.0", "split=train"]))
    assert [(track.licence, track.split) for track in tracks] == [
        ("CC0 1.0", "train"),
        ("CC BY 4.0", "train"),
        ("CC BY-SA 4.0", "test"),
    ]


def test_repeated_and_empty_tags_are_kept_apart_from_the_tags(tmp_path):
    _tone(tmp_path / "jazz/a.flac", genre="jazz; calm")
    (tmp_path / "tags.csv").write_text('file_name,tags\njazz/a.flac,"calm, ,calm"\n', "utf-8")
    ((track,), _) = _read(tmp_path, folder_as_tag=True)
    assert track.tags == ("jazz", "calm")
    assert track.dropped_tags == ("", "calm", "jazz", "calm")


def test_bad_rows_of_the_tags_file_are_told_and_without_a_listener_raise(tmp_path):
    _tone(tmp_path / "a.wav")
    path = tmp_path / "tags.csv"
    path.write_text('file_name,tags\na.wav,calm\n,x\na.wav,loud\nb.wav,"[1, [2]]"\na.wav,x,y\n', "utf-8")
    ((track,), skipped) = _read(tmp_path)
    assert track.tags == ("calm",)
    assert [(name.rpartition(" ")[2], why.partition(" (")[0]) for name, why in skipped] == [
        ("3", "has no id"),
        ("4", "names a.wav a second time"),
        ("5", "has tags that cannot be read"),
        ("6", "has 3 cells, expected 2 as in the header"),
    ]
    with pytest.raises(TableError, match="line 3: has no id"):
        list(read_audio_folder(tmp_path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have names on POSIX only")
def test_a_pipe_among_the_files_does_not_stop_the_run(tmp_path):
    _tone(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "b.wav")
    tracks, skipped = _read(tmp_path)
    assert [track.track_id for track in tracks] == ["a.wav"]
    assert skipped == [("b.wav", "is no regular file")]


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


def _forbid(monkeypatch, forbidden: Path) -> None:
    """Let the system refuse a folder, also to root."""
    listing = os.scandir

    def refuse(path):
        if Path(path) == forbidden:
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_a_folder_that_may_not_be_read_is_reported(tmp_path, monkeypatch):
    _tone(tmp_path / "good.wav")
    _tone(tmp_path / "mine" / "other.wav")
    _forbid(monkeypatch, tmp_path / "mine")
    tracks, skipped = _read(tmp_path)
    assert [track.track_id for track in tracks] == ["good.wav"]
    assert skipped == [("mine", "cannot be read (Permission denied)")]


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    _tone(tmp_path / "good.wav")
    _tone(tmp_path / "mine.wav")
    opening = Path.open

    def refuse(path, *arguments, **options):
        if path.name == "mine.wav":
            raise PermissionError(13, "Permission denied", str(path))
        return opening(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert _read(tmp_path)[1] == [("mine.wav", "cannot be read (Permission denied)")]


def test_an_empty_file_and_a_page_of_text_are_called_what_they_are(tmp_path):
    _tone(tmp_path / "good.wav")
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "page.mp3").write_text("<html>404</html>")
    _, skipped = _read(tmp_path)
    assert skipped == [
        ("empty.mp3", "is empty"),
        ("page.mp3", "cannot be decoded (Format not recognised); convert it to FLAC or WAV"),
    ]


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
