"""How captions of non-Western and of rare music differ from the rest, and whether a captioner falls back to the West.

No new labels are needed: a clip's region is read from what its tags or references name (`regions.yaml`, a closed list
with its sources and limits), a rare genre is one that the training captions hardly ever name. Scores are facts against
the references; see `slices.py` for the intervals and for how the worst of several regions is judged.

    report = out_of_distribution(read_pairs(Path("inference.json")), training_texts=training_captions)
    print(report.markdown())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from caption_metrics.facts import extract_facts, unsupported_facts
from caption_metrics.lexicon import with_kinds
from caption_metrics.measures import COUNT, CaptionTable, Measure, Numbers, ratio
from caption_metrics.regions import (
    NO_REGION,
    RegionCoverage,
    is_western,
    regions_of_source,
    sampler_coverage,
    says_region,
)
from caption_metrics.slice_labels import SliceLabels, slice_labels
from caption_metrics.slices import SAMPLES, SMALLEST, SliceReport, slice_report

RARE_BELOW = 0.01  # share of training texts: of the 2,656 training captions of MusicCaps, fewer than 27
ANY_REGION = "any listed region"
RARE, FREQUENT = "a rare genre", "frequent genres only"
SIGNATURE = "regions:closed-list|claims:lexicon|support:references or tags, stated or implied"


class Captioned(Protocol):
    """A prediction with its references and, where the file has them, tags (`pairs.Pair`)."""

    @property
    def prediction(self) -> str: ...

    @property
    def references(self) -> Sequence[str]: ...

    @property
    def tags(self) -> Sequence[str]: ...


# --- rare genres ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingGenres:
    """How many of `n` training texts (captions, or the tags of a track) name each genre, general ones included."""

    counts: Mapping[str, int]
    n: int
    rare_below: float

    def is_rare(self, genre: str) -> bool:
        """Whether fewer than `rare_below` of the training texts name it; a genre never named is rare."""
        return self.counts.get(genre, 0) < self.rare_below * self.n


def training_genres(texts: Iterable[str | Sequence[str]], rare_below: float = RARE_BELOW) -> TrainingGenres:
    """Count genres in training captions, or in the tags of training tracks (one list a track); read once, not kept."""
    counts: Counter[str] = Counter()
    n = 0
    for text in texts:
        parts = [text] if isinstance(text, str) else text
        facts = with_kinds(fact for part in parts for fact in extract_facts(part))
        counts.update(fact.value for fact in facts if fact.category == "genre")
        n += 1
    return TrainingGenres(dict(counts), n, rare_below)


# --- the protocol ---------------------------------------------------------------------------------------------------

_COLUMNS = (
    *("claimed", "supported", "stated", "found"),
    *("instruments", "instruments_unsupported", "caption_with_unsupported_instrument"),
    *("regional", "names_region", "claims_western", "defaults"),
)


def _f1(claimed: Numbers, supported: Numbers, stated: Numbers, found: Numbers) -> Numbers:
    """Harmonic mean of precision and recall; 0 where something is stated and nothing of it is claimed."""
    precision, recall = ratio(supported, claimed), ratio(found, stated)
    total = precision + recall
    return np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), recall)


MEASURES = (
    Measure("facts_f1", ("claimed", "supported", "stated", "found"), _f1, SIGNATURE),
    Measure("facts_precision", ("supported", "claimed"), ratio, SIGNATURE),
    Measure("hallucinated_instruments", ("instruments_unsupported", "instruments"), ratio, SIGNATURE, "lower"),
    Measure(
        "captions_with_hallucinated_instrument",
        ("caption_with_unsupported_instrument", COUNT),
        ratio,
        SIGNATURE,
        "lower",
    ),
    Measure("names_its_region", ("names_region", "regional"), ratio, SIGNATURE),
    Measure("claims_western", ("claims_western", "regional"), ratio, SIGNATURE, "lower"),
    Measure("defaults_to_western", ("defaults", "regional"), ratio, SIGNATURE, "lower"),
)
"""What the protocol measures. The last three are shares of the clips of a listed region: whose caption names it; whose
caption makes an unsupported Western claim (`regions.yaml`); whose caption does the second and not the first."""


@dataclass(frozen=True)
class OutOfDistribution:
    """Scores by region, by any region against none, and by rarity of the genre; what the sampler covers."""

    slices: SliceReport
    genres: TrainingGenres | None
    coverage: tuple[RegionCoverage, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON data."""
        genres = self.genres
        return {
            "slices": self.slices.to_dict(),
            "rare_below": genres.rare_below if genres else None,
            "training_texts": genres.n if genres else None,
            "sampler_coverage": [asdict(region) for region in self.coverage],
            "signature": SIGNATURE,
        }

    def markdown(self) -> str:
        """The tables, and below them what the words mean."""
        lines = [self.slices.markdown()]
        if self.genres:
            lines.append(
                f"A genre is rare when fewer than {self.genres.rare_below:.1%} of {self.genres.n:,} training texts "
                "name it.\n"
            )
        if self.coverage:
            lines.append(
                "| region | tags of the sampler | share of draws | share of track-tag pairs |\n|---|---|---|---|"
            )
            lines += [
                f"| {each.region} | {each.tags} | {each.share_of_draws:.2%} | {each.share_of_assignments:.2%} |"
                for each in self.coverage
            ]
            lines.append("")
        lines.append(
            "A region is what tags or references name, not where a clip was made. `defaults_to_western`: the caption "
            "claims a guitar, drums, pop and the like that nothing supports, and names nothing of the clip's region. "
            f"Signature: {SIGNATURE}.\n"
        )
        return "\n".join(lines)


