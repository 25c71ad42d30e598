"""Renders the data set's card and licences: front matter by huggingface_hub, body by a Jinja template.

Plain data comes in (see `hub_cards.facts`), Markdown goes out. A number in a card was counted or measured; what is not
known is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub_cards.facts import ConfigFacts
from hub_cards.licences import SourceLicence, hub_licence, source_licence
from hub_cards.rendering import PAPER, template, tidy

DATASET_MARK = "<!-- This card is rendered by `lpmc build` from the Parquet files beside it: edits are overwritten. -->"
LICENCES_FILE = "LICENSE.md"  # what `license_link` names when no single licence holds; the Hub takes this name or a URL

# The Hub has no task for music captioning, and hides audio-text-to-text for data sets (@huggingface/tasks 0.21.54).
DATASET_TASK = "text-to-audio"
DATASET_TAGS = ["art", "music", "text-to-music", "music-to-text", "music-captioning", "pseudo-captions"]

SIZE_CATEGORIES = (  # (rows below, name); the names are the Hub's
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)

# Of a run, what a reader asks first; pipeline.json beside the Parquet files has everything.
_OF_THE_RUN = {
    "model": "model",
    "provider": "provider",
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "candidates": "candidates",
    "started": "started",
    "finished": "finished",
    "lp_musiccaps": "lp_musiccaps",
    "tracks": "tracks",
    "requests_sent": "requests sent",
    "answers_bought": "answers",
    "prompt_tokens": "tokens of the questions",
    "completion_tokens": "tokens of the answers",
    "store_requests": "requests of all runs so far",
    "store_tokens": "tokens of all runs so far",
    "store_cost_usd": "cost of all runs so far (US dollars)",
}


def size_category(rows: int) -> str:
    """The Hub's size category of a data set of `rows` rows (`n>1T` and its neighbours are out of reach of music)."""
    return next((name for below, name in SIZE_CATEGORIES if rows < below), "10M<n<100M")


def render_dataset_card(configs: Sequence[ConfigFacts], *, pretty_name: str = "LP-MusicCaps") -> str:
    """The README.md of a data set directory. The first of `configs` becomes the default one.

    Front matter: licence, language, task, tags, size, the terms to agree to where a source asks for any, and for each
    configuration its files, features and the rows and bytes of its splits. The body says what it is, how it was made,
    what failed or was left out, and under which licences.
    """
    data = _front_matter(configs, pretty_name)
    body = template("dataset_card.md.j2").render(
        mark=DATASET_MARK,
        paper=PAPER,
        pretty_name=pretty_name,
        configs=configs,
        licences=_source_licences(configs),
        source_licence=source_licence,
        gates=[(licence.title, reason) for licence, reason in gates(configs)],
        of_the_run=_of_the_run,
        with_audio=sorted(
            (config for config in configs if config.making.audio_embedded),
            key=lambda config: -(config.making.audio_embedded or 0),
        ),
        text_only=[config for config in configs if config.making.audio_embedded is None],
        with_model=any(config.making.models for config in configs),
        has_facts=any("facts" in config.features for config in configs),
        has_attribute_prediction=any("attribute_prediction" in config.making.outcomes for config in configs),
    )
    return f"---\n{data}\n---\n\n{tidy(body)}"


def render_licences(configs: Sequence[ConfigFacts]) -> str:
    """The LICENSE.md of a data set directory: the licence of each source, as the card has them."""
    body = template("licences.md.j2").render(configs=configs, licences=_source_licences(configs))
    return f"# Licences\n\n{tidy(body)}"


def gates(configs: Sequence[ConfigFacts]) -> list[tuple[SourceLicence, str]]:
    """The sources of `configs` whose terms readers should agree to before they download, each with the reason why."""
    return [(known, known.gate) for known in _source_licences(configs).values() if known.gate]


def dataset_licences(configs: Sequence[ConfigFacts]) -> tuple[list[str], bool]:
    """The Hub's identifiers of every licence that the rows and their tags come under, and whether these are all.

    It is not all when the Hub has no identifier for one, or when neither a row nor its source states any.
    """
    known: set[str] = set()
    complete = True
    for config in configs:
        of_rows = [hub_licence(name) for name in config.making.licences if name]
        of_sources = [source_licence(source).annotations_id for source in config.making.sources]
        known.update(name for name in (*of_rows, *of_sources) if name)
        unstated = "" in config.making.licences and None in of_sources
        complete = complete and None not in of_rows and not unstated
    return sorted(known), complete


def _source_licences(configs: Sequence[ConfigFacts]) -> dict[str, SourceLicence]:
    return {source: source_licence(source) for config in configs for source in sorted(config.making.sources)}


def _of_the_run(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    known = {label: pipeline.get(name) for name, label in _OF_THE_RUN.items()}
    return {label: value for label, value in known.items() if value is not None}


def _gating(configs: Sequence[ConfigFacts]) -> dict[str, Any]:
    """What the Hub shows whoever asks for access. Gating itself is switched on in the repository's settings."""
    reasons = gates(configs)
    if not reasons:
        return {}
    listed = "\n".join(f"- {licence.title}: {reason}." for licence, reason in reasons)
    return {
        "extra_gated_heading": "Agree to the terms of the corpora",
        "extra_gated_prompt": f"These captions come from other people's corpora, whose terms go with them:\n{listed}",
        "extra_gated_fields": {
            "I will keep to these terms": "checkbox",
            "I will use the data for": {"type": "select", "options": ["research", "teaching", "something else"]},
        },
        "extra_gated_button_content": "Agree and open the data set",
    }


def _front_matter(configs: Sequence[ConfigFacts], pretty_name: str) -> Any:
    import datasets
    from huggingface_hub import DatasetCardData

    licences, complete = dataset_licences(configs)
    licence: dict[str, Any]
    if complete and licences:
        licence = {"license": licences[0] if len(licences) == 1 else licences}
    else:
        licence = {"license": "other", "license_name": "per-source", "license_link": LICENCES_FILE}
    data = DatasetCardData(
        language="en",
        **licence,
        pretty_name=pretty_name,
        task_categories=[DATASET_TASK],
        tags=DATASET_TAGS + (["audio"] if any(c.making.audio_embedded is not None for c in configs) else []),
        size_categories=size_category(max(config.num_examples for config in configs)),
        **_gating(configs),
    )
    data["configs"] = [
        {
            "config_name": config.name,
            "data_files": [{"split": s.name, "path": f"{config.name}/{s.name}-*.parquet"} for s in config.splits],
            **({"default": True} if place == 0 else {}),
        }
        for place, config in enumerate(configs)
    ]
    infos = {}
    for config in configs:
        splits = {s.name: datasets.SplitInfo(s.name, s.num_bytes, s.num_examples) for s in config.splits}
        infos[config.name] = datasets.DatasetInfo(
            features=datasets.Features.from_dict(config.features),
            splits=datasets.SplitDict(splits),
            download_size=config.download_size,
            dataset_size=config.num_bytes,
        )
    datasets.info.DatasetInfosDict(infos).to_dataset_card_data(data)
    return data
