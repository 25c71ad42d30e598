"""MagnaTagATune as its owners publish it: two tables with tabs, one hex digit a split."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_builder.sources.bad_rows import ByChoice
from dataset_builder.sources.magnatagatune import TAG_COLUMNS, TOP_50, read_magnatagatune
from dataset_builder.sources.options import read_source
from dataset_builder.tracks import TaggedTrack, read_tracks, write_tracks
from hub_cards.licences import hub_licence
from lpmc_errors import TableError, UsageError

# Made here in the true format: the owners' misspellings beside the usual tags, then enough others to be 188.
RARE = ["clasical", "no singer", "no singing", "harpsicord"]
TAGS = [*RARE, *sorted(TOP_50), *(f"tag {n}" for n in range(TAG_COLUMNS - len(RARE) - len(TOP_50)))]
INFO_HEADER = ["clip_id", "track_number", "title", "artist", "album", "url", "segmentStart", "segmentEnd"]
INFO_HEADER += ["original_url", "mp3_path"]

FUGUE = "f/some_band-songs-05-fugue-88-117.mp3"


def _row(clip_id: str, mp3_path: str, *tags: str, quoted: bool = True) -> str:
    assert set(tags) <= set(TAGS)
    return _line([clip_id, *("1" if tag in tags else "0" for tag in TAGS), mp3_path], quoted)


def _line(cells: list[str], quoted: bool = True) -> str:
    if quoted:
        cells = ['"' + cell.replace('"', '""') + '"' for cell in cells]
    return "\t".join(cells)


def _info(clip_id: str, title: str, artist: str, album: str, mp3_path: str, quoted: bool = True) -> str:
    cells = [
        clip_id,
        "5",
        title,
        artist,
        album,
        "http://he3.magnatune.com/all",
        "88",
        "117",
        "http://x/all.mp3",
        mp3_path,
    ]
    return _line(cells, quoted)


def _publish(root: Path, *rows: str, info: list[str] | None = None, header: list[str] | None = None) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    lines = [_line(header or ["clip_id", *TAGS, "mp3_path"]), *rows]
    (root / "annotations_final.csv").write_text("\n".join(lines) + "\n", "utf-8", newline="")
    if info is not None:
        (root / "clip_info_final.csv").write_text("\n".join([_line(INFO_HEADER), *info]) + "\n", "utf-8", newline="")
    return root


class _Skipped(list[tuple[str, str]]):
    def __call__(self, item: object, reason: str) -> None:
        self.append((str(item), reason))


def test_a_clip_has_all_its_tags_its_names_and_the_published_columns(tmp_path):
    root = _publish(
        tmp_path,
        _row("007", FUGUE, "harpsicord", "classical", "fast"),
        info=[_info("007", 'A "Fugue"', "Some Band", "Songs", FUGUE)],
    )
    assert list(read_magnatagatune(root)) == [
        TaggedTrack(
            track_id="007",
            tags=("harpsicord", "classical", "fast"),
            split="test",
            source="magnatagatune",
            licence="CC BY-NC-SA 3.0 (research only)",
            audio_path=FUGUE,
            title='A "Fugue"',
            artist="Some Band",
            album="Songs",
            extra={
                "tag_top50": ["classical", "fast"],
                "tag_top188": ["harpsicord", "classical", "fast"],
                "recording_id": "some_band-songs-05-fugue",
            },
        )
    ]
    assert hub_licence("CC BY-NC-SA 3.0 (research only)") == "cc-by-nc-sa-3.0"


def test_tags_are_never_merged_or_corrected(tmp_path):
    root = _publish(tmp_path, _row("1", FUGUE, "clasical", "classical", "no singer", "no singing"))
    assert next(read_magnatagatune(root)).tags == ("clasical", "no singer", "no singing", "classical")


def test_a_clip_without_tags_is_kept_without_tags(tmp_path):
    track = next(read_magnatagatune(_publish(tmp_path, _row("1", FUGUE))))
    assert track.tags == ()
    assert track.extra["tag_top50"] == track.extra["tag_top188"] == []


@pytest.mark.parametrize(
    ("option", "expected"),
    [([], "t" * 12 + "v" + "e" * 3), (["split=11:2:3"], "t" * 11 + "vv" + "eee"), (["split=16:0:0"], "t" * 16)],
)
def test_the_first_hex_digit_decides_the_split(tmp_path, option, expected):
    root = _publish(tmp_path, *(_row(str(n), f"{n:x}/a-b-01-c-0-29.mp3") for n in range(16)))
    letters = {"train": "t", "valid": "v", "test": "e"}
    assert "".join(letters[track.split] for track in read_source("magnatagatune", root, option)) == expected


@pytest.mark.parametrize("split", ["12:1", "12:1:4", "a:b:c", "-1:14:3", "", "12:1:3:0", "١٢:1:3"])
def test_a_split_that_does_not_share_out_sixteen_folders_is_wrong_usage(tmp_path, split):
    root = _publish(tmp_path, _row("1", FUGUE))
    with pytest.raises(UsageError, match="12:1:3"):
        list(read_magnatagatune(root, split=split))


def test_an_empty_mp3_path_is_taken_from_the_clip_info_or_left_out_and_never_becomes_a_split(tmp_path):
    skipped = _Skipped()
    root = _publish(
        tmp_path,
        _row("1", "", "rock"),
        _row("2", "", "rock"),
        _row("3", "0/a-b-01-c-0-29.mp3", "rock"),
        info=[_info("1", "T", "A", "B", FUGUE), _info("2", "T", "A", "B", "")],
    )
    tracks = list(read_magnatagatune(root, on_skip=skipped))
    assert [(track.track_id, track.split, track.audio_path) for track in tracks] == [
        ("1", "test", FUGUE),
        ("3", "train", "0/a-b-01-c-0-29.mp3"),
    ]
    assert skipped == [(f"{root}/annotations_final.csv, line 3", "has no mp3_path, so neither audio nor split")]
    assert isinstance(skipped[0][1], ByChoice)  # the published file has such rows: it is whole
    assert len(list(read_magnatagatune(root))) == 2


def test_clips_of_one_recording_share_its_id_with_and_without_clip_info(tmp_path):
    paths = ["0/a-b-01-two-0-29.mp3", "0/a-b-01-two-29-58.mp3", "0/a-b-02-two-0-29.mp3"]
    root = _publish(tmp_path, *(_row(str(n), path) for n, path in enumerate(paths)))
    ids = [track.extra["recording_id"] for track in read_magnatagatune(root)]
    assert ids == ["a-b-01-two", "a-b-01-two", "a-b-02-two"]
    _publish(
        tmp_path, *(_row(str(n), path) for n, path in enumerate(paths)), info=[_info("0", "t", "a", "b", paths[0])]
    )
    assert [track.extra["recording_id"] for track in read_magnatagatune(root)] == ids
    assert [track.title for track in read_magnatagatune(root)] == ["t", None, None]


def test_files_without_quotes_with_windows_line_ends_and_a_byte_order_mark_read_the_same(tmp_path):
    plain = _publish(
        tmp_path / "plain",
        _row("1", FUGUE, "rock"),
        _row("2", "c/x-y-01-z-0-29.mp3", "harp"),
        info=[_info("1", "One", "Ä", "B", FUGUE), _info("2", "Two", "A", "B", "c/x-y-01-z-0-29.mp3")],
    )
    for quote in ('"', ""):
        other = tmp_path / f"other{len(quote)}"
        other.mkdir()
        for file in plain.iterdir():
            text = file.read_text("utf-8").replace('"', quote).replace("\n", "\r\n") + "\r\n"
            (other / file.name).write_text(text, "utf-8-sig", newline="")
        assert list(read_magnatagatune(other)) == list(read_magnatagatune(plain))


def test_one_stray_quote_does_not_take_the_lines_behind_it(tmp_path):
    root = _publish(tmp_path, _row("1", FUGUE), _row("2", FUGUE), info=[])
    lines = [
        _info("1", '"Heroes', "A", "B", FUGUE, quoted=False),
        _info("2", 'It\'s "it"', "A", "B", FUGUE, quoted=False),
    ]
    _publish(tmp_path, _row("1", FUGUE), _row("2", FUGUE), info=lines)
    assert [track.title for track in read_magnatagatune(root)] == ['"Heroes', 'It\'s "it"']


@pytest.mark.parametrize("sign", ["\t", "\r", "\u2028", "\x0b"])
def test_a_tab_or_an_odd_line_sign_inside_quotes_belongs_to_the_title(tmp_path, sign):
    root = _publish(tmp_path, _row("1", FUGUE), info=[_info("1", f"A{sign}B", "C", "D", FUGUE)])
    assert next(read_magnatagatune(root)).title == f"A{sign}B"


BAD_ROWS = [
    (_row("", FUGUE, "rock"), "has no clip_id"),
    (_row("1", "/etc/passwd.mp3"), "names the absolute path '/etc/passwd.mp3'"),
    (_row("1", "f/../../../secret.mp3"), "names the path 'f/../../../secret.mp3', which leads out"),
    (_row("1", "..\\f\\x.mp3"), "names the path '..\\\\f\\\\x.mp3', which leads out"),
    (_row("1", "F/x-0-29.mp3"), "mp3_path is 'F/x-0-29.mp3', expected HEX_DIGIT/NAME.mp3"),
    (_row("1", "mp3/f/x-0-29.mp3"), "mp3_path is 'mp3/f/x-0-29.mp3', expected HEX_DIGIT/NAME.mp3"),
    (_row("1", "f/some_band-songs-05-fug"), "mp3_path is 'f/some_band-songs-05-fug', expected"),
    (_row("1", FUGUE).replace('"0"', '"2"', 1), "has '2' for the tag 'clasical', expected 0 or 1"),
    (_row("1", FUGUE).replace('"0"', '""', 1), "has '' for the tag 'clasical', expected 0 or 1"),
    (_row("1", FUGUE)[:200], "has 51 cells, expected 190 as in the header"),
    (_row("1", FUGUE) + "\t1", "has 191 cells, expected 190"),
    (_row("1", "f/so\0me-0-29.mp3"), "holds a NUL byte"),
    (_row("1", "f/" + "x" * (3 << 20) + ".mp3"), "is longer than 1048576 characters"),
    (_row("1", FUGUE).replace('"0"', '"' + "0\t" * 200_000 + '"', 1), "has 0 cells"),
    (_row("99", FUGUE), "repeats the clip 99"),
]


@pytest.mark.parametrize(("row", "problem"), BAD_ROWS, ids=[problem[:30] for _, problem in BAD_ROWS])
def test_a_bad_row_is_left_out_and_named_by_its_line(tmp_path, row, problem):
    skipped = _Skipped()
    root = _publish(tmp_path, _row("99", FUGUE), row, _row("100", FUGUE))
    assert [track.track_id for track in read_magnatagatune(root, on_skip=skipped)] == ["99", "100"]
    assert [item for item, _ in skipped] == [f"{root}/annotations_final.csv, line 3"]
    assert skipped[0][1].startswith(problem)
    with pytest.raises(TableError, match="line 3"):
        list(read_magnatagatune(root))


def test_a_clip_info_that_contradicts_the_annotations_or_itself_is_told_of(tmp_path):
    skipped = _Skipped()
    root = _publish(
        tmp_path,
        _row("1", FUGUE),
        _row("2", "0/a-b-01-c-0-29.mp3"),
        info=[
            _info("1", "T", "A", "B", "0/z-z-01-z-0-29.mp3"),
            _info("2", "T", "", "B", ""),
            _info("2", "U", "A", "B", ""),
        ],
    )
    tracks = list(read_magnatagatune(root, on_skip=skipped))
    assert [(track.track_id, track.title, track.artist) for track in tracks] == [("2", "T", None)]
    assert [reason for _, reason in skipped] == [
        "repeats the clip 2",
        f"has the path {FUGUE!r}, in clip_info_final.csv clip 1 has '0/z-z-01-z-0-29.mp3'",
    ]


def test_the_files_are_found_one_folder_down_and_by_their_own_name(tmp_path):
    inner = _publish(tmp_path / "MTAT", _row("1", FUGUE), info=[_info("1", "T", "A", "B", FUGUE)])
    expected = list(read_magnatagatune(inner))
    assert list(read_magnatagatune(tmp_path)) == expected
    assert list(read_magnatagatune(inner / "annotations_final.csv")) == expected
    _publish(tmp_path / "copy", _row("1", FUGUE))
    with pytest.raises(TableError, match=r"annotations_final.csv in several folders \(MTAT, copy\)"):
        list(read_magnatagatune(tmp_path))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has no column clip_id and mp3_path"),
        (b"clip_id,rock,mp3_path\n1,1,f/x.mp3\n", "has no column clip_id and mp3_path in a first line with tabs"),
        (
            b"clip_id\track\tmp3_path\n",
            "has 1 tags in 1 columns, without ambient, beat, beats ...; the published file has",
        ),
        (("\t".join(INFO_HEADER) + "\n").encode(), "has 8 tags in 8 columns"),
        (("\t".join(["clip_id", *TAGS[:-1], TAGS[0], "mp3_path"]) + "\n").encode(), "has 187 tags in 188 columns"),
        (("\t".join(["clip_id", *TAGS, "extra", "mp3_path"]) + "\n").encode(), "has 189 tags in 189 columns"),
        (("\t".join(["clip_id", *TAGS, TAGS[0], "mp3_path"]) + "\n").encode(), "has 188 tags in 189 columns; "),
        (
            ("\t".join(["clip_id", *TAGS, "mp3_path"]) + "\n").replace("\tguitar", "\tgutar").encode(),
            ", without guitar; ",
        ),
        (("\t".join(["clip_id", *TAGS, "mp3_path"]) + "\n").encode(), "has no clip that can be used"),
        (("\t".join(["clip_id", *TAGS, "mp3_path"]) + "\n\n").encode() + b"\xe4", r"is not UTF-8 \(byte 0xe4"),
        ("clip_id\tmp3_path".encode("utf-16"), "is not UTF-8"),
        (b"PK\x03\x04\x14\x00\x00\x00\x08\x00", "has no column clip_id and mp3_path"),
    ],
)
def test_a_file_that_is_not_the_published_one_is_refused_also_when_rows_may_be_skipped(tmp_path, content, problem):
    (tmp_path / "annotations_final.csv").write_bytes(content)
    with pytest.raises(TableError, match=problem):
        list(read_magnatagatune(tmp_path, on_skip=_Skipped()))


def test_a_clip_info_of_another_kind_is_refused(tmp_path):
    root = _publish(tmp_path, _row("1", FUGUE))
    (root / "clip_info_final.csv").write_text("clip_id\ttitle\n1\tT\n")
    with pytest.raises(TableError, match=r"clip_info_final\.csv: has no column artist, album, mp3_path"):
        list(read_magnatagatune(root))


def test_a_folder_without_annotations_says_where_to_get_them(tmp_path):
    with pytest.raises(TableError, match=r"has no annotations_final\.csv; download it from https://mirg"):
        list(read_magnatagatune(tmp_path))
    (tmp_path / "mp3.zip.001").touch()
    with pytest.raises(TableError, match=r"besides the archive in parts mp3\.zip\.001 to \.003"):
        list(read_magnatagatune(tmp_path))


def test_the_tracks_survive_the_tracks_table(tmp_path):
    root = _publish(tmp_path, _row("007", FUGUE, "rock", "clasical"), _row("8", FUGUE), info=[])
    tracks = list(read_magnatagatune(root))
    write_tracks(tracks, tmp_path / "tracks.parquet")
    assert list(read_tracks(tmp_path / "tracks.parquet")) == tracks
