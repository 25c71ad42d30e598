"""The demo page: upload or record music, see its captions appear one ten-second window after the other.

    lpmc demo [--model DIR_OR_ID]            or, where this file lies alone as in a Space:
    LPMC_MODEL=DIR_OR_ID python app.py

Without a model it is lpmc_mini, which ships with the package.

`CaptionPage` does the work and knows nothing of the page; `build_app` lays the page out.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read while gradio is imported

import gradio as gr

from lpmc_errors import LpmcError, UsageError
from modeling_lpmc.audio import check_has_sound, load_audio
from modeling_lpmc.captioner import Captioner, CaptionSegment, caption_of_windows
from modeling_lpmc.descriptors import describe
from modeling_lpmc.shipped import model_of_page
from modeling_lpmc.track_captions import Window

MAX_MINUTES = 10  # of audio in one request; longer tracks are work for `lpmc caption`
MAX_FILE_SIZE = "100mb"  # 10 minutes of CD-quality stereo WAV
MAX_WAITING = 20  # requests in the queue; one runs at a time
WINDOWS_AT_ONCE = 2  # small, so that the first rows appear soon
KEEP_SECONDS = 3600  # uploads are deleted after this time
SWEEP_SECONDS = 600  # how often they are looked for
TOAST_SECONDS = 15

HEADERS = ["Start", "End", "Caption"]

INTRODUCTION = f"""
# Music captioning

