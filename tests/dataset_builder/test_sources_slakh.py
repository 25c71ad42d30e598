"""Slakh2100 as it is published: folders of tracks, a YAML file each, and doublets that its authors found later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dataset_builder.leaks import LeakFinder
from dataset_builder.sources.options import read_source
from dataset_builder.sources.slakh import program_words, read_slakh
from dataset_builder.tracks import TaggedTrack
from hub_cards.licences import hub_licence
from lpmc_errors import TableError, UsageError

UUID = "0f9c3d5b1a7e42e8a6d3c1b2f4e59a70"


def _stem(instrument_class: str, program: str, number: int, **changes: Any) -> dict[str, Any]:
    return {
        "audio_rendered": True,
        "inst_class": instrument_class,
        "integrated_loudness": -12.5,
        "is_drum": False,
        "midi_program_name": program,
        "midi_saved": True,
        "plugin_name": "concert_grand.nkm",
        "program_num": number,
    } | changes


DRUMS = _stem("Drums", "Drums", 128, is_drum=True, plugin_name="pop_kit.nkm")
BASS = _stem("Bass", "Electric Bass (finger)", 33, plugin_name="classic_bass.nkm")
PIANO = _stem("Piano", "Electric Piano 1", 4)
SILENT = _stem("Ethnic", "Fiddle", 110, audio_rendered=False, plugin_name="None")
del SILENT["integrated_loudness"]


def _publish(folder: Path, *stems: dict[str, Any], uuid: str = UUID) -> Path:
    """A track's folder with its metadata, written as the published ones are."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "UUID": uuid,
        "audio_dir": "stems",
        "lmd_midi_dir": f"lmd_matched/A/B/C/TRABC1234567890123/{uuid}.mid",
        "midi_dir": "MIDI",
        "normalization_factor": -13.0,
        "normalized": True,
        "overall_gain": 0.18,
        "stems": {f"S{number:02d}": stem for number, stem in enumerate(stems or (PIANO,))},
        "target_peak": -1.0,
    }
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata), "utf-8")
    return folder


def _read(root: Path, **options: Any) -> tuple[list[TaggedTrack], list[tuple[str, str]]]:
    skipped: list[tuple[str, str]] = []
    tracks = list(read_slakh(root, on_skip=lambda item, why: skipped.append((Path(item).name, why)), **options))
    return tracks, skipped


def test_a_track_has_the_instruments_that_were_rendered_as_tags_and_as_facts(tmp_path):
    _publish(tmp_path / "train/Track00001", DRUMS, BASS, PIANO, PIANO, SILENT)
    (track,) = read_slakh(tmp_path)
    assert track == TaggedTrack(
        track_id="Track00001",
        tags=("drums", "bass", "piano", "finger electric bass", "electric piano", "instrumental"),
        split="train",
        source="slakh",
        licence="CC BY 4.0",
        audio_path="train/Track00001/mix.flac",
        extra=track.extra,
    )
    assert track.extra["recording_id"] == UUID
    instruments = track.extra["facts"]["instruments"]
    assert [item["stem"] for item in instruments] == ["S00", "S01", "S02", "S03"]
    assert instruments[1] == {
        "stem": "S01",
        "class": "Bass",
        "program": "Electric Bass (finger)",
        "program_number": 33,
        "is_drum": False,
        "patch": "classic_bass.nkm",
    }
    assert hub_licence(track.licence) == "cc-by-4.0"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("Acoustic Grand Piano", "acoustic grand piano"),
        ("Electric Piano 2", "electric piano"),
        ("Electric Guitar (clean)", "clean electric guitar"),
        ("Lead 2 (sawtooth)", "sawtooth synth lead"),
        ("Pad 1 (new age)", "new age synth pad"),
        ("FX 3 (crystal)", "crystal synth effect"),
        ("Synth Strings 2", "synth strings"),
        ("Honky-tonk Piano", "honky-tonk piano"),
    ],
)
def test_programs_are_named_as_people_would_say_them(program, words):
    assert program_words(program) == words


def test_a_class_that_would_mislead_is_no_tag_and_a_choir_is_not_plainly_instrumental(tmp_path):
    _publish(
        tmp_path / "test/Track01900",
        _stem("Organ", "Harmonica", 22),
        _stem("Strings", "Timpani", 47),
        _stem("Strings (continued)", "Choir Aahs", 52),
    )
    _publish(tmp_path / "test/Track01901", _stem("Strings (continued)", "String Ensemble 1", 48), uuid="b")
    choir, strings = read_slakh(tmp_path)
    assert choir.tags == ("harmonica", "timpani", "choir aahs")
    assert strings.tags == ("strings", "string ensemble", "instrumental")


def test_programs_can_be_left_out_of_the_tags(tmp_path):
    _publish(tmp_path / "train/Track00001", DRUMS, BASS)
    (track,) = read_source("slakh", tmp_path, ["programs=false"])
    assert track.tags == ("drums", "bass", "instrumental")


def test_splits_are_those_of_the_folders_and_omitted_doublets_stay_out(tmp_path):
    root = tmp_path / "slakh2100_flac_redux"
    for place in ("train/Track00002", "validation/Track00003", "test/Track00001", "omitted/Track01876"):
        _publish(root / place, uuid=place)
    tracks, skipped = _read(tmp_path)  # the folder above does as well
    assert [(track.track_id, track.split) for track in tracks] == [
        ("Track00002", "train"),
        ("Track00003", "validation"),
        ("Track00001", "test"),
    ]
    assert tracks[0].audio_path == "slakh2100_flac_redux/train/Track00002/mix.flac"
    assert skipped == [
        ("omitted", "1 tracks were left out, whose MIDI files other tracks have; --set omitted=true takes them")
    ]
    tracks, skipped = _read(root, omitted=True)
    assert [track.split for track in tracks] == ["train", "validation", "test", "omitted"]
    assert skipped == []
    assert [track.split for track in _read(root / "validation")[0]] == ["validation"]


