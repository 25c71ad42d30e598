"""Renders the card of a model from what was measured: its model index by huggingface_hub, its body by Jinja."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hub_cards.licences import hub_licence
from hub_cards.rendering import PAPER, hub_ids, plain, template, tidy
from hub_cards.results_table import BLIND_TYPE, blind_of, interval_of, results_lines, scores_of

MODEL_TASK = "audio-text-to-text"  # the Hub has no task for music captioning (@huggingface/tasks 0.21.54)
MODEL_TAGS = ["music", "music-captioning", "audio-captioning", "music-to-text", "custom_code"]


def render_model_card(
    model_name: str,
    *,
    licence: str,
    licence_link: str = "LICENSE",
    licence_note: str | None = None,
    summary: Mapping[str, Any],
    results: Mapping[str, Any] | None = None,
    demonstration: bool = False,
    writes_words: bool = True,
    repo_id: str | None = None,
    base_model: str | None = None,
    datasets: Sequence[str] = (),
    pictures: Mapping[str, str] | None = None,
    data_licence: str | None = None,
) -> str:
    """The README.md of a model directory whose remote code files lie beside it.

    - `licence`: an identifier of the Hub, or a name of its own (the card then says `other`, carries the name
      and points to `licence_link`, an address or a file of the directory).
    - `licence_note`: sentences about who claims what.
    - `summary`: what to tell about the model as name -> value, in the order given (parameters, training rows,
      epochs, ...); nested mappings become lists.
    - `results`: measured values as name -> number, such as the score card of `lpmc evaluate --json`. The keys
      `dataset`, `split`, `rows`, `n`, `signature` (text, or one for each metric) and `command` describe it.
      A mapping under `metrics` is read as well; `intervals` and `blind`, as that card has them, stand beside the
      values. The same must lie beside the card as evaluation.json or as `results` of training.json, or the lint
      refuses it. None: the card says that nothing was measured.
    - `demonstration`: the model shows that the pipeline works and must not be taken for a good captioner.
    - `writes_words`: a tokenizer lies beside it; without one the examples stop at numbers of tokens.
    - `repo_id`: the id on the Hub for the examples; without one they name the local directory `model_name`.
    - `base_model`, `datasets`: ids on the Hub, for the front matter (local folders are left out).
    - `pictures`: files beside the card to show below the results, as title -> file.
    - `data_licence`: of the data it was trained on, in words; None says nothing about it.

    Raises `ValueError` when `results` holds no number.
    """
    from huggingface_hub import EvalResult, ModelCardData

    identifier = hub_licence(licence)
    extra: dict[str, Any] = {}
    if identifier in (None, "other"):
        name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-") or "unstated"
        extra = {"license_name": name, "license_link": licence_link}
    metrics, conditions = scores_of(results)
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
            metric_args={"interval": ends} if ends else None,
        )
        for name, value, ends in _indexed(metrics, results or {})
    ]
    data = ModelCardData(
        language="en",
        license=identifier or "other",
        library_name="transformers",
        pipeline_tag=MODEL_TASK,
        tags=MODEL_TAGS + (["demonstration"] if demonstration else []),
        model_name=model_name,
        base_model=next(iter(hub_ids([base_model or ""])), None),
        datasets=hub_ids(datasets) or None,
        eval_results=evaluated or None,
        **extra,
    )
    body = template("model_card.md.j2").render(
        paper=PAPER,
        model_name=model_name,
        address=repo_id or f"./{model_name}",
        licence=licence,
        licence_link=licence_link,
        licence_note=licence_note,
        data_licence=data_licence,
        summary={name: plain(value) for name, value in summary.items() if value is not None},
        metrics=metrics,
        conditions=conditions,
        results_lines=results_lines(results),
        pictures=pictures or {},
        demonstration=demonstration,
        writes_words=writes_words,
    )
    return f"---\n{data}\n---\n\n{tidy(body)}"


def _indexed(
    metrics: Mapping[str, float], results: Mapping[str, Any]
) -> Iterator[tuple[str, float, list[float] | None]]:
    """What the model index lists: each score with its interval, behind it what the blind rows score."""
    for name, value in metrics.items():
        yield name, value, interval_of(results, name)
        for row, blind in blind_of(results, name).items():
            yield BLIND_TYPE.format(metric=name, row=row), blind, None