Describes music in words: each ten seconds of a track, and the track as a whole, in the manner of
[LP-MusicCaps](https://arxiv.org/abs/2307.16372). Upload a file of up to {MAX_MINUTES} minutes, or record some music.
"""

DEMONSTRATION = """
**This is a small demonstration model, trained on synthetic music.** It shows how the software works. Do not rely on
what it says about your music.
"""

CLOSING = f"""
Captions are made by a machine and may be wrong, above all about voices, instruments and places of origin. Times are
minutes and seconds of your file; the last row reaches back so that it ends with the music. Choose a row to move the
player to its start. Uploads are deleted after {KEEP_SECONDS // 3600} hour.
"""

CSS = """
#notice { border-left: 4px solid var(--color-accent); padding: 0.6rem 1rem; border-radius: var(--radius-sm);
          background: var(--background-fill-secondary); }
#track-caption textarea { font-size: 1.15rem; line-height: 1.5; }
#segments * { font-family: var(--font) !important; font-variant-numeric: tabular-nums; }
#closing { opacity: 0.75; font-size: 0.9rem; }
footer .divider { display: none; }
"""


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss, with hundredths where there are any: 49.95 -> `0:49.95`, 3600 -> `1:00:00`."""
    whole, hundredths = divmod(round(seconds * 100), 100)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    return f"{text}.{hundredths:02}" if hundredths else text


def seconds(text: str) -> float:
    """The seconds that `clock` wrote."""
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total


def message_for_users(error: LpmcError) -> str:
    """The error in one line, with the file's name in place of its path on the server."""
    return f"{Path(error.item).name}: {error.problem}" + (f"; {error.remedy}" if error.remedy else "")


class CaptionPage:
    """What the page does with a file."""

    def __init__(self, captioner: Captioner) -> None:
        self.captioner = captioner

    def caption(self, audio: str | None) -> Iterator[tuple[list[list[str]], str, dict]]:
        """Describe music in words.

        Args:
            audio: a music file (WAV, FLAC, MP3, Ogg, Opus, AIFF, M4A) of half a second to ten minutes.

        Returns:
            A table with a row for each ten seconds (start, end, caption), a caption of the whole track, and a JSON file
            with the same and the times in seconds. The table grows row by row; the other two come last.
        """
        if not audio:
            raise gr.Error(
                "Choose a music file or record some music first.", duration=TOAST_SECONDS, print_exception=False
            )
        name = Path(audio).name
        segments: list[CaptionSegment] = []
        windows: list[Window] = []
        try:
            clip = load_audio(audio, self.captioner.sampling_rate, max_seconds=MAX_MINUTES * 60)
            check_has_sound(clip, name)
            for window in self.captioner.iter_windows(clip, batch_size=WINDOWS_AT_ONCE):
                windows.append(window)
                segments.append(CaptionSegment(window.start, window.end, window.text))
                yield table(segments), "", gr.update(value=None, interactive=False)
        except LpmcError as error:
            raise gr.Error(message_for_users(error), duration=TOAST_SECONDS, print_exception=False) from error
        result = caption_of_windows(name, clip.duration, windows, facts=describe(clip.samples, clip.sampling_rate))
        with TemporaryDirectory() as folder:  # gradio copies the file to its cache while the generator waits
            file = Path(folder, f"{Path(name).stem}.captions.json")
            file.write_text(json.dumps(result.to_dict(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
            yield table(segments), result.caption, gr.update(value=str(file), interactive=True)


def table(segments: list[CaptionSegment]) -> list[list[str]]:
    """Rows of the page's table."""
    return [[clock(segment.start), clock(segment.end), segment.text] for segment in segments]


def clear() -> tuple[list[list[str]], str, dict]:
    """Empty results: those of another file would stand beside the new one."""
    return [], "", gr.update(value=None, interactive=False)


def seek(event: gr.SelectData) -> dict:
    """Set the player to where the chosen row starts."""
    return gr.update(playback_position=seconds(event.row_value[0]))


def build_app(captioner: Captioner, name: str = "") -> gr.Blocks:
    """The page for `captioner`; `name` is shown as the name of its model."""
    page = CaptionPage(captioner)
    with gr.Blocks(
        title="Music captioning", analytics_enabled=False, delete_cache=(SWEEP_SECONDS, KEEP_SECONDS)
    ) as app:
        gr.Markdown(INTRODUCTION, elem_id="introduction")
        if captioner.demonstration:
            gr.Markdown(DEMONSTRATION, elem_id="notice")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                audio = gr.Audio(
                    sources=["upload", "microphone"],
                    type="filepath",
                    label="Music",
                    buttons=["download"],
                    elem_id="audio",
                    waveform_options=gr.WaveformOptions(waveform_color="#94a3b8", waveform_progress_color="#4f46e5"),
                )
                run = gr.Button("Caption", variant="primary", size="lg", elem_id="run")
            with gr.Column(scale=3, min_width=320):
                caption = gr.Textbox(
                    label="The track",
                    lines=3,
                    interactive=False,
                    buttons=["copy"],
                    placeholder="One caption for the whole track appears here.",
                    elem_id="track-caption",
                )
                segments = gr.Dataframe(
                    headers=HEADERS,
                    datatype="str",
                    column_widths=["24%", "24%", "52%"],
                    interactive=False,
                    wrap=True,
                    label="Ten seconds at a time",
                    elem_id="segments",
                )
                download = gr.DownloadButton("Download JSON", interactive=False, size="sm", elem_id="download")
        gr.Markdown(CLOSING + (f"\nModel: `{name}`" if name else ""), elem_id="closing")
        run.click(
            page.caption,
            inputs=audio,
            outputs=[segments, caption, download],
            api_name="caption",
            concurrency_limit=1,
            show_progress="minimal",
            show_progress_on=caption,
        )
        audio.input(
            clear, outputs=[segments, caption, download], show_progress="hidden", queue=False, api_visibility="private"
        )
        segments.select(seek, inputs=None, outputs=audio, show_progress="hidden", queue=False, api_visibility="private")
    app.queue(max_size=MAX_WAITING)
    return app


def launch(
    model: str | Path,
    port: int | None = None,
    open_browser: bool = False,
    share: bool = False,
    *,
    revision: str | None = None,
) -> None:
    """Serve the page for a model directory or Hub id until it is interrupted.

    It listens on 127.0.0.1 (or `GRADIO_SERVER_NAME`), at `port` or the first free one from 7860.
    Raises `ModelError` for the model, `UsageError` for a port that is taken.
    """
    captioner = Captioner.from_pretrained(model, revision=revision)
    app = build_app(captioner, Path(model).name if Path(model).is_dir() else str(model))
    try:
        app.launch(
            server_port=port,
            inbrowser=open_browser,
            share=share,
            ssr_mode=False,
            max_file_size=MAX_FILE_SIZE,
            footer_links=["api"],
            theme=gr.themes.Soft(
                primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
            ),
            css=CSS,
        )
    except OSError as error:
        if port is None:
            raise
        raise UsageError(f"port {port}", "cannot be listened on", "choose another with --port") from error


def main() -> None:
    """Start as a Space does: the model's name stands in the environment, or beside this file."""
    model = os.environ.get("LPMC_MODEL") or model_of_page(Path(__file__).parent)
    try:
        launch(model, revision=os.environ.get("LPMC_MODEL_REVISION") or None)
    except LpmcError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