def test_the_original_split_follows_the_numbers_of_the_tracks(tmp_path):
    for number in (1, 1500, 1501, 1875, 1876, 2100):
        _publish(tmp_path / f"train/Track{number:05d}", uuid=str(number))
    tracks = list(read_source("slakh", tmp_path, ["split=original"]))
    assert [track.split for track in tracks] == ["train", "train", "validation", "validation", "test", "test"]
    with pytest.raises(UsageError, match="choose folders or original"):
        list(read_slakh(tmp_path, split="redux"))


def test_tracks_outside_of_split_folders_have_the_original_split(tmp_path):
    _publish(tmp_path / "Track00001", *({**stem, "audio_rendered": False} for stem in (BASS, DRUMS)), SILENT)
    _publish(tmp_path / "Track02101", uuid="b")
    tracks, skipped = _read(tmp_path)
    assert [(track.track_id, track.split, track.audio_path) for track in tracks] == [
        ("Track00001", "train", "Track00001/mix.flac")
    ]
    assert tracks[0].tags == ("bass", "drums", "finger electric bass", "instrumental")  # BabySlakh: nothing `rendered`
    assert skipped == [("Track02101", "is no track of Slakh2100, which ends with Track02100")]


def test_the_same_midi_file_in_two_splits_is_found_as_a_leak(tmp_path):
    for place in ("train/Track00001", "test/Track01900"):
        _publish(tmp_path / place)
    finder = LeakFinder()
    for track in read_slakh(tmp_path):
        finder.add(track.track_id, track.split, track.source, track.artist, track.extra)
    assert finder.finish().by_kind == {"recording": 1}


def test_a_converted_mix_is_found(tmp_path):
    folder = _publish(tmp_path / "train/Track00001")
    (folder / "mix.wav").touch()
    (track,) = read_slakh(tmp_path)
    assert track.audio_path == "train/Track00001/mix.wav"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "metadata.yaml cannot be read (No such file or directory)"),
        (b"", "metadata.yaml holds no mapping"),
        (b"UUID: [1, 2\nstems: {", "metadata.yaml is no valid YAML in line 2"),
        (b"UUID: caf\xe9", "metadata.yaml is not UTF-8"),
        (b"[" * 500_000, "metadata.yaml nests more than 8 collections"),
        (b"- " * 500_000, "metadata.yaml nests more than 8 collections"),
        (b"a: &a !!python/object/apply:os.system ['false']\n", "metadata.yaml is no valid YAML in line 1"),
        (b"# " + b"x" * (1 << 20), "metadata.yaml has 1048578 bytes, expected a few thousand"),
        (b"stems: {}\n", "metadata.yaml has no UUID"),
        (b"UUID: a\nstems: [1]\n", "metadata.yaml has no mapping `stems` of stems"),
        (b"UUID: a\nstems: {S00: 1}\n", "metadata.yaml has no mapping `stems` of stems"),
        (b"UUID: a\nstems: {S00: {audio_rendered: false}}\n", "metadata.yaml has no stem that was rendered"),
        (b"UUID: a\nstems: {S00: {audio_rendered: true}}\n", "stem S00 has no inst_class and midi_program_name"),
    ],
)
def test_a_track_that_cannot_be_used_is_named_and_the_others_are_read(tmp_path, content, problem):
    _publish(tmp_path / "train/Track00001")
    bad = tmp_path / "train/Track00002"
    bad.mkdir()
    if content is not None:
        (bad / "metadata.yaml").write_bytes(content)
    tracks, skipped = _read(tmp_path)
    assert [track.track_id for track in tracks] == ["Track00001"]
    assert len(skipped) == 1
    assert skipped[0][0] == "Track00002"
    assert skipped[0][1].startswith(problem)
    with pytest.raises(TableError, match="Track00002: "):
        list(read_slakh(tmp_path))


def test_a_track_that_is_there_twice_is_a_bad_item(tmp_path):
    _publish(tmp_path / "train/Track00001")
    _publish(tmp_path / "test/Track00001")
    tracks, skipped = _read(tmp_path)
    assert [track.split for track in tracks] == ["train"]
    assert skipped == [("Track00001", "is there a second time, in another split")]


def test_a_folder_without_tracks_and_two_corpora_are_named(tmp_path):
    with pytest.raises(TableError, match="no such folder; unpack slakh2100_flac_redux"):
        list(read_slakh(tmp_path / "nowhere"))
    with pytest.raises(TableError, match=r"has 0 folders of Slakh tracks \(none\), expected one"):
        list(read_slakh(tmp_path))
    for name in ("a", "b"):
        _publish(tmp_path / name / "train/Track00001")
    with pytest.raises(TableError, match=r"has 2 folders of Slakh tracks \(a, b\)"):
        list(read_slakh(tmp_path))
    (tmp_path / "a/train/Track00001/metadata.yaml").write_text("x")
    with pytest.raises(TableError, match="has no track that can be used"):
        _read(tmp_path / "a")


def test_a_split_whose_folder_may_not_be_read_is_no_empty_split(tmp_path, monkeypatch):
    _publish(tmp_path / "train" / "Track00001", PIANO)
    _publish(tmp_path / "test" / "Track00002", PIANO, uuid="another")
    listing = Path.iterdir

    def refuse(path):
        if path.name == "test":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(TableError, match=r"test: cannot be read \(Permission denied\)"):
        list(read_source("slakh", tmp_path))
