"""The page of the metric's Space: captions and references in, the score card out. There it is called `app.py`.

It takes the module that lies beside it, as `evaluate` takes it for everybody else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read while gradio is imported

import evaluate
import gradio as gr

MODULE = "caption_metrics.py"
BETWEEN_REFERENCES = "|"
MOST_CAPTIONS = 500  # of one request; larger files are work for `evaluate` on a machine of one's own
MOST_WAITING = 20  # requests in the queue; one runs at a time
EXAMPLE = (
    "A slow jazz piece with a saxophone.\nFast electronic drums.",
    "A saxophone plays slow jazz. | Relaxed jazz.\nAn energetic electronic track with drums and a synth bass.",
)
LOWER_IS_BETTER = ("facts_hallucination_rate",)
HEADERS = ["score", "value", "best blind caption", "how it is computed"]
INTRODUCTION = f"""
# Music caption metrics

Scores captions of music as [LP-MusicCaps](https://arxiv.org/abs/2307.16372) does, and shows beside each score what the
best of some captions gets that were made without hearing the music. One caption a line; several references of a
clip stand in one line with `{BETWEEN_REFERENCES}` between them.
"""

metric = evaluate.load(str(Path(__file__).with_name(MODULE)))


def score_captions(predictions: str, references: str) -> tuple[list[list[Any]], dict[str, Any]]:
    """Score captions against their references, one clip a line.

    Returns the rows of the table (score, value, best blind value, signature) and the whole card as JSON.
    """
    said = predictions.rstrip("\n").split("\n")
    meant = [line.split(BETWEEN_REFERENCES) for line in references.rstrip("\n").split("\n")]
    if len(said) > MOST_CAPTIONS:
        raise gr.Error(f"{len(said)} captions: at most {MOST_CAPTIONS} are scored here")
    try:
        card = metric.compute(predictions=said, references=meant)
    except Exception as error:  # whatever is wrong with the texts is said in one line
        raise gr.Error(" ".join(str(error).split())) from error
    return [_row(name, card) for name, value in card.items() if _is_score(value) and name != "n"], card


def _row(name: str, card: dict[str, Any]) -> list[Any]:
    blind = [row[name] for row in card["blind"].values() if _is_score(row.get(name))]
    best = f"{(min if name in LOWER_IS_BETTER else max)(blind):.4g}" if blind else ""
    return [name, f"{card[name]:.4g}", best, card["signature"].get(name, "")]


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def build_page() -> gr.Blocks:
    """The page, ready to launch."""
    with gr.Blocks(title="Music caption metrics") as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            said = gr.Textbox(EXAMPLE[0], label="Captions, one a line", lines=8, elem_id="predictions")
            meant = gr.Textbox(EXAMPLE[1], label="References, one clip a line", lines=8, elem_id="references")
        button = gr.Button("Score", variant="primary", elem_id="score")
        table = gr.Dataframe(headers=HEADERS, interactive=False, wrap=True, elem_id="scores")
        card = gr.JSON(label="The whole card", open=False, elem_id="card")
        button.click(score_captions, [said, meant], [table, card], api_name="score")
    return page


if __name__ == "__main__":
    build_page().queue(max_size=MOST_WAITING, default_concurrency_limit=1).launch()
