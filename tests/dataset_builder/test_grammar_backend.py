"""The `grammar` backend: captions without a model that say what the tags say, in the manner of each instruction."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from statistics import mean

import pytest

import lpmc as commands
from caption_metrics.facts import extract_facts, tag_coverage, unsupported_facts
from dataset_builder.captioning.backends import grammar_frames, grammar_words
from dataset_builder.captioning.backends.grammar import GRAMMAR_VERSION, grammar_caption
from dataset_builder.captioning.backends.grammar_rows import grammar_row, model_rows
from dataset_builder.captioning.backends.grammar_tags import sort_tags
from dataset_builder.captioning.captions_table import CaptionRow, read_captions, read_pipeline, write_captions
from dataset_builder.captioning.pseudo_caption import caption_with_grammar
from dataset_builder.faithfulness import check_caption
from dataset_builder.instructions import INSTRUCTIONS
from dataset_builder.tracks import TaggedTrack, write_tracks
from lpmc_errors import EXIT_DONE, EXIT_PARTIAL, EXIT_USAGE

GENRES = tuple(grammar_words.GENRE_COMPANIONS)
MOODS = (*grammar_words.MOOD_COMPANIONS, "solemn", "festive", "triumphant", "hypnotic", "mellow")
INSTRUMENTS = (
    *("piano", "strings", "brass", "drums", "timpani", "double bass", "synth bass", "synth pad", "hand claps"),
    *("acoustic guitar", "distorted electric guitar", "hammond organ", "english horn", "ukulele", "agogo", "triangle"),
    *("steel drums", "music box", "congas", "electronic drums", "saxophone", "oboe", "koto", "percussion"),
)
SOUNDS = ("reverb", "echo", "muffled", "noisy", "distortion", "lo-fi", "chorus effect", "tremolo", "compressed")
# As annotators write them, and what nobody would.
ODD_TAGS = (
    ("pop", "tinny wide hi hats", "mellow piano melody", "high pitched female vocal melody", "soft female vocal"),
    ("amateur recording", "finger snipping", "male mid range voice singing", "reverb"),
    ("classical", "violins", "no vocals", "quiet", "weird", "fast", "slow tempo"),
    ("80s", "love", "sexy", "funky", "female vocalists", "party", "feel good", "rock"),
    ("no drums",),
    ("chamber music", "solo", "120 bpm", "minor key", "waltz", "march"),
    ("ballad", "march", "lullaby", "children's music"),
    ("romantic", "classical"),
    ("dark", "ambient"),
    ("techno", "techno", " ", "TECHNO"),
    ("something nobody knows", "urban", "drop in the middle"),
    ("r&b", "7/8", "a minor", "accelerating", "slow paced", "modern", "1990s"),
)


def tags_of(index: int) -> tuple[str, ...]:
    rng = Random(f"tags {index}")
    band = rng.sample(INSTRUMENTS, rng.choice((1, 2, 3, 4, 5)))
    key = f"{rng.choice('abcdefg')}{rng.choice(('', '', '#', 'b'))} {rng.choice(('major', 'minor'))}"
    texture = rng.choice(((), ("sparse texture",), ("dense texture",), ("solo",)))
    return (
        *(rng.choice(GENRES), rng.choice(MOODS), *band, rng.choice(("slow tempo", "medium tempo", "fast tempo")), key),
        *(rng.choice(("4/4 time", "3/4 time", "6/8 time", "7/8 time")), *texture),
        *(*rng.sample(SOUNDS, rng.choice((0, 0, 1, 2))), "instrumental"),
    )


@pytest.fixture(scope="module")
def tracks() -> list[TaggedTrack]:
    made = [TaggedTrack(f"t{index}", tags_of(index)) for index in range(800)]
    return [*made, *(TaggedTrack(f"odd{index}", tags) for index, tags in enumerate(ODD_TAGS))]


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_a_caption_says_every_tag_and_claims_nothing_else(tracks, instruction):
    for track in tracks:
        written = grammar_caption(track.tags, instruction, variant=track.track_id)
        check = check_caption(written.text, track, written.new_attributes)
        assert (check.problems, check.unsupported, check.tag_coverage) == ((), (), 1.0), (track.tags, written.text)
        assert not set(check.soft) - {"short"}
        assert written.new_attributes == () or instruction == "attribute_prediction"


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_every_fact_of_the_tags_can_be_read_back_from_the_caption(tracks, instruction):
    for track in tracks[:800]:
        text = grammar_caption(track.tags, instruction, variant=track.track_id).text
        lost = [tag for tag in track.tags if unsupported_facts(tag, [text])]
        assert not lost, (lost, text)


@pytest.mark.parametrize(("mood", "genre"), [("dark", "ambient"), ("romantic", "classical"), ("heavy", "metal")])
def test_a_mood_that_would_name_another_genre_is_said_apart(mood, genre):
    for draw in range(100):
        text = grammar_caption((genre, mood, "piano"), INSTRUCTIONS[draw % 4], variant=str(draw)).text
        assert not unsupported_facts(mood, [text]), text
        assert f"{mood} {genre}" not in text


def test_captions_are_as_long_as_the_published_ones_of_each_instruction():
    published = {"writing": 44, "summary": 29, "paraphrase": 48, "attribute_prediction": 66}  # words at 10 tags
    ten = [tags for tags in map(tags_of, range(3_000)) if len(tags) == 10]
    for instruction, words in published.items():
        lengths = [len(grammar_caption(tags, instruction).text.split()) for tags in ten]
        assert abs(mean(lengths) - words) < 0.08 * words, instruction
        assert min(lengths) > words / 2


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_no_opener_begins_a_twentieth_of_the_captions_and_none_is_repeated(instruction):
    texts = [grammar_caption(tags_of(index), instruction, variant=str(index)).text for index in range(2_000)]
    openers = Counter(" ".join(text.lower().split()[:3]) for text in texts)
    assert openers.most_common(1)[0][1] < 0.05 * len(texts)
    assert len(set(texts)) == len(texts)


def test_the_frames_hold_no_fact_of_their_own():
    filled = dict.fromkeys(("np", "a_np", "A_np", "noun", "rest", "rest_words", "denials", "paces"), "thing")
    filled |= dict.fromkeys(("band", "Band", "sound", "sounds", "a_sounds", "moods", "a_moods", "mood_nouns"), "thing")
    filled |= {"tempo": "a thing", "tone": "thing"}
    frames = [text for name, table in vars(grammar_frames).items() if name.isupper() for text in _leaves(table)]
    assert len(set(frames)) >= 200
    own = {text: facts for text in frames if (facts := extract_facts(text.format(**filled)))}
    assert set(own) == {text for text in frames if "instrumental" in text}  # said where a tag says it


def _leaves(table):
    if isinstance(table, str):
        return [table]
    return [text for part in (table.values() if isinstance(table, dict) else table) for text in _leaves(part)]


def test_a_synonym_is_the_same_fact():
    for tag, others in grammar_words.SYNONYMS.items():
        for other in others:
            sentence = f"A {other} piece of something, {other}."
            assert not unsupported_facts(other, [tag]), (tag, other)
            assert not unsupported_facts(tag, [sentence]) or not unsupported_facts(tag, [other]), (tag, other)
            assert tag_coverage(other, [tag]) == 1.0, (tag, other)


def test_what_attribute_prediction_adds_is_declared_said_and_new(tracks):
    added = 0
    for track in tracks:
        row = grammar_row(track, "attribute_prediction")
        assert row.new_attributes == row.new_attributes_used
        assert not set(row.new_attributes) & set(track.tags)
        for name in row.new_attributes:
            assert not any(fact.category in ("vocals", "tempo", "key", "metre") for fact in extract_facts(name))
            assert not extract_facts(name) or unsupported_facts(name, track.tags), (name, track.tags)
        added += len(row.new_attributes)
    assert added >= 2 * 800


def test_a_paraphrase_uses_other_words(tracks):
    same = 0
    for track in tracks[:300]:
        told = [tag for tag in track.tags if grammar_words.SYNONYMS.get(tag, (tag,)) != (tag,)]
        text = grammar_caption(track.tags, "paraphrase", variant=track.track_id).text.lower()
        same += bool(told) and all(tag in text for tag in told)
    assert same < 30


def test_the_same_arguments_give_the_same_caption_in_any_process():
    tags, code = tags_of(5), "import sys, json; from dataset_builder.captioning.backends.grammar import grammar_caption"
    code += "; print(json.dumps(grammar_caption(json.loads(sys.argv[1]), 'paraphrase', seed=3, variant='x').text))"
    command = [sys.executable, "-c", code, json.dumps(tags)]
    here = grammar_caption(tags, "paraphrase", seed=3, variant="x").text
    for hashed in ("1", "2"):
        done = subprocess.run(command, env={"PYTHONHASHSEED": hashed}, capture_output=True, check=True, text=True)
        assert json.loads(done.stdout) == here
    others = {grammar_caption(tags, "paraphrase", seed=seed, variant=name).text for seed in (3, 4) for name in "xy"}
    assert len(others) == 4


def test_nothing_of_torch_is_loaded():
    code = "import sys, dataset_builder.captioning.backends.grammar_rows; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("arguments", [((), "writing"), ((" ",), "writing"), (("rock",), "poem")])
def test_a_caption_of_nothing_or_for_an_unknown_instruction_is_refused(arguments):
    with pytest.raises(ValueError, match=r"at least one tag|unknown instruction"):
        grammar_caption(*arguments)


def test_tags_are_sorted_into_parts_that_read_well():
    parts = sort_tags(
        ("celtic", "march", "waltz", "love", "sad", "no drums", "a minor", "3/4", "120 bpm", "fast", "drums")
    )
    assert parts.genres == ["Celtic", "march"]  # "march" alone would not be read as the genre
    assert parts.genre_nouns == ["waltz"]
    assert (parts.moods, parts.mood_nouns, parts.denials) == (["sad"], ["love"], ["no drums"])
    assert (parts.keys, parts.metres) == (["A minor"], ["3/4 time"])
    assert parts.tempos == ["120 BPM", "a fast tempo"]
    assert parts.instruments == ["drums"]


# --- rows and the command --------------------------------------------------------------------------------------------


def test_a_row_says_that_the_grammar_wrote_it(tracks):
    row = grammar_row(tracks[0], "writing", seed=2)
    assert (row.outcome, row.caption_origin, row.backend) == ("ok", "grammar", "grammar")
    assert (row.model_asked, row.model_answered, row.wording) == ("grammar", "grammar", "grammar")
    assert (row.wording_version, row.seed, row.attempts) == (GRAMMAR_VERSION, 2, 1)
    assert row.tag_coverage == 1.0
    assert row.facts


def test_a_tag_that_no_caption_may_hold_is_rejected_after_three_draws():
    track = TaggedTrack("x", ("rock", "{braces}"))
    row = grammar_row(track, "writing")
    assert (row.outcome, row.attempts, row.caption_origin) == ("rejected", 3, "template")
    assert "structure" in (row.reason or "")
    assert grammar_row(track, "writing", fallback=False).caption is None
    assert grammar_row(TaggedTrack("y", ()), "writing").outcome == "skipped_no_tags"


def test_a_caption_that_names_the_title_is_drawn_again_with_other_words():
    title = "Colours of Drums Blend"  # in one frame of the paraphrases
    rows = [grammar_row(TaggedTrack(f"t{n}", ("drums", "rock"), title=title), "paraphrase") for n in range(300)]
    assert {row.outcome for row in rows} == {"ok"}
    assert {row.attempts for row in rows} > {1}
    assert not any(title.lower() in (row.caption or "").lower() for row in rows)


def lpmc(monkeypatch, arguments: list[str]) -> int:
    """The exit code of `lpmc ARGUMENTS`, run in this process."""
    monkeypatch.setattr(sys, "argv", ["lpmc", *arguments])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    return int(ended.value.code or 0)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "tracks.parquet"
    write_tracks([TaggedTrack(f"t{n}", tags_of(n % 3), split="train", source="mine") for n in range(6)], path)
    return path


def test_the_command_writes_a_row_for_every_track_and_instruction(table, tmp_path, capsys, monkeypatch):
    output = tmp_path / "captions.parquet"
    assert (
        lpmc(monkeypatch, ["pseudo-caption", str(table), "--backend", "grammar", "--output", str(output)]) == EXIT_DONE
    )
    rows = list(read_captions(output))
    assert [(row.track_id, row.instruction) for row in rows] == [
        (f"t{n}", name) for n in range(6) for name in INSTRUCTIONS
    ]
    assert all(row.caption and row.outcome == "ok" for row in rows)
    assert len({row.caption for row in rows}) == 24
    pipeline = read_pipeline(output)
    assert (pipeline["backend"], pipeline["wording_version"], pipeline["seed"]) == ("grammar", GRAMMAR_VERSION, 0)
    assert "24 captions of 6 tracks" in capsys.readouterr().out


def test_the_seed_changes_the_captions_and_equal_tags_can_share_them(table, tmp_path):
    outputs = [tmp_path / f"{n}.parquet" for n in range(4)]
    caption_with_grammar(table, outputs[0])
    caption_with_grammar(table, outputs[1], seed=1)
    caption_with_grammar(table, outputs[2])
    caption_with_grammar(table, outputs[3], share_identical=True)
    first, other, again, shared = ([row.caption for row in read_captions(path)] for path in outputs)
    assert first == again
    assert not set(first) & set(other)
    assert len(set(shared)) == 12
    assert shared[:12] == shared[12:]


def test_captions_of_a_model_stay_and_the_grammar_writes_the_rest(table, tmp_path, monkeypatch):
    model, output = tmp_path / "model.parquet", tmp_path / "captions.parquet"
    kept = CaptionRow(
        "t1", "writing", "A model wrote this.", "ok", caption_origin="model", backend="local", model_answered="m"
    )
    failed = CaptionRow("t1", "summary", "the music is", "rejected", caption_origin="template", backend="local")
    write_captions([kept, failed], model, {})
    assert set(model_rows(model)) == {("t1", "writing")}
    command = ["pseudo-caption", str(table), "--backend", "grammar", "--keep-from", str(model), "--output", str(output)]
    assert lpmc(monkeypatch, command) == EXIT_DONE
    origins = {(row.track_id, row.instruction): (row.caption_origin, row.backend) for row in read_captions(output)}
    assert origins.pop(("t1", "writing")) == ("model", "local")
    assert set(origins.values()) == {("grammar", "grammar")}


def test_a_track_whose_tags_no_caption_may_hold_makes_the_run_partial(tmp_path, monkeypatch):
    path, output = tmp_path / "tracks.parquet", tmp_path / "captions.parquet"
    write_tracks([TaggedTrack("a", ("rock",)), TaggedTrack("b", ("{x}",)), TaggedTrack("c", ())], path)
    command = [
        "pseudo-caption",
        str(path),
        "--backend",
        "grammar",
        "--instructions",
        "summary",
        "--output",
        str(output),
    ]
    assert lpmc(monkeypatch, command) == EXIT_PARTIAL
    assert [row.outcome for row in read_captions(output)] == ["ok", "rejected", "skipped_no_tags"]


@pytest.mark.parametrize(
    "options",
    [
        ["--backend", "grammar", "--shard", "0/2"],
        ["--backend", "grammar", "--batch"],
        ["--backend", "template", "--seed", "1"],
        ["--backend", "template", "--keep-from", "x.parquet"],
    ],
)
def test_what_the_grammar_has_not_is_refused_in_one_line(table, tmp_path, capsys, monkeypatch, options):
    code = lpmc(monkeypatch, ["pseudo-caption", str(table), "--output", str(tmp_path / "c.parquet"), *options])
    error = capsys.readouterr().err.strip()
    assert code == EXIT_USAGE
    assert error.count("\n") == 0
    assert options[-1] in error or options[-2] in error
    assert not (tmp_path / "c.parquet").exists()
