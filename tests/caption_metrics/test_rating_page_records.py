"""A study prepared for the rating page, rated through its desk, and analysed: the two ends agree on every record."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import soundfile

from caption_metrics.rating_analysis import analyse
from caption_metrics.ratings import read_ratings
from space.rating_desk import Answer, RatingDesk, Trial
from space.rating_prepare import prepare_study
from space.rating_store import RatingStore
from space.rating_study import Settings, load_study

CLIPS = 24
INSTRUMENTS = ("piano", "violin", "trumpet", "flute", "cello", "banjo")


def prepared(folder: Path) -> Path:
    items, captions = [], []
    for number in range(CLIPS):
        sound = folder / f"clip-{number}.flac"
        soundfile.write(sound, 0.2 * np.sin(np.arange(8000) / (5 + number)), 8000)
        items.append(
            {"item": f"clip-{number}", "audio": sound.name, "human": f"Piece {number} for {INSTRUMENTS[number % 6]}."}
        )
        captions.append({"item": f"clip-{number}", "caption": f"Take {number} of an electric guitar."})
    for name, rows in (("items", items), ("ours", captions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = Settings(block_size=10, raters_per_unit=3, constant_share=0.5, min_listen_s=0.5)
    prepare_study(folder / "items.jsonl", [str(folder / "ours.jsonl")], folder / "study", settings=settings)
    return folder / "study"


def rate_everything(study: Path, draw: random.Random) -> None:
    """Raters who know the clip's own caption, and else prefer people's in two of three comparisons."""
    now = [1_800_000_000.0]
    desk = RatingDesk(load_study(study), RatingStore(study / "ratings"), lambda: now[0])
    while not desk.complete():
        rater = desk.rater(desk.register(draw.randrange(6), "headphones"))
        assert rater is not None
        while isinstance(trial := desk.claim(rater), Trial) and trial.number < trial.total:
            rate(desk, rater, trial, draw)
            now[0] += 30
        if isinstance(trial, Trial):
            rate(desk, rater, trial, draw)


def rate(desk: RatingDesk, rater: str, trial: Trial, draw: random.Random) -> None:
    human = "left" if trial.pair[0] == "human" else "right"
    other = "right" if human == "left" else "left"
    sure = 1.0 if trial.slot.kind == "gold" else 0.97 if "blind-constant" in trial.pair else 0.6
    chosen = [human if draw.random() < sure else other for _ in range(2)]
    desk.rate(rater, trial, Answer(*chosen, None, trial.claims[0][:1], ()), listened_s=1.0, seconds=25.0)


def test_records_of_the_rating_page_are_read_whole_and_analysed(tmp_path: Path) -> None:
    study = prepared(tmp_path)
    rate_everything(study, random.Random(0))

    found = read_ratings(study)
    assert found.problems == ()
    assert not found.simulated
    assert found.plan is not None
    assert len(found.of_kind("real")) == found.plan.real
    told = analyse(found, samples=100)
    assert not any("planned" in warning for warning in told.warnings)
    assert told.quality.gold.value == 1
    assert told.quality.excluded == ()
    assert all(rater.familiarity is not None and rater.median_seconds == 25 for rater in told.quality.raters)
    assert {
        f"{row.opponent}|{row.system}": row.ratings for row in told.everyone.questions[0].pairs
    } == found.plan.by_pair
    units = {(rating.item, rating.pair) for rating in found.of_kind("real")}
    assert told.everyone.questions[0].nominal.units == len(units)
    assert [result.question for result in told.everyone.questions] == ["more_correct", "less_wrong"]
    assert told.sanity.verdict == "passed"
    assert {row.system for row in told.everyone.claims} >= {"human", "ours"}
