"""The ledger: counts that add up to the input, shares with intervals, accounts of shards that add up to the whole."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator

import pytest

from dataset_builder.captioning.captions_table import OUTCOMES, CaptionRow
from dataset_builder.captioning.ledger import (
    MOST_VALUES,
    OTHERS,
    TOP_OPENERS,
    TOP_REASONS,
    Ledger,
    normalised_reason,
    quantile,
    share_of,
    wilson,
)

INSTRUCTIONS = ("writing", "summary", "attribute_prediction")


def kept(
    track: str = "t1", instruction: str = "writing", caption: str = "A calm piano piece.", **values: object
) -> CaptionRow:
    given = {"caption_origin": "model", "tag_coverage": 1.0, "attempts": 1, "model_answered": "m-1"} | values
    return CaptionRow(track, instruction, caption, "ok", **given)


def account(*rows: CaptionRow) -> dict:
    ledger = Ledger()
    for row in rows:
        ledger.add(row)
    return json.loads(json.dumps(ledger.to_dict()))


def corpus(count: int, seed: int = 0) -> Iterator[CaptionRow]:
    """Rows of all outcomes, three a track."""
    draw = random.Random(seed)
    for number in range(count):
        track, instruction = f"t{number // 3}", INSTRUCTIONS[number % 3]
        outcome = draw.choices(OUTCOMES, (80, 5, 8, 4, 3))[0]
        if outcome != "ok":
            template = draw.random() < 0.5 and outcome != "skipped_no_tags"
            yield CaptionRow(
                track,
                instruction,
                "the music is characterized by rock" if template else None,
                outcome,
                f"covers {draw.randrange(33)}% of the tags (at least 33%)" if outcome == "rejected" else "no",
                "template" if template else None,
                model_answered="m-1",
                prompt_tokens=90,
                completion_tokens=10,
            )
            continue
        words = ["a", *draw.choices(("calm", "bright", "piano", "song", "slow"), k=draw.randrange(5, 40))]
        yield kept(
            track,
            instruction,
            " ".join(words),
            prompt_tokens=90,
            completion_tokens=len(words),
            tag_coverage=draw.randrange(1, 11) / 10,
            unsupported=tuple(draw.sample(("mood: calm", "mood: dark", "genre: rock", "era: 80s"), draw.randrange(3))),
            soft=tuple(draw.sample(("hype", "listener", "short"), draw.randrange(3))),
            near_duplicates=draw.randrange(3),
            new_attributes=("x", "y") if instruction == "attribute_prediction" else (),
            new_attributes_used=("x",) if instruction == "attribute_prediction" else (),
            contradictions=("tempo: fast / slow",) if draw.random() < 0.1 else (),
        )


def test_outcomes_add_up_to_the_input_in_the_whole_and_for_each_instruction() -> None:
    rows = list(corpus(3_000))
    ledger = Ledger()
    for row in rows:
        ledger.add(row)
    assert ledger.rows == sum(ledger.outcomes.values()) == 3_000
    found = ledger.to_dict()
    assert sum(found["outcomes"].values()) == found["rows"] == 3_000
    for name, part in found["by_instruction"].items():
        assert part["rows"] == sum(part["outcomes"].values()) == 1_000
        for outcome, count in part["outcomes"].items():
            assert count == sum(row.instruction == name and row.outcome == outcome for row in rows)
    assert ledger.template_fallbacks == sum(row.caption_origin == "template" for row in rows)
    assert found["prompt_tokens"] == sum(row.prompt_tokens or 0 for row in rows)
    assert found["models_answered"] == {"m-1": 3_000}


def test_the_accounts_of_shards_add_up_to_the_account_of_the_whole() -> None:
    rows = list(corpus(2_000))
    rows.sort(key=lambda row: row.track_id)
    whole = account(*rows)
    middle = next(place for place in range(700, 2_000) if rows[place].track_id != rows[place - 1].track_id)
    together = Ledger()
    for part in (account(*rows[:middle]), account(*rows[middle:])):
        together.absorb(part)
    found = json.loads(json.dumps(together.to_dict()))
    for part, expected in zip(
        sorted(found["by_instruction"].items()), sorted(whole["by_instruction"].items()), strict=True
    ):
        assert part[1]["tag_coverage"].pop("mean") == pytest.approx(expected[1]["tag_coverage"].pop("mean"))
        for one in (part[1], expected[1]):
            one.pop("openers")  # beyond the most frequent ones they are cut off
    assert found == whole


def test_a_ledger_goes_on_counting_after_it_absorbed_another() -> None:
    ledger = Ledger()
    ledger.absorb(account(kept(caption="Get ready to dance"), kept(caption="Get ready to sing")))
    ledger.add(kept(caption="get ready to cry"))
    part = ledger.to_dict()["by_instruction"]["writing"]
    assert part["openers"] == [{"opener": "get ready to", **share_of(3, 3)}]
    assert part["words"]["mean"] == 4.0
    assert ledger.rows == 3


def test_coverage_and_words_are_those_of_kept_captions_alone() -> None:
    found = account(
        kept(caption="one two three", tag_coverage=0.5),
        kept(caption="one two three four five", tag_coverage=1.0),
        kept(caption="one two three four five six seven", tag_coverage=1.0),
        CaptionRow("t", "writing", "the template of it", "rejected", "no", "template", tag_coverage=1.0),
        CaptionRow("t", "writing", None, "rejected", "no", tag_coverage=0.1),
    )["by_instruction"]["writing"]
    assert found["tag_coverage"]["mean"] == pytest.approx(2.5 / 3)
    assert found["tag_coverage"]["median"] == 1.0
    assert found["words"]["mean"] == 5.0
    assert (found["words"]["p10"], found["words"]["median"], found["words"]["p90"]) == (3, 5, 7)
    assert found["openers"][0]["of"] == 3


def test_a_quantile_is_a_value_that_was_counted() -> None:
    assert quantile(Counter({3: 1, 5: 1}), 0.5) == 3
    assert quantile(Counter({3: 1, 5: 2}), 0.5) == 5
    assert (quantile(Counter({3: 9, 5: 1}), 0.9), quantile(Counter({3: 9, 5: 1}), 1.0)) == (3, 5)


def test_a_caption_with_several_claims_of_one_category_counts_once() -> None:
    found = account(
        kept(unsupported=("mood: calm", "mood: dark", "genre: rock")), kept(unsupported=("mood: calm",)), kept(), kept()
    )["by_instruction"]["writing"]["unsupported"]
    assert found["any"]["count"] == 2
    assert found["by_category"]["mood"] == share_of(2, 4)
    assert found["by_category"]["genre"]["count"] == 1


def test_claims_of_rejected_rows_are_no_claims_of_kept_captions() -> None:
    row = CaptionRow(
        "t", "writing", None, "rejected", "claims drums, which no tag supports", unsupported=("instrument: drums",)
    )
    assert account(row)["by_instruction"]["writing"]["unsupported"]["by_category"] == {}


def test_style_and_added_attributes_are_shares_of_kept_captions() -> None:
    found = account(
        kept(
            instruction="attribute_prediction",
            soft=("hype", "listener"),
            new_attributes=("a", "b", "c"),
            new_attributes_used=("b",),
        ),
        kept(instruction="attribute_prediction", soft=("hype",)),
    )["by_instruction"]["attribute_prediction"]
    assert found["soft"]["hype"] == share_of(2, 2)
    assert found["soft"]["listener"] == share_of(1, 2)
    assert found["new_attributes"] == {"declared": 3, "used": 1}


def test_what_was_not_looked_for_is_not_none_found() -> None:
    found = account(kept())["by_instruction"]["writing"]
    assert found["near_duplicates"] is None
    assert found["contradictions"] is None
    found = account(kept(near_duplicates=0), kept(near_duplicates=2), kept())["by_instruction"]["writing"]
    assert found["near_duplicates"] == share_of(1, 2)


def test_contradictions_are_counted_by_caption_and_once_for_a_track() -> None:
    conflict = ("key: c major / d minor", "tempo: fast / slow")
    found = account(
        kept("t1", "writing", contradictions=conflict, near_duplicates=0),
        kept("t1", "summary", contradictions=conflict, near_duplicates=0),
        kept("t2", "writing", near_duplicates=0),
        kept("t3", "writing", contradictions=("tempo: fast / slow",), near_duplicates=0),
    )
    assert found["tracks_with_contradictions"] == 2
    assert found["contradictions"] == {"tempo": 2, "key": 1}
    assert found["by_instruction"]["writing"]["contradictions"] == share_of(2, 3)


def test_equal_reasons_count_together_and_the_most_frequent_stand_first() -> None:
    rejected = [
        CaptionRow("t", "writing", None, "rejected", f"covers {n}% of the tags (at least 33%); names the title")
        for n in range(3)
    ]
    found = account(*rejected, CaptionRow("t", "writing", None, "api_failed", "HTTP 400 for 'abc'"))["reasons"]
    assert found == {
        "rejected: covers N% of the tags (at least N%)": 3,
        "rejected: names the title": 3,
        "api_failed: HTTP N for '...'": 1,
    }


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("claims trumpet, violin, which no tag supports", "claims something that no tag supports"),
        ("has 170 words (at most 160)", "has N words (at most N)"),
        ("HTTP 500 from https://api.example/v1: request req_8fA91c failed", "HTTP N from URL request ID failed"),
        ("no answer in 30.5 s\n(trace 9f86d081884c7d65)", "no answer in N s (trace ID)"),
        ("names the title", "names the title"),
    ],
)
def test_a_reason_is_counted_without_what_is_particular_to_one_row(reason: str, expected: str) -> None:
    assert normalised_reason(reason) == expected


def test_only_the_most_frequent_reasons_are_told_and_strange_ones_do_not_fill_the_memory() -> None:
    ledger = Ledger()
    letters = "abcdefghijklmnopqrst"
    names = [a + b + c + d for a in letters for b in letters for c in letters for d in letters[:3]]
    assert len(names) > MOST_VALUES
    for name in names:
        ledger.add(CaptionRow("t", "writing", None, "api_failed", f"fault {name}", model_answered=name))
    assert len(ledger.to_dict()["reasons"]) == TOP_REASONS
    assert len(ledger.to_dict()["models_answered"]) == MOST_VALUES + 1
    assert ledger.to_dict()["models_answered"][OTHERS] == len(names) - MOST_VALUES
    assert len(normalised_reason("word " * 100)) == 100


def test_openers_are_the_first_three_words_in_any_case() -> None:
    found = account(
        *[kept(caption=f"Get ready to {word}") for word in ("dance", "sing")], kept(caption="get READY, to cry"), kept()
    )
    openers = found["by_instruction"]["writing"]["openers"]
    assert openers[0] == {"opener": "get ready to", **share_of(3, 4)}
    many = account(*[kept(caption=f"{chr(97 + n % 26)}{chr(97 + n // 26)} x y") for n in range(100)])
    assert len(many["by_instruction"]["writing"]["openers"]) == TOP_OPENERS


def alarms(captions: int, claims: int, instruction: str = "writing", category: str = "instrument") -> list[str]:
    claimed = (f"{category}: drums",)
    rows = (
        kept(instruction=instruction, caption=f"w{number} w w", unsupported=claimed if number < claims else ())
        for number in range(captions)
    )
    return account(*rows)["alarms"]


def test_claims_that_no_tag_supports_raise_an_alarm_above_one_percent() -> None:
    assert alarms(1000, 10) == []
    assert alarms(1000, 11) == ["writing: 1.1% of the captions claim instrument that no tag supports"]
    assert alarms(199, 199) == []  # too few to tell
    assert alarms(1000, 500, category="mood") == []  # moods may be paraphrased
    assert alarms(1000, 500, "attribute_prediction") == []  # asked to add


def test_an_opener_raises_an_alarm_above_five_percent() -> None:
    stock = [kept(caption=f"Get ready to hear {number}") for number in range(11)]
    others = [kept(caption=f"w{number} w w") for number in range(200)]
    assert account(*stock, *others[:189])["alarms"] == ["writing: 5.5% of the captions begin with 'get ready to'"]
    assert account(*stock[:10], *others[:190])["alarms"] == []
    assert account(*stock, *others[:188])["alarms"] == []  # 199 captions are too few to tell


def test_an_interval_is_wilsons() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)  # worked out by hand
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=5e-5)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(20, 2839)
    assert low < 20 / 2839 < high
    assert share_of(0, 0)["share"] is None


def test_an_empty_table_has_an_account() -> None:
    assert account()["rows"] == 0
    skipped = account(CaptionRow("t", "writing", None, "skipped_no_tags", "the track has no tags"))
    assert skipped["outcomes"] == {"skipped_no_tags": 1}
    assert skipped["by_instruction"]["writing"]["tag_coverage"]["mean"] is None
    ledger = Ledger()
    ledger.absorb(skipped)
    assert ledger.rows == 1


def test_memory_does_not_grow_with_the_rows() -> None:
    ledger = Ledger()
    for row in corpus(2_000):
        ledger.add(row)
    tracemalloc.start()
    for row in corpus(6_000, seed=1):
        ledger.add(row)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 500_000
