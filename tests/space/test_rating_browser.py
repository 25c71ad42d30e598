"""The rating page in a real browser, served by `lpmc ratings serve`: locked, blind, resumed, by two raters at once."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import free_port
from rating_material import TEXTS, RatingServer, read_lines, write_inputs
from test_space_browser import CHROMIUM, FLAGS, PATIENCE

from space.rating_desk import Answer, RatingDesk, Trial
from space.rating_prepare import prepare_study
from space.rating_store import RatingStore
from space.rating_study import Settings, Study

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"),
]

MIN_LISTEN_S = 0.6
SECRETS = (  # what neither a page nor anything it receives may hold
    "ours", "human", "mismatched", "blind-constant", "constant", "gold", "duplicate", "whale", "clip-", "order_seed",
    "study.json", "real",
)  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, Study]:
    folder = tmp_path_factory.mktemp("rating")
    write_inputs(folder / "given", 14)
    settings = Settings(block_size=2, raters_per_unit=2, min_listen_s=MIN_LISTEN_S, constant_share=0.1)
    design = prepare_study(
        folder / "given/items.jsonl", [str(folder / "given/ours.jsonl")], folder / "listen", settings=settings
    )
    return folder / "listen", design


@pytest.fixture(scope="module")
def server(study, tmp_path_factory) -> Iterator[RatingServer]:
    server = RatingServer(study[0], free_port(), tmp_path_factory.mktemp("server"))
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


# Answers to events come as streams, which playwright cannot read while they run: the page itself keeps what it reads.
KEEP = """
    window.kept = [];
    const fetched = window.fetch;
    window.fetch = async (...given) => {
        const response = await fetched(...given);
        const reader = response.clone().body?.getReader();
        const place = window.kept.push('') - 1, decoder = new TextDecoder();
        const read = async () => {
            for (;;) {
                const {done, value} = await reader.read();
                if (done) return;
                window.kept[place] += decoder.decode(value, {stream: true});
            }
        };
        if (reader) read().catch(() => {});
        return response;
    };
    window.EventSource = class extends window.EventSource {
        constructor(...given) {
            super(...given);
            this.addEventListener('message', (event) => window.kept.push(event.data));
        }
    };
"""


class Rater:
    """A person at a browser of his own, and everything that this browser received."""

    def __init__(self, browser: object, url: str, width: int = 1280) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.page = self.context.new_page()
        self.page.add_init_script(KEEP)
        self.page.set_default_timeout(PATIENCE)
        self.errors: list[str] = []
        self.strangers: list[str] = []
        self.received: list[tuple[str, str]] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._watch)
        self.page.on("response", self._keep)
        self.page.goto(url, wait_until="domcontentloaded")

    def _watch(self, request: object) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.strangers.append(request.url)

    def _keep(self, response: object) -> None:
        """The page itself, and the names of all that is fetched; gradio's own files aside."""
        if "/static/" not in response.url and "/assets/" not in response.url:
            page = response.headers.get("content-type", "").startswith("text/html")
            self.received.append((urllib.parse.unquote(response.url), response.text() if page else ""))

    def begin(self) -> None:
        self.page.get_by_label("4", exact=True).check()
        self.page.get_by_label("Headphones").check()
        self.page.click("#start")
        self.wait_for(1)

    def wait_for(self, number: int) -> None:
        self.page.wait_for_function(
            f"document.querySelector('#progress')?.innerText.includes('Comparison {number} of')"
        )
        self.page.wait_for_selector("#audio #waveform")

    def where(self) -> str:
        return self.page.inner_text("#progress h2").strip()  # beside it gradio says for a moment that it works

    def captions(self) -> list[str]:
        return [self.page.inner_text(f"#caption-{side} p") for side in "ab"]

    def listen(self) -> None:
        heard, playing = "#next:not([disabled])", "#audio button[aria-label=Pause]"
        for _ in range(5):  # a click before the player has its file does nothing
            self.page.locator("#audio button[aria-label=Play]").click()
            with contextlib.suppress(playwright_api.TimeoutError):
                self.page.wait_for_selector(f"{heard}, {playing}", timeout=10_000)
                break
        self.page.wait_for_selector(heard)

    def answer(self, correct: str, wrong: str) -> None:
        self.page.locator("#more-correct").get_by_label(correct, exact=True).check()
        self.page.locator("#less-wrong").get_by_label(wrong, exact=True).check()

    def next(self) -> None:
        self.page.click("#next")


