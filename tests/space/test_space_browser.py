"""The page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tone_model import CAPTIONS, write_track

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
PATIENCE = 60_000  # ms; a shared machine may be slow

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """A page that was opened, and what happened behind it."""

    def __init__(self, browser: object, url: str, width: int = 1280) -> None:
        context = browser.new_context(permissions=["microphone"], viewport={"width": width, "height": 900})
        self.page = context.new_page()
        self.errors: list[str] = []
        self.strangers: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._watch)
        self.page.goto(url, wait_until="domcontentloaded")
        self.page.wait_for_selector("#run", timeout=PATIENCE)

    def _watch(self, request: object) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.strangers.append(request.url)

    def upload(self, path: Path) -> None:
        self.page.set_input_files("#audio input[type=file]", str(path))

    def wait_for_waveform(self) -> None:
        self.page.wait_for_selector("#audio #waveform", timeout=PATIENCE)

    def caption(self) -> str:
        """Click, and wait until the caption of the track stands there."""
        self.page.click("#run")
        self.page.wait_for_function(
            "document.querySelector('#track-caption textarea').value.length > 0", timeout=PATIENCE
        )
        return self.page.input_value("#track-caption textarea")

    def rows(self) -> list[list[str]]:
        """The cells of the table as a reader sees them."""
        lines = [line.strip() for line in self.page.inner_text("#segments").splitlines() if line.strip()]
        cells = lines[lines.index("Caption") + 1 :]
        return [cells[first : first + 3] for first in range(0, len(cells), 3)]

    def toast(self) -> str:
        self.page.wait_for_selector("[data-testid=toast-body]", timeout=PATIENCE)
        return self.page.inner_text("[data-testid=toast-body]")


@pytest.fixture
def visit(browser, demo):
    made = Visit(browser, demo.url)
    yield made
    made.page.context.close()
    assert made.strangers == []
    assert made.errors == []


@pytest.mark.parametrize(
    ("number", "times"),
    [
        (0, [["0:00", "0:10"], ["0:10", "0:20"], ["0:20", "0:30"]]),
        (
            1,
            [
                ["0:00", "0:10"],
                ["0:10", "0:20"],
                ["0:20", "0:30"],
                ["0:30", "0:40"],
                ["0:40", "0:50"],
                ["0:49.95", "0:59.95"],
            ],
        ),
    ],
)
def test_a_real_recording_gets_a_row_for_each_ten_seconds_and_a_caption(visit, recordings, number, times):
    visit.upload(recordings[number])
    visit.wait_for_waveform()

    caption = visit.caption()

    assert [row[:2] for row in visit.rows()] == times
    assert all(text in CAPTIONS.values() for _, _, text in visit.rows())
    assert caption.startswith(tuple(text for _, _, text in visit.rows()))  # and perhaps what else is heard


def test_a_synthesised_track_is_described_as_what_it_is_and_can_be_downloaded(visit, tmp_path):
    visit.upload(write_track(tmp_path / "three parts.wav", [("noise", 10), ("low", 10), ("low", 4.5)], rate=44100))
    visit.wait_for_waveform()
    assert visit.page.is_disabled("#download")

    caption = visit.caption()

    assert visit.rows() == [
        ["0:00", "0:10", CAPTIONS["noise"]],
        ["0:10", "0:20", CAPTIONS["low"]],
        ["0:14.50", "0:24.50", CAPTIONS["low"]],
    ]
    assert caption.startswith(CAPTIONS["low"])
    with visit.page.expect_download(timeout=PATIENCE) as download:
        visit.page.click("#download")
    assert download.value.suggested_filename == "three parts.captions.json"
    saved = json.loads(Path(download.value.path()).read_text())
    assert saved["path"] == "three parts.wav"
    assert [part["end"] for part in saved["segments"]] == [10.0, 20.0, 24.5]


def test_choosing_a_row_moves_the_player_to_its_start(visit, tmp_path):
    visit.upload(write_track(tmp_path / "a.wav", [("noise", 10), ("low", 10), ("high", 8)]))
    visit.wait_for_waveform()
    visit.caption()

    visit.page.locator("#segments").get_by_text(CAPTIONS["high"]).locator("visible=true").first.click()

    visit.page.wait_for_function(
        "document.querySelector('#audio').innerText.trim().split(/\\s+/).includes('0:18')", timeout=PATIENCE
    )


def test_another_upload_empties_the_results_of_the_one_before(visit, tmp_path):
    visit.upload(write_track(tmp_path / "a.wav", [("low", 12)]))
    visit.wait_for_waveform()
    visit.caption()

    visit.page.click("#audio button[aria-label=Clear]")

    visit.page.wait_for_function(
        "document.querySelector('#track-caption textarea').value.length === 0", timeout=PATIENCE
    )
    assert visit.rows() == []
    assert visit.page.is_disabled("#download")


def test_a_recording_from_the_microphone_is_captioned(visit):
    page = visit.page
    page.click('#audio button[aria-label="Record audio"]')
    page.get_by_role("button", name="Record", exact=True).click(timeout=PATIENCE)
    page.wait_for_timeout(2500)
    page.get_by_role("button", name="Stop", exact=True).click(timeout=PATIENCE)
    visit.wait_for_waveform()

    caption = visit.caption()

    ((start, end, text),) = visit.rows()
    assert start == "0:00"
    assert end.startswith(("0:01", "0:02", "0:03"))
    assert text == caption


def test_a_file_that_is_no_music_raises_a_toast_with_the_reason(browser, demo, tmp_path):
    visit = Visit(browser, demo.url)  # the browser itself may complain that it cannot draw this file
    (tmp_path / "notes.wav").write_text("these are notes, not music")
    visit.upload(tmp_path / "notes.wav")
    visit.page.wait_for_timeout(500)

    visit.page.click("#run")

    toast = visit.toast()
    assert "notes.wav: is not an audio file that can be read" in toast
    assert "/" not in toast.replace("notes.wav", "")
    assert visit.rows() == []
    assert visit.strangers == []
    visit.page.context.close()


def test_a_click_without_music_says_what_to_do(visit):
    visit.page.click("#run")

    assert "Choose a music file or record some music first." in visit.toast()


def test_a_demonstration_model_says_so_on_the_page(visit):
    assert "small demonstration model, trained on synthetic music" in visit.page.inner_text("#notice")
    assert "tones" in visit.page.inner_text("#closing")


def test_the_page_fits_a_phone(browser, demo, tmp_path):
    visit = Visit(browser, demo.url, width=390)
    visit.upload(write_track(tmp_path / "a.wav", [("low", 12.345)]))
    visit.wait_for_waveform()
    visit.caption()

    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    visit.page.context.close()
