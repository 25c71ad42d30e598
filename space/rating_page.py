"""What happens on the rating page when something is clicked, and what the page may know.

Systems, gold items, repeats and the seeds of the sides stay with the server: `RatingPage` hands out captions, claims,
sounds under opaque names and sentences.
"""

from __future__ import annotations

import html
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read while gradio is imported

import gradio as gr

from lpmc_errors import AudioError, DiskError, LpmcError, UsageError
from space.rating_desk import Answer, Ending, ListeningClock, RatingDesk, Trial

TOAST_S = 15  # seconds that a message stays
NONE_WRONG = "none"  # the tick that says so; no claim is called like this, they are all "category: value"

ENDINGS: dict[Ending, str] = {
    "may claim": "## Thank you\n\nYou have finished this set. If you like, rate another one.",
    "wait": "## Thank you\n\nWhat is left is with other raters at the moment. Please come back tomorrow.",
    "nothing left": "## Thank you\n\nYou have rated everything that may be shown to you.",
    "complete": "## The study is complete\n\nThank you.",
}


class Session:
    """One open page, kept by the server alone. Handlers of one page may overlap, hence the lock.

    No dataclass: gradio would write the fields of one into the page.
    """

    def __init__(self) -> None:
        self.code = ""
        self.rater = ""
        self.lock = threading.RLock()
        self.show(None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        return Session()  # gradio copies the first value for each page, and a lock cannot be copied

    def show(self, trial: Trial | None) -> None:
        """Begin with a comparison: nothing heard yet."""
        self.trial = trial
        self.shown_at = time.monotonic()
        self.listening = ListeningClock(trial.clip_s if trial else 0.0)

    def unlocked(self) -> bool:
        """Has the clip been played for long enough?"""
        return self.trial is not None and self.listening.heard(time.monotonic()) >= self.trial.needed_s


class RatingPage:
    """What the page does when something is clicked; each method returns new values of components by their names."""

    def __init__(self, desk: RatingDesk, sounds: Path) -> None:
        self.desk = desk
        self.sounds = sounds

    def load(self, code: str | None, session: Session) -> dict[str, Any]:
        """The page was opened: go on where the rater of this browser was."""
        with session.lock:
            if code and self._enter(session, code):
                return self._where(session, self.desk.next(session.rater))
            session.show(None)
            return self._welcome()

    def start(self, familiarity: int | None, playback: str | None, session: Session) -> dict[str, Any]:
        """A new rater answers the two questions about himself and begins."""
        with session.lock:
            if familiarity is None or playback is None:
                raise UsageError(
                    "Two answers are missing", "how well you know music, and how you listen", "choose both"
                )
            self._enter(session, self.desk.register(familiarity, playback))
            return self._where(session, self.desk.claim(session.rater))

    def come_back(self, code: str, session: Session) -> dict[str, Any]:
        """A rater who was here before types his code."""
        with session.lock:
            if not self._enter(session, code):
                raise UsageError("This code", "is not known here", "check its letters, or start anew")
            return self._where(session, self.desk.claim(session.rater))

    def leave(self, session: Session) -> dict[str, Any]:
        """Somebody else sits down here."""
        with session.lock:
            session.code = session.rater = ""
            session.show(None)
            return self._welcome() | {"browser": ""}

    def more(self, code: str | None, session: Session) -> dict[str, Any]:
        """The rater takes another block."""
        with session.lock:
            if not session.rater and not (code and self._enter(session, code)):
                return self._welcome()
            return self._where(session, self.desk.claim(session.rater))

    def play(self, session: Session) -> dict[str, Any]:
        """The player started."""
        with session.lock:
            session.listening.play(time.monotonic())
            return self._answers(session)

    def pause(self, session: Session) -> dict[str, Any]:
        """The player stopped, or came to the end."""
        with session.lock:
            session.listening.pause(time.monotonic())
            return self._answers(session)

    def tick(self, session: Session) -> dict[str, Any]:
        """Time has passed while the clip plays."""
        with session.lock:
            return self._answers(session)

    def submit(
        self,
        code: str | None,
        correct: str | None,
        wrong: str | None,
        overall: str | None,
        claims_left: list[str] | None,
        claims_right: list[str] | None,
        session: Session,
    ) -> dict[str, Any]:
        """The rater's answers arrive: store them and show the next comparison."""
        with session.lock:
            if session.trial is None:  # a server that was started anew knows nothing of this page
                gr.Info("The connection was interrupted. Please listen to this clip once more.", duration=TOAST_S)
                return self.load(code, session)
            now = time.monotonic()
            answer = Answer(
                correct or "",
                wrong or "",
                overall or None,
                wrong_claims("A", claims_left),
                wrong_claims("B", claims_right),
            )
            stored = self.desk.rate(
                session.rater,
                session.trial,
                answer,
                listened_s=session.listening.heard(now),
                seconds=now - session.shown_at,
            )
            if stored is None:
                gr.Info("This comparison was rated already; here is the next one.", duration=TOAST_S)
            return self._where(session, self.desk.next(session.rater))

    def _enter(self, session: Session, code: str) -> bool:
        rater = self.desk.rater(code)
        if rater is None:
            return False
        session.code, session.rater = "".join(code.lower().split()), rater
        return True

    def _welcome(self) -> dict[str, Any]:
        complete = self.desk.complete()
        return {
            "welcome": gr.update(visible=not complete),
            "trial": gr.update(visible=False),
            "end": gr.update(visible=complete),
            "ending": ENDINGS["complete"],
            "more": gr.update(visible=False),
            "code": "",
            "leave": gr.update(visible=False),
            "audio": None,
            "timer": gr.update(active=False),
        }

    def _where(self, session: Session, found: Trial | Ending) -> dict[str, Any]:
        common = {
            "welcome": gr.update(visible=False),
            "browser": session.code,
            "code": f"Your code, to go on later or on another computer: **{session.code}**",
            "leave": gr.update(visible=True),
        }
        if not isinstance(found, Trial):
            session.show(None)
            return common | {
                "trial": gr.update(visible=False),
                "end": gr.update(visible=True),
                "ending": ENDINGS[found],
                "more": gr.update(visible=found == "may claim"),
                "audio": None,
                "timer": gr.update(active=False),
            }
        sound = self.sounds / found.file
        if not sound.is_file():
            raise AudioError(sound, "is missing since the server began", "put the study's folder back")
        session.show(found)
        shown = {
            "trial": gr.update(visible=True),
            "end": gr.update(visible=False),
            "progress": f"## Comparison {found.number} of {found.total}",
            "audio": str(sound),
            "caption_left": caption_block("A", found.captions[0]),
            "caption_right": caption_block("B", found.captions[1]),
        }
        shown |= self._answers(session)
        for name in ("correct", "wrong", "overall"):
            shown[name] = gr.update(value=None, interactive=False)
        for name, claims in zip(("claims_left", "claims_right"), found.claims, strict=True):
            choices = [(claim, claim) for claim in claims] + [("None of these is wrong", NONE_WRONG)]
            shown[name] = gr.update(choices=choices, value=[], visible=bool(claims), interactive=False)
        return common | shown

    def _answers(self, session: Session) -> dict[str, Any]:
        """The answers locked or not, and why."""
        if session.trial is None:
            return {"timer": gr.update(active=False)}
        open_now = session.unlocked()
        heard, needed = session.listening.heard(time.monotonic()), session.trial.needed_s
        if open_now:
            status = '<p role="status">You can answer now. Listen again as often as you like.</p>'
        else:
            status = f"<p>Please play the clip: {int(heard)} of {needed:g} seconds before you can answer.</p>"
        locked = {name: gr.update(interactive=open_now) for name in ANSWER_PARTS}
        return locked | {
            "status": status,
            "timer": gr.update(active=session.listening.since is not None and not open_now),
        }


ANSWER_PARTS = ("correct", "wrong", "overall", "claims_left", "claims_right", "submit")


def wrong_claims(name: str, ticks: list[str] | None) -> tuple[str, ...] | None:
    """The claims ticked as wrong; () when the rater says that none is, None when he skipped the question."""
    if not ticks:
        return None
    if NONE_WRONG in ticks:
        if len(ticks) > 1:
            raise UsageError(f"Caption {name}", "has wrong claims and none at once", "untick one or the other")
        return ()
    return tuple(ticks)


def caption_block(name: str, text: str) -> str:
    """A caption as HTML. What gradio's templates could take for code of theirs is written as entities as well."""
    safe = html.escape(text)
    for sign in "{}$`\\":
        safe = safe.replace(sign, f"&#{ord(sign)};")
    return f'<section class="caption" aria-label="Caption {name}"><h3>Caption {name}</h3><p>{safe}</p></section>'


def told(error: LpmcError) -> str:
    """What the rater reads of a fault. A fault of the server's disk goes to its log: its paths are not for the page."""
    if isinstance(error, DiskError | AudioError):
        print(f"lpmc: {error}", file=sys.stderr, flush=True)
        if isinstance(error, AudioError):
            return "The next clip is missing on the server. Please tell those who invited you, and come back later."
        return "Your answer could not be stored. Please try again, and tell those who invited you."
    return str(error)