@pytest.fixture
def seat(browser, server):
    """Seat raters; when they leave, nothing strange may have happened in their browsers."""
    raters: list[Rater] = []

    def sit(width: int = 1280) -> Rater:
        raters.append(Rater(browser, server.url, width))
        return raters[-1]

    yield sit
    for rater in raters:
        rater.context.close()
        assert rater.errors == []
        assert rater.strangers == []


def ratings(study: tuple[Path, Study]) -> list[dict]:
    return read_lines(study[0] / "ratings" / "ratings.jsonl")


def test_a_rater_listens_answers_and_comes_to_the_end_and_learns_nothing(seat, study):
    before = len(ratings(study))
    rater = seat()
    rater.begin()
    shown = []
    for number in range(1, 5):  # two comparisons, a gold item, a repeat
        rater.wait_for(number)
        assert rater.where() == f"Comparison {number} of 4"
        for part in ("#next", "#more-correct input", "#less-wrong input", "#overall input", "#claims-a input"):
            assert rater.page.locator(part).first.is_disabled(), part
        shown.append(rater.captions())
        rater.listen()
        assert "You can answer now" in rater.page.inner_text("#status")
        rater.answer("Caption A", "A tie")
        if number == 1:
            rater.page.locator("#overall").get_by_label("Caption B", exact=True).check()
            rater.page.locator("#claims-a input").first.check()
            rater.page.locator("#claims-b").get_by_label("None of these is wrong").check()
        rater.next()
    rater.page.wait_for_selector("#more")
    assert "You have finished this set" in rater.page.inner_text("#ending")

    records = ratings(study)[before:]
    assert len(records) == 4
    assert sorted(record["kind"] for record in records) == ["duplicate", "gold", "real", "real"]
    assert len({record["rater"] for record in records}) == 1
    design = study[1]
    for record, captions in zip(records, shown, strict=True):
        left, right = record["pair"]
        assert captions == [design.captions[left][record["item"]], design.captions[right][record["item"]]]
        assert record["answers"] == {
            "more_correct": "left", "less_wrong": "tie", "overall": "right" if record is records[0] else None
        }  # fmt: skip
        assert MIN_LISTEN_S <= record["listened_s"] <= record["seconds"]
        assert record["simulated"] is False
    first = records[0]
    assert first["wrong_claims"] == {"left": first["claims"]["left"][:1], "right": []}
    assert records[1]["wrong_claims"] == {"left": None, "right": None}
    assert any(TEXTS[0] in text for captions in shown for text in captions)  # as it stands, no markup of it

    kept = rater.page.evaluate("window.kept")
    assert all(any(record["audio"] in text for text in kept) for record in records)  # nothing escapes the watch
    texts = [*(text for _, text in rater.received), *kept, rater.page.content()]
    assert any("gradio_config" in text for text in texts)
    for word in SECRETS:
        for url, text in rater.received:
            assert word not in url.lower(), (word, url)
        for text in texts:
            bare = text.lower().replace("really", "")
            assert word not in bare, (word, bare[max(0, bare.find(word) - 200) : bare.find(word) + 200])
    slots = re.compile(rf"\b({'|'.join(design.slots)})\b")
    assert not any(slots.search(text) for text in texts)
    sounds = [url for url, _ in rater.received if "/file=" in url]
    assert {Path(url).name for url in sounds} == {record["audio"] for record in records}


