"""The rating page: people listen to a clip, compare two captions, and do not learn where either comes from.

    lpmc ratings serve STUDY             or, in a Space that holds a study:
    LPMC_STUDY=STUDY python -m space.rating

The page knows captions, sounds under opaque names, and nothing else: systems, gold items and repeats stay with the
server. The answers unlock when the clip has been played for long enough by the server's clock, and the server looks
again when they arrive.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read while gradio is imported

import gradio as gr

from lpmc_errors import LpmcError, UsageError
from space.rating_desk import FAMILIARITY, RatingDesk
from space.rating_page import ANSWER_PARTS, TOAST_S, RatingPage, Session, told
from space.rating_store import RatingStore
from space.rating_study import AUDIO_FOLDER, STORE_FOLDER, STUDY_FILE, load_study

TICK_S = 0.5  # seconds between two looks at the clock while a clip plays
BROWSER_KEY = "listening"  # hides nothing (the page holds it); one that is drawn at each start would lose the rater
LARGEST_UPLOAD = "1kb"  # the page takes no files; gradio's address for them stays open

INTRODUCTION = """
# Which caption fits the music better?

You will listen to short clips and read two captions of each, A and B. Answer from what you hear: **which caption says
more that is right, and which says less that is wrong?** A tie is a fair answer. How well a caption is written does not
matter.

