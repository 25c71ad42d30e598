"""Renders the card of a model from what was measured: its model index by huggingface_hub, its body by Jinja."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hub_cards.licences import hub_licence
from hub_cards.rendering import PAPER, hub_ids, plain, template, tidy

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
) -> str:
    """The README.md of a model directory whose remote code files lie beside it.

    - `licence`: an identifier of the Hub, or a name of its own (the card then says `other`, carries the name
      and points to `licence_link`, an address or a file of the directory).
    - `licence_note`: sentences about who claims what.
    - `summary`: what to tell about the model as name -> value, in the order given (parameters, training rows,
      epochs, ...); nested mappings become lists.
    - `results`: measured values as name -> number, such as the score card of `lpmc evaluate --json`. The keys
      `dataset`, `split`, `rows`, `n`, `signature` (text, or one for each metric) and `command` describe it.
      A mapping under `metrics` is read as well. The same values must lie beside the card as evaluation.json, or the
      lint refuses it. None: the card says that nothing was measured.
    - `demonstration`: the model shows that the pipeline works and must not be taken for a good captioner.
    - `writes_words`: a tokenizer lies beside it; without one the examples stop at numbers of tokens.
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
        summary={name: plain(value) for name, value in summary.items() if value is not None},
        metrics=metrics,
        conditions=conditions,
        signatures=_signatures(results),
        demonstration=demonstration,
        writes_words=writes_words,
    )
    return f"---\n{data}\n---\n\n{tidy(body)}"


def _measurement(results: Mapping[str, Any] | None) -> tuple[dict[str, float], dict[str, Any]]:
    if results is None:
        return {}, {}
    flat = {**results, **results.get("metrics", {})}
    described = ("dataset", "split", "rows", "n", "signature", "command")
    conditions = {name: flat[name] for name in described if flat.get(name) is not None}
    if isinstance(conditions.get("signature"), Mapping):
        del conditions["signature"]  # one for each metric: it stands in the metric's row
    metrics = {
        name: value
        for name, value in flat.items()
        if name not in described and isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    if not metrics:
        raise ValueError(f"results hold no number, only {', '.join(results) or 'nothing'}")
    return metrics, conditions


def _signatures(results: Mapping[str, Any] | None) -> dict[str, str]:
    found = (results or {}).get("signature")
    return {str(name): str(text) for name, text in found.items()} if isinstance(found, Mapping) else {}