def test_two_raters_at_once_resume_after_a_reload_and_after_the_server_began_anew(seat, study, server):
    before = len(ratings(study))
    one, other = seat(), seat(width=390)
    one.begin()
    other.begin()
    assert other.page.evaluate("document.documentElement.scrollWidth") <= 390  # a phone
    for rater in (one, other):
        rater.page.locator("#audio button[aria-label=Play]").click()
    for rater in (one, other):
        rater.page.wait_for_selector("#next:not([disabled])")
        rater.answer("A tie", "Caption B")
        rater.next()
    for rater in (one, other):
        rater.wait_for(2)
    second = one.captions()

    one.page.reload(wait_until="domcontentloaded")
    one.wait_for(2)
    assert one.captions() == second
    assert one.page.is_disabled("#next")  # listening begins anew

    server.stop()
    server.start()
    server.wait()
    one.page.reload(wait_until="domcontentloaded")
    one.wait_for(2)
    assert one.captions() == second
    one.listen()
    one.answer("Caption A", "Caption A")
    one.next()
    one.wait_for(3)

    code = other.page.inner_text("#code strong")
    one.page.click("#leave")
    one.page.get_by_label("Your code").fill(code.upper())
    one.page.click("#come-back")
    one.wait_for(2)
    assert one.captions() == other.captions()

    records = ratings(study)[before:]
    assert len(records) == 3
    assert len({record["rater"] for record in records}) == 2
    assert len({record["slot"] for record in records}) == 3
    claims = {claim["rater"]: claim["block"] for claim in read_lines(study[0] / "ratings" / "claims.jsonl")}
    assert len({claims[record["rater"]] for record in records}) == 2


def test_the_keyboard_is_enough_and_a_button_unlocked_by_force_is_refused_by_the_server(seat, study):
    before = len(ratings(study))
    rater = seat()
    press = rater.page.keyboard.press

    def tab_to(inside: str) -> None:
        for _ in range(40):
            press("Tab")
            if rater.page.evaluate(f"document.activeElement.matches({json.dumps(inside)})"):
                return
        raise AssertionError(f"{inside} is not reached with the Tab key")

    rater.page.wait_for_selector("#start")
    tab_to("#familiarity input")
    press("Space")
    tab_to("#playback input")
    press("Space")
    tab_to("#start")
    press("Enter")
    rater.wait_for(1)
    rater.page.wait_for_function("document.activeElement.id === 'progress'")  # where a screen reader goes on
    assert rater.page.get_by_role("group", name="1. Which caption has more correct attributes?").count() == 1
    force = "() => { const b = document.querySelector('#next'); b.disabled = false; b.click(); b.disabled = true; }"
    rater.page.evaluate(force)
    rater.page.wait_for_function("document.body.innerText.includes('was played for 0.0 s')")
    tab_to("#audio button[aria-label=Play]")
    press("Space")
    rater.page.wait_for_selector("#next:not([disabled])")
    tab_to("#next")
    press("Enter")
    rater.page.wait_for_function("document.body.innerText.includes('Question 1: has no answer')")
    assert rater.where() == "Comparison 1 of 4"
    assert len(ratings(study)) == before
    rater.page.locator("#progress").focus()
    tab_to("#more-correct input[value=right]")
    press("Space")
    tab_to("#less-wrong input[value=left]")
    press("Space")
    tab_to("#next")
    press("Enter")
    rater.wait_for(2)

    (record,) = ratings(study)[before:]
    assert record["answers"] == {"more_correct": "right", "less_wrong": "left", "overall": None}


def test_the_server_gives_out_sounds_and_nothing_else_of_the_study(server, study):
    folder = study[0].resolve()

    def status(path: Path) -> int:
        try:
            return urllib.request.urlopen(f"{server.url}/gradio_api/file={path}", timeout=20).status
        except urllib.error.HTTPError as error:
            return error.code

    assert status(next((folder / "audio").iterdir())) == 200
    for secret in ("study.json", "ratings/ratings.jsonl", "ratings/raters.jsonl", "audio/../study.json"):
        assert status(folder / secret) in (403, 404), secret


def test_a_full_study_thanks_whoever_comes(seat, study):
    desk = RatingDesk(study[1], RatingStore(study[0] / "ratings"), clock=lambda: 4e9)  # no block is held any more
    for _ in range(100):  # others finish the study beside the server, as a second server would
        if desk.complete():
            break
        rater = desk.rater(desk.register(3, "headphones"))
        while isinstance(trial := desk.claim(rater), Trial):
            desk.rate(rater, trial, Answer("tie", "tie"), listened_s=9.0, seconds=9.0)
    late = seat()

    late.page.wait_for_selector("#ending h2")
    assert "The study is complete" in late.page.inner_text("#ending")
    assert not late.page.is_visible("#start")
    assert desk.complete()
    real = [record["slot"] for record in ratings(study) if record["kind"] == "real"]
    assert sorted(real) == sorted(study[1].real_slots)
