"""Renders the cards of the data set and of a model: front matter by huggingface_hub, body by a Jinja template.

Plain data comes in (see `hub_cards.facts`), Markdown goes out. A number in a card was counted or measured; what is not
known is left out, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hub_cards.facts import ConfigFacts
from hub_cards.licences import SourceLicence, hub_licence, source_licence

DATASET_MARK = "<!-- This card is rendered by `lpmc build` from the Parquet files beside it: edits are overwritten. -->"
LICENCES_FILE = "LICENSE.md"  # what `license_link` names when no single licence holds; the Hub takes this name or a URL
PAPER = "https://arxiv.org/abs/2307.16372"

# The Hub has no task for music captioning, and hides audio-text-to-text for data sets (@huggingface/tasks 0.21.54).
DATASET_TASK = "text-to-audio"
MODEL_TASK = "audio-text-to-text"
DATASET_TAGS = ["art", "music", "text-to-music", "music-to-text", "music-captioning", "pseudo-captions"]
MODEL_TAGS = ["music", "music-captioning", "audio-captioning", "music-to-text", "custom_code"]

SIZE_CATEGORIES = (  # (rows below, name); the names are the Hub's
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def size_category(rows: int) -> str:
    """The Hub's size category of a data set of `rows` rows (`n>1T` and its neighbours are out of reach of music)."""
    return next((name for below, name in SIZE_CATEGORIES if rows < below), "10M<n<100M")


def render_dataset_card(configs: Sequence[ConfigFacts], *, pretty_name: str = "LP-MusicCaps") -> str:
    """The README.md of a data set directory. The first of `configs` becomes the default one.

    Front matter: licence, language, task, tags, size, and for each configuration its files, features and the rows and
    bytes of its splits. The body says what it is, how it was made, what failed, and under which licences.
    """
    data = _dataset_front_matter(configs, pretty_name)
    body = _template("dataset_card.md.j2").render(
        mark=DATASET_MARK,
        paper=PAPER,
        pretty_name=pretty_name,
        configs=configs,
        licences=_source_licences(configs),
        with_audio=[config for config in configs if config.making.audio_embedded is not None],
        with_model=any(config.making.models for config in configs),
        has_facts=any("facts" in config.features for config in configs),
        has_attribute_prediction=any("attribute_prediction" in config.making.outcomes for config in configs),
    )
    return f"---\n{data}\n---\n\n{_tidy(body)}"


def render_licences(configs: Sequence[ConfigFacts]) -> str:
    """The LICENSE.md of a data set directory: the licence of each source, as the card has them."""
    body = _template("licences.md.j2").render(configs=configs, licences=_source_licences(configs))
    return f"# Licences\n\n{_tidy(body)}"


def _source_licences(configs: Sequence[ConfigFacts]) -> dict[str, SourceLicence]:
    return {source: source_licence(source) for config in configs for source in sorted(config.making.sources)}


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


def _dataset_front_matter(configs: Sequence[ConfigFacts], pretty_name: str) -> Any:
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