def out_of_distribution(
    pairs: Sequence[Captioned],
    *,
    training_texts: Iterable[str | Sequence[str]] | None = None,
    rare_below: float = RARE_BELOW,
    sampler_tags: Mapping[str, int] | None = None,
    smallest: int = SMALLEST,
    samples: int = SAMPLES,
    seed: int = 0,
) -> OutOfDistribution:
    """Score captions by region and by rarity of the genre, each against all captions.

    A region comes from a column `region` or `source` (a corpus listed in `regions.yaml`), else from tags, else from the
    references. `training_texts` (captions or lists of tags) adds rare genres, `sampler_tags` (tracks by tag) what
    tag-balanced sampling covers. Facts are held against the references, instruments and Western claims against
    references and tags together.
    """
    genres = None if training_texts is None else training_genres(training_texts, rare_below)
    labels = _labels(pairs, genres)
    table = CaptionTable(_COLUMNS)
    regions = labels.labels["region"]
    rows = np.array([_row(pair, region) for pair, region in zip(pairs, regions, strict=True)], float)
    table.append(dict(zip(_COLUMNS, rows.reshape(len(pairs), len(_COLUMNS)).T, strict=True)))
    report = slice_report(table, MEASURES, labels, smallest=smallest, samples=samples, seed=seed)
    return OutOfDistribution(report, genres, sampler_coverage(sampler_tags) if sampler_tags else ())


def _labels(pairs: Sequence[Captioned], genres: TrainingGenres | None) -> SliceLabels:
    found = slice_labels(pairs, ("region", "source"))
    regions = found.labels.get("region", (frozenset(),) * len(pairs))
    origin = found.origins.get("region", "tags and references, which name none")
    sources = found.labels.get("source")
    if sources and not origin.startswith("column"):
        by_source = [frozenset().union(*map(regions_of_source, names)) for names in sources]
        if any(by_source):
            regions = tuple(named or known for named, known in zip(by_source, regions, strict=True))
            origin = f"{found.origins['source']}, else {origin}"
    labels = {
        "region": regions,
        "any region": tuple(frozenset({ANY_REGION if each else NO_REGION}) for each in regions),
    }
    origins = {"region": origin, "any region": origin}
    if genres is not None:
        labels["rarity"] = tuple(_rarity(pair, genres) for pair in pairs)
        origins["rarity"] = "genres of tags, or of references where a clip has none, beside the training texts"
    return SliceLabels(labels, origins)


def _rarity(pair: Captioned, genres: TrainingGenres) -> frozenset[str]:
    facts = {fact for text in (pair.tags or pair.references) for fact in extract_facts(text)}
    named = [fact.value for fact in facts if fact.category == "genre"]
    return frozenset({RARE if any(map(genres.is_rare, named)) else FREQUENT} if named else ())


def _row(pair: Captioned, regions: frozenset[str]) -> tuple[float, ...]:
    claimed = extract_facts(pair.prediction)
    stated = frozenset(fact for text in pair.references for fact in extract_facts(text))
    known = with_kinds(stated)
    unsupported = claimed - known
    if pair.tags:
        unsupported &= unsupported_facts(pair.prediction, pair.tags)
    instruments = [fact for fact in claimed if fact.category == "instrument"]
    invented = sum(fact in unsupported for fact in instruments)
    named = says_region(pair.prediction, regions)
    western = any(map(is_western, unsupported))
    return (
        *(len(claimed), len(claimed & known), len(stated), len(stated & with_kinds(claimed))),
        *(len(instruments), invented, invented > 0),
        *(bool(regions), bool(regions) and named, bool(regions) and western),
        bool(regions) and western and not named,
    )