You need headphones or good loudspeakers and about a minute a clip. **What is stored:** your answers, how long you
listened, and a random number in place of your name; no name, no address. The answers may be published.
"""

TRIAL_RUN = "**SIMULATED: a trial run. Every answer is stored as simulated and counts for nothing.**"

CHOICES = [("Caption A", "left"), ("Caption B", "right"), ("A tie", "tie")]
LISTENING = [("Headphones", "headphones"), ("Loudspeakers", "loudspeakers"), ("Built in (phone, laptop)", "built-in")]

CSS = """
.caption { border: 1px solid var(--border-color-primary); border-radius: var(--radius-md); padding: 0.4rem 1rem; }
.caption p { font-size: 1.1rem; line-height: 1.5; overflow-wrap: anywhere; }
#status p { font-weight: 600; }
#code { opacity: 0.8; font-size: 0.9rem; }
"""

# A new comparison begins at the top, for the eyes as for a screen reader; a message moves nothing. Gradio names its
# groups of choices for the eyes alone.
AFTERWARDS = """() => {
    for (const group of document.querySelectorAll('fieldset')) {
        const name = group.querySelector('[data-testid=block-info]');
        if (name) group.setAttribute('aria-label', name.innerText);
    }
    const top = document.querySelector('#progress');
    if (!top || top.innerText === window.shownBefore) return;
    window.shownBefore = top.innerText;
    top.setAttribute('tabindex', '-1'); top.focus(); window.scrollTo(0, 0);
}"""


def build_app(page: RatingPage) -> gr.Blocks:
    """Lay the page out and connect it."""
    settings = page.desk.study.settings
    parts: dict[str, Any] = {}
    with gr.Blocks(title="Listening study", analytics_enabled=False) as app:
        session = gr.State(Session())
        parts["browser"] = gr.BrowserState("", storage_key=f"listening-{page.desk.study.study}", secret=BROWSER_KEY)
        parts["timer"] = gr.Timer(TICK_S, active=False)
        if page.desk.simulated:
            gr.Markdown(TRIAL_RUN, elem_id="trial-run")
        with gr.Column(visible=False, elem_id="welcome") as parts["welcome"]:
            gr.Markdown(INTRODUCTION)
            familiarity = gr.Radio(
                list(FAMILIARITY),
                label="How familiar are you with describing music (instruments, genres, keys)?",
                info="0: not at all, 5: it is my profession",
                elem_id="familiarity",
            )
            playback = gr.Radio(LISTENING, label="What do you listen with?", elem_id="playback")
            start = gr.Button("Start", variant="primary", elem_id="start")
            with gr.Row():
                typed = gr.Textbox(label="Were you here before? Your code", max_lines=1, elem_id="typed-code")
                back = gr.Button("Go on", elem_id="come-back")
        with gr.Column(visible=False, elem_id="trial") as parts["trial"]:
            parts["progress"] = gr.Markdown(elem_id="progress")
            parts["audio"] = gr.Audio(label="The clip", type="filepath", interactive=False, buttons=[], elem_id="audio")
            parts["status"] = gr.HTML(elem_id="status")
            with gr.Row(equal_height=True):
                parts["caption_left"] = gr.HTML(elem_id="caption-a")
                parts["caption_right"] = gr.HTML(elem_id="caption-b")
            parts["correct"] = gr.Radio(
                CHOICES,
                label="1. Which caption has more correct attributes?",
                interactive=False,
                elem_id="more-correct",
            )
            parts["wrong"] = gr.Radio(
                CHOICES, label="2. Which caption is less wrong?", interactive=False, elem_id="less-wrong"
            )
            parts["overall"] = gr.Radio(
                CHOICES,
                label="3. Which caption is better overall? (you may skip this)",
                interactive=False,
                visible=settings.overall,
                elem_id="overall",
            )
            with gr.Row():
                for side, name in (("left", "A"), ("right", "B")):
                    parts[f"claims_{side}"] = gr.CheckboxGroup(
                        label=f"Which claims of caption {name} are wrong? (you may skip this)",
                        interactive=False,
                        visible=settings.claims,
                        elem_id=f"claims-{name.lower()}",
                    )
            parts["submit"] = gr.Button("Next", variant="primary", interactive=False, elem_id="next")
        with gr.Column(visible=False, elem_id="end") as parts["end"]:
            parts["ending"] = gr.Markdown(elem_id="ending")
            parts["more"] = gr.Button("Rate another set", variant="primary", visible=False, elem_id="more")
        with gr.Row():
            parts["code"] = gr.Markdown(elem_id="code")
            parts["leave"] = gr.Button("I am somebody else", size="sm", visible=False, elem_id="leave")

        def connect(event: Any, method: Any, inputs: list[Any], outputs: list[Any]) -> Any:
            def answer(*values: Any) -> dict[Any, Any]:
                try:
                    changed = method(*values)
                except LpmcError as error:
                    gr.Warning(told(error), duration=TOAST_S)  # gr.Error would write "Error" over every part
                    return {outputs[0]: gr.skip()}
                return {parts[name]: value for name, value in changed.items() if parts[name] in outputs}

            return event(
                answer,
                [*inputs, session],
                outputs,
                api_visibility="private",
                concurrency_limit=None,
                show_progress="hidden",
            )

        everything = list(parts.values())
        answers = [parts[name] for name in (*ANSWER_PARTS, "status", "timer")]
        given = [parts[name] for name in ("browser", *ANSWER_PARTS[:-1])]
        connect(app.load, page.load, [parts["browser"]], everything).then(None, js=AFTERWARDS)
        for event, method, inputs in (
            (start.click, page.start, [familiarity, playback]),
            (back.click, page.come_back, [typed]),
            (typed.submit, page.come_back, [typed]),
            (parts["leave"].click, page.leave, []),
            (parts["more"].click, page.more, [parts["browser"]]),
            (parts["submit"].click, page.submit, given),
        ):
            connect(event, method, inputs, everything).then(None, js=AFTERWARDS)
        connect(parts["audio"].play, page.play, [], answers)
        connect(parts["audio"].pause, page.pause, [], answers)
        connect(parts["audio"].stop, page.pause, [], answers)
        connect(parts["timer"].tick, page.tick, [], answers)
    return app


def serve(
    study: Path,
    *,
    store: Path | None = None,
    port: int | None = None,
    share: bool = False,
    simulated: bool = False,
) -> None:
    """Serve the page of the study in folder `study` until it is ended; ratings go to `store`, else into the study.

    `simulated`: for a trial with programs or colleagues in place of raters; page and ratings say that nothing counts.

    It listens on 127.0.0.1 (or `GRADIO_SERVER_NAME`), at `port` or the first free one from 7860. Several servers may
    share a study and its store. Raises `TableError` for the study, `DiskError`, `UsageError` for a port that is taken
    or a store that holds something else.
    """
    design = load_study(study)
    store = store or study / STORE_FOLDER
    desk = RatingDesk(design, RatingStore(store), simulated=simulated)
    sounds = (study / AUDIO_FOLDER).resolve()
    try:
        build_app(RatingPage(desk, sounds)).launch(
            server_port=port,
            share=share,
            ssr_mode=False,
            max_file_size=LARGEST_UPLOAD,
            allowed_paths=[str(sounds)],  # nothing else of the study: study.json is the key to it
            blocked_paths=[str(path.resolve()) for path in (study / STUDY_FILE, study / STORE_FOLDER, store)],
            enable_monitoring=False,
            footer_links=[],
            theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
            css=CSS,
        )
    except (OSError, OverflowError) as error:
        if port is None:
            raise
        raise UsageError(f"port {port}", "cannot be listened on", "choose another with --port") from error


def main() -> None:
    """Start as a Space does: the study stands in the environment."""
    study = os.environ.get("LPMC_STUDY")
    try:
        if not study:
            raise UsageError("LPMC_STUDY", "is not set", "set it to a folder that `lpmc ratings prepare` has written")
        serve(Path(study))
    except LpmcError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