def render_model_card(
    model_name: str,
    *,
    licence: str,
    licence_link: str = "LICENSE",
    summary: Mapping[str, Any],
    results: Mapping[str, Any] | None = None,
    demonstration: bool = False,
    repo_id: str | None = None,
    base_model: str | None = None,
    datasets: Sequence[str] = (),
) -> str:
    """The README.md of a model directory whose remote code files lie beside it.

    - `licence`: an identifier of the Hub, or a name of its own (the card then says `other`, carries the name
      and points to `licence_link`, an address or a file of the directory).
    - `summary`: what to tell about the model as name -> value, in the order given (parameters, training rows,
      epochs, ...); nested mappings become lists.
    - `results`: measured values as name -> number. The keys `dataset`, `split`, `rows`, `signature` and `command`
      describe the measurement. A mapping under `metrics` is read as well. None: the card says so.
    - `demonstration`: the model shows that the pipeline works and must not be taken for a good captioner.
    - `repo_id`: the id on the Hub for the examples; without one they name the local directory `model_name`.
    - `base_model`, `datasets`: ids on the Hub, for the front matter (local folders are left out).

    Raises `ValueError` when `results` holds no number.
    """
    from huggingface_hub import EvalResult, ModelCardData

    identifier = hub_licence(licence)
    extra: dict[str, Any] = {}
    if identifier in (None, "other"):
        name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-") or "unstated"
        extra = {"license_name": name, "license_link": licence_link}
    metrics, conditions = _measurement(results)
    evaluated = [
        EvalResult(
            task_type=MODEL_TASK,
            task_name="Music captioning",
            dataset_type=str(conditions.get("dataset", "unnamed")),
            dataset_name=str(conditions.get("dataset", "unnamed")),
            dataset_split=str(conditions["split"]) if "split" in conditions else None,
            metric_type=name,
            metric_name=name,
            metric_value=value,
        )
        for name, value in metrics.items()
    ]
    data = ModelCardData(
        language="en",
        license=identifier or "other",
        library_name="transformers",
        pipeline_tag=MODEL_TASK,
        tags=MODEL_TAGS + (["demonstration"] if demonstration else []),
        model_name=model_name,
        base_model=base_model if base_model and _is_hub_id(base_model) else None,
        datasets=[name for name in datasets if _is_hub_id(name)] or None,
        eval_results=evaluated or None,
        **extra,
    )
    body = _template("model_card.md.j2").render(
        paper=PAPER,
        model_name=model_name,
        address=repo_id or f"./{model_name}",
        licence=licence,
        summary={name: _plain(value) for name, value in summary.items() if value is not None},
        metrics=metrics,
        conditions=conditions,
        demonstration=demonstration,
    )
    return f"---\n{data}\n---\n\n{_tidy(body)}"


def _measurement(results: Mapping[str, Any] | None) -> tuple[dict[str, float], dict[str, Any]]:
    if results is None:
        return {}, {}
    flat = {**results, **results.get("metrics", {})}
    described = ("dataset", "split", "rows", "signature", "command")
    conditions = {name: flat[name] for name in described if flat.get(name) is not None}
    metrics = {
        name: value
        for name, value in flat.items()
        if name not in described and isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    if not metrics:
        raise ValueError(f"results hold no number, only {', '.join(results) or 'nothing'}")
    return metrics, conditions


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return str(value)


def _is_hub_id(name: str) -> bool:
    return bool(re.fullmatch(r"[\w.\-]+/[\w.\-]+", name)) and not name.startswith(".")


def _template(name: str) -> Any:
    environment = Environment(  # noqa: S701 - Markdown, not HTML: escaping would spoil it; cells go through `cell`
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["thousands"] = lambda value: f"{value:,}"
    environment.filters["size"] = _size
    environment.filters["percent"] = lambda share: "-" if share is None else f"{100 * share:.1f} %"
    environment.filters["interval"] = _interval
    environment.filters["cell"] = _cell
    environment.filters["plain"] = _plain
    return environment.get_template(name)


def _size(count: int) -> str:
    """Bytes as people read them, in powers of 1000."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1000:.1f} kB"


def _interval(share: Mapping[str, Any] | None) -> str:
    """`1.2 % (0.8 to 1.9)` of a share with its 95 % interval; a dash when nothing was looked at."""
    if share is None or share["share"] is None:
        return "-"
    return f"{100 * share['share']:.1f} % ({100 * share['low']:.1f} to {100 * share['high']:.1f})"


def _cell(value: object) -> str:
    """Text for a cell of a Markdown table: one line, no bar, no markup of its own."""
    text = " ".join(str(value).split()).replace("|", "\\|")
    return text.replace("<", "&lt;").replace(">", "&gt;")


def _tidy(body: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"
