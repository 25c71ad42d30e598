"""Does the report on a corpus find what is wrong with it, and leave alone what is right?"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from dataset_builder.leaks import EVALUATION_ONLY
from dataset_builder.tag_contradictions import MOST_TAGS, TagContradictions
from dataset_builder.tag_spelling import Spelling, misspelled_tags, spelling_variants
from dataset_builder.tracks import TaggedTrack
from dataset_builder.tracks_report import EXAMPLES, TracksReport, TracksSurvey
from dataset_builder.tracks_report_text import SHOWN, report_lines

# Tags as listeners and curators write them: genres that are a letter apart, compounds, other languages.
REAL_TAGS = (
    "trance dance bass brass house soul soil beats beast horse crust crunk raga ragga gabber gabba grime goregrind "
    "grindcore nerdcore hardcore deathcore metalcore mathcore slowcore speedcore electropop electrohop electronica "
    "synthpop britpop bitpop eurodance eurotrance psytrance psybient darkwave coldwave chillwave vaporwave shoegaze "
    "shoegazer indietronica folktronica rumba salsa samba soca zouk fado choro forro kwaito kuduro mbalax taarab "
    "ghazal bhangra bhajan kirtan dholak guzheng erhu pipa sitar zither oud duduk bodhran bandoneon cavaquinho "
    "theremin mellotron clavinet rhodes vihuela kalimba mbira djembe chanson francaise musica brasileira italiano "
    "espanol deutschrap schlager norteno ranchera flamenco polskie svensk suomi colour color favourite favorite "
    "humour humor theatre theater harmonised harmonized vocalising vocalizing mesmerising jazzy folky bluesy dreamy "
    "gloomy groovy tinny twangy boomy lo-fi hi-hat rimshots arpeggiated sidechained overdriven "
    "tala alap mele edrums semba rhumba "
)


def report_on(*tracks: TaggedTrack, root: Path = Path("no-such-folder")) -> TracksReport:
    survey = TracksSurvey(root)
    assert list(survey.watch(tracks)) == list(tracks)
    return survey.finish()


def track(track_id: str, *tags: str, **known: object) -> TaggedTrack:
    return TaggedTrack(track_id, tags, **known)  # type: ignore[arg-type]


# --- spelling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "meant"),
    [
        ("acordion", "accordion"),
        ("keybiard", "keyboard"),
        ("viloin harmony", "violin harmony"),
        ("zitar", "sitar"),
        ("drumms", "drums"),
        ("electonic", "electronic"),
        ("percusive", "percussive"),
        ("tamborine", "tambourine"),
        ("raggae", "reggae"),
        ("glokenspeil", "glockenspiel"),  # two slips in a long word
    ],
)
def test_a_slip_of_the_pen_is_named_with_what_was_meant(tag: str, meant: str) -> None:
    assert [(each.tag, each.tracks, each.suggestion) for each in misspelled_tags({tag: 2, "rock": 900})] == [
        (tag, 2, meant)
    ]


def test_real_tags_that_look_like_others_raise_no_alarm() -> None:
    assert misspelled_tags(dict.fromkeys(REAL_TAGS.split(), 1)) == ()


def test_rare_real_tags_beside_frequent_ones_raise_no_alarm() -> None:
    for turn in range(2):
        counts = {tag: 1 if place % 2 == turn else 9_000 for place, tag in enumerate(REAL_TAGS.split())}
        assert misspelled_tags(counts) == ()


def test_a_word_of_the_corpus_that_no_dictionary_has_is_meant_only_when_it_is_much_more_frequent() -> None:
    assert misspelled_tags({"zbuzzlewave": 400, "zbuzlewave": 3})[0].suggestion == "zbuzzlewave"
    assert misspelled_tags({"zbuzzlewave": 40, "zbuzlewave": 3}) == ()
    assert misspelled_tags({"zbuzzlewave": 4, "zbuzlewave": 3}) == ()


def test_a_misspelling_that_many_tracks_share_is_taken_for_a_word_of_its_own() -> None:
    assert misspelled_tags({"acordion": 5}) != ()
    assert misspelled_tags({"acordion": 6}) == ()
    assert misspelled_tags({"acordion": 30, "accordion": 120}) != ()
    assert misspelled_tags({"acordion": 31, "accordion": 120}) == ()


def test_published_aspects_give_their_three_known_slips_and_nothing_else(published_captions: Path) -> None:
    clips = json.loads((published_captions / "musiccaps_annotation_sample.json").read_text())
    counts = Counter(tag for clip in clips.values() for tag in clip["aspect_list"])
    assert {each.tag: each.suggestion for each in misspelled_tags(counts)} == {
        "acordion": "accordion",
        "viloin harmony": "violin harmony",
        "zitar": "sitar",
    }


def test_spellings_of_one_tag_are_grouped_the_most_frequent_first() -> None:
    groups = spelling_variants({"hip hop": 5, "Hip-Hop": 9, "hiphop": 1, "drum": 1, "drums": 2, "rock": 8})
    assert groups == (
        (Spelling("Hip-Hop", 9), Spelling("hip hop", 5), Spelling("hiphop", 1)),
        (Spelling("drums", 2), Spelling("drum", 1)),
    )


@pytest.mark.parametrize("tags", [("key", "keys"), ("bass", "basses"), ("1980", "1980s"), ("r", "rs"), ("?", "!")])
def test_tags_that_only_look_like_plurals_stay_apart(tags: tuple[str, str]) -> None:
    assert spelling_variants(dict.fromkeys(tags, 1)) == ()


# --- contradictions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tags",
    [
        ("slow", "fast"),
        ("slow tempo", "160 bpm"),
        ("no vocals", "singer"),
        ("no singer", "female vocals"),
        ("male vocals", "instrumental"),
        ("instrumental", "choir"),
        ("c major", "minor key"),
        ("c major", "g major"),
        ("3/4", "4/4"),
        ("mono", "stereo"),
        ("low quality", "high quality"),
        ("no piano", "piano"),
        ("violin", "no strings"),
        ("not rock", "punk rock"),
        ("opera", "not opera"),
        ("no beat", "beat"),
    ],
)
def test_tags_that_cannot_both_be_true_are_found_in_either_order(tags: tuple[str, str]) -> None:
    assert TagContradictions().pairs(tags) == [tags]
    assert TagContradictions().pairs(tags[::-1]) == [tags[::-1]]


@pytest.mark.parametrize(
    "tags",
    [
        ("male vocals", "female vocals"),
        ("80s", "90s"),
        ("medium tempo", "fast"),
        ("instrumental", "no vocals"),
        ("instrumental", "vocal samples"),
        ("c major", "major"),
        ("rock", "jazz"),
        ("happy", "sad"),
        ("no wave", "wave"),
        ("no piano", "no drums", "guitar"),
        ("rock", "guitar", "slow"),
        (),
    ],
)
def test_tags_that_may_stand_together_are_no_contradiction(tags: tuple[str, ...]) -> None:
    assert TagContradictions().pairs(tags) == []


def test_tags_without_number_are_read_only_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_TAGS >= 50_000
    monkeypatch.setattr("dataset_builder.tag_contradictions.MOST_TAGS", 2)
    finder = TagContradictions()
    assert finder.pairs(("slow", "fast")) == [("slow", "fast")]
    assert finder.pairs(("mono", "stereo")) == []
    assert finder.pairs(("fast", "slow")) == [("fast", "slow")]


# --- the report -------------------------------------------------------------------------------------------------------


def test_rows_splits_and_tags_are_counted() -> None:
    report = report_on(
        track("1", "rock", "jazz", split="train", source="a"),
        track("2", "rock", split="train", source="a"),
        track("3", split="", source="b"),
        track("4", "a", "b", "c", "d", "e", split="test", source="b"),
    )
    assert report.tracks == 4
    assert report.splits == {"train": 2, "": 1, "test": 1}
    assert report.sources == {"a": 2, "b": 2}
    tags = report.tags
    assert (tags.total, tags.distinct, tags.median_per_track, tags.most_per_track, tags.without_tags) == (
        8,
        7,
        1.5,
        5,
        1,
    )


@pytest.mark.parametrize(("sizes", "median"), [([3], 3), ([1, 2], 1.5), ([0, 0, 5], 0), ([1, 1, 2, 9], 1.5)])
def test_the_median_is_the_middle_or_between_the_two(sizes: list[int], median: float) -> None:
    tracks = [track(str(at), *(f"tag {n}" for n in range(size))) for at, size in enumerate(sizes)]
    assert report_on(*tracks).tags.median_per_track == median


def test_dropped_tags_are_counted_with_examples() -> None:
    report = report_on(
        track("1", "rock", dropped_tags=("rock", "", "rock")), track("2", "jazz", dropped_tags=("",)), track("3", "pop")
    )
    dropped = report.dropped_tags
    assert (dropped.empty, dropped.repeated, dropped.tracks) == (2, 2, 2)
    assert dropped.examples == (("1", "rock"), ("2", ""))


def test_contradictory_tags_are_counted_by_pair_whatever_their_order() -> None:
    report = report_on(track("1", "slow", "fast"), track("2", "fast", "slow", "mono", "stereo"), track("3", "fast"))
    assert report.contradictory_tracks == 2
    assert [(each.tags, each.tracks, each.example) for each in report.contradictory_tags] == [
        (("fast", "slow"), 2, "1"),
        (("mono", "stereo"), 1, "2"),
    ]


def test_missing_audio_is_counted_and_the_first_files_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.mp3").touch()
    (tmp_path / "a" / "2.mp3").mkdir()  # a folder is no audio file
    (tmp_path / "3.mp3").symlink_to(tmp_path / "a" / "1.mp3")
    elsewhere = tmp_path / "a" / "1.mp3"
    report = report_on(
        track("1", audio_path="a/1.mp3"),
        track("2", audio_path="a/2.mp3"),
        track("3", audio_path="3.mp3"),
        track("4", audio_path="b/4.mp3"),
        track("5", audio_path="\0/5.mp3"),
        track("6", audio_path=str(elsewhere)),
        track("7"),
        root=tmp_path,
    )
    assert (report.audio.named, report.audio.missing) == (6, 3)
    assert report.audio.missing_files == ("a/2.mp3", "b/4.mp3", "\0/5.mp3")


def test_audio_within_the_table_is_neither_named_nor_missing_unless_it_was_written_to_files(tmp_path: Path) -> None:
    (tmp_path / "1.mp3").touch()
    report = report_on(
        track("1", audio_path="1.mp3", has_embedded_audio=True),
        track("2", audio_path="2.mp3", has_embedded_audio=True),
        track("3", has_embedded_audio=True),
        track("4", audio_path="4.mp3"),
        root=tmp_path,
    )
    assert (report.audio.embedded, report.audio.named, report.audio.missing) == (2, 2, 1)
    texts = [text for subject, text in report_lines(report) if subject == "audio"]
    assert texts[0].startswith("embedded in the table for 2 tracks")
    assert texts[1].endswith("missing: 4.mp3")


def test_only_the_first_missing_files_are_kept(tmp_path: Path) -> None:
    report = report_on(*(track(str(n), audio_path=f"{n}.mp3") for n in range(EXAMPLES + 9)), root=tmp_path)
    assert report.audio.missing == EXAMPLES + 9
    assert len(report.audio.missing_files) == EXAMPLES


def test_licences_say_whether_audio_may_be_published() -> None:
    report = report_on(
        track("1", source="mine", licence="CC BY 4.0"),
        track("2", source="mine", licence="CC BY 4.0"),
        track("3", source="mine"),
        track("4", source="musiccaps", licence="CC BY-SA 4.0 (text)"),
    )
    found = {(each.source, each.licence): (each.tracks, each.audio_publishable) for each in report.licences}
    assert found == {
        ("mine", "CC BY 4.0"): (2, True),
        ("mine", ""): (1, False),
        ("musiccaps", "CC BY-SA 4.0 (text)"): (1, False),
    }


def test_leaks_are_part_of_the_report_and_ids_stay_out_of_the_json() -> None:
    report = report_on(track("1", split="train", artist="Foo"), track("2", split="test", artist="foo"))
    assert report.leaks.training_ids == {"1"}
    leaks = report.as_json()["leaks"]
    assert leaks["training_tracks"] == 1
    assert "training_ids" not in leaks
    assert leaks["leaks"][0]["item"] == "foo"


def test_song_describer_is_for_evaluation_only() -> None:
    assert "song_describer" in EVALUATION_ONLY
    assert report_on(track("1", source="song_describer")).leaks.by_kind == {"evaluation_only": 1}


def test_no_tracks_give_a_report_of_nothing() -> None:
    report = report_on()
    assert report.tracks == 0
    assert report.tags.median_per_track == 0
    assert dict(report_lines(report))["tracks"] == "0"


def test_names_that_are_no_utf_8_become_escapes_in_the_json() -> None:
    report = report_on(track("1", "r\udcfcck", audio_path="gr\udcfcn.mp3"))
    text = json.dumps(report.as_json(), ensure_ascii=False).encode()
    assert rb"gr\\udcfcn.mp3" in text


# --- the text ---------------------------------------------------------------------------------------------------------


def lines_of(report: TracksReport) -> dict[str, str]:
    return dict(report_lines(report))


def test_every_finding_has_a_line_and_clean_subjects_have_none() -> None:
    lines = lines_of(
        report_on(
            track("t1", "slow", "fast", "acordion", "hip hop", split="train", artist="Foo", dropped_tags=("slow",)),
            track("t2", "hip-hop", split="test", artist="Foo", audio_path="x.mp3"),
            track("t3", split=""),
        )
    )
    assert lines["splits"] == "train 1, test 1, (none, becomes train) 1"
    assert lines["tags"].endswith("1 track without tags")
    assert "'slow' of t1" in lines["dropped tags"]
    assert "fast + slow (1, e.g. t1)" in lines["contradictions"]
    assert "acordion (1) -> accordion" in lines["misspelled?"]
    assert "hip hop (1) = hip-hop (1)" in lines["spelled variously"]
    assert "none of the 1 file under no-such-folder" in lines["audio"]
    assert "1 training track by an artist" in lines["LEAK"]
    assert "foo (1, e.g. t1)" in lines["LEAK"]
    assert "--leaks allow" in lines[""]
    grave = lines_of(report_on(track("1", source="song_describer", split="train")))
    assert "--leaks drop" in grave[""]
    assert "allow" not in grave[""]
    clean = lines_of(report_on(track("1", "rock", split="train"), track("2", "rock", split="test")))
    assert not clean.keys() & {"dropped tags", "contradictions", "misspelled?", "spelled variously", "LEAK"}
    assert clean["audio"] == "the corpus names no files"
    assert clean["leaks"].startswith("none")


def test_long_lists_are_cut_with_the_number_of_the_rest(tmp_path: Path) -> None:
    (tmp_path / "there.mp3").touch()
    names = ["there.mp3", *(f"{n}.mp3" for n in range(SHOWN + 3))]
    line = lines_of(report_on(*(track(name, audio_path=name) for name in names), root=tmp_path))["audio"]
    assert line.startswith(f"1 of {SHOWN + 4} files under {tmp_path}; missing: 0.mp3, 1.mp3")
    assert line.endswith(", and 3 more")


def test_many_licences_are_summed_up_after_the_first() -> None:
    tracks = [track(f"{n}-{m}", licence=f"Terms {n}") for n in range(SHOWN) for m in range(2)]
    tracks += [track("x", licence="CC BY 4.0"), track("y", licence="Other")]
    lines = list(report_lines(report_on(*tracks)))
    assert [subject for subject, _ in lines].count("licence") == SHOWN
    assert ("", "2 more: 2 tracks, the audio of 1 of them may be published") in lines
