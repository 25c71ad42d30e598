"""The four instructions of the paper, in named wordings, and the prompt of a track.

- `released`: what the authors' generator sent, byte for byte (code of arXiv 2307.16372; the paper's and the README's
  texts differ from it in places). One user message, no system message: `{instruction} \\n {tags joined by ", "}`.
- `small`: for local models of 0.1 to 3 B parameters. With the released wording alone such a model invents titles and
  loops; a system message and three worked examples keep it near the tags.

Only tags enter a prompt; never a title, an artist or an album.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

INSTRUCTIONS = ("writing", "summary", "paraphrase", "attribute_prediction")

RELEASED_PLURAL = {
    "writing": "write a song description sentence including the following attributes.",
    "summary": "write a single sentence that summarize a song with the following attributes."
    " Don't write artist name or album name.",
    "paraphrase": "write a song description sentence including the following attributes."
    " creative paraphrasing is acceptable.",
    "attribute_prediction": "write the answer as a python dictionary with new_attribute and description as keys."
    " for new_attribute, write new attributes with high co-occurrence with the following attributes."
    " for description, write a song description sentence including the following attributes and new attributes.",
}
RELEASED_SINGULAR = {
    "writing": "write a song description sentence including the following single attribute.",
    "summary": "write a single sentence that summarize a song with the following single attribute."
    " Don't write artist name or album name.",
    "paraphrase": "write a song description sentence including the following single attribute."
    " creative paraphrasing is acceptable.",
    "attribute_prediction": "write the answer as a python dictionary with new_attribute and description as keys."
    " for new_attribute, write new attributes with high co-occurrence with the following single attribute."
    " for description, write a song description sentence including the single attribute and new attribute.",
}

SMALL_SYSTEM = {
    "writing": "You describe music. Write one sentence that names every attribute of the list."
    " Add no instrument, no style and no name that is not in the list.",
    "summary": "You describe music. Sum the list up in one short sentence."
    " Add no instrument, no style and no name that is not in the list.",
    "paraphrase": "You describe music. Say the attributes of the list in other words, in one sentence."
    " Add no instrument, no style and no name that is not in the list.",
    "attribute_prediction": "You describe music. Answer with a dictionary that has the keys new_attribute and"
    " description. new_attribute lists two further attributes that often occur with those of the list;"
    " description is one sentence with all of them.",
}
# Three worked examples an instruction, the longest last: a small model imitates the one it read most recently, and
# with a one-tag example there it drops most of the list (seen with SmolLM2-135M). They name no artist.
_EXAMPLE_TAGS = (
    ("accordion",),
    ("techno", "synthesizer", "energetic"),
    ("blues", "harmonica", "slow tempo", "melancholic", "male vocal", "acoustic guitar", "e minor", "12/8 time"),
)
_EXAMPLE_ANSWERS = {
    "writing": (
        "The recording features an accordion.",
        "This is an energetic techno track led by a synthesizer.",
        "This is a slow tempo blues song in e minor and 12/8 time, with a melancholic male vocal, harmonica and"
        " acoustic guitar.",
    ),
    "summary": (
        "A piece for accordion.",
        "Energetic techno with synthesizer.",
        "A melancholic slow tempo blues in e minor and 12/8 time for male vocal, harmonica and acoustic guitar.",
    ),
    "paraphrase": (
        "An accordion carries the tune.",
        "Driven by a synthesizer, this techno track is energetic throughout.",
        "With harmonica and acoustic guitar behind it, a melancholic male vocal sings the blues at a slow tempo, in"
        " e minor and 12/8 time.",
    ),
    "attribute_prediction": (
        '{"new_attribute": ["folk"], "description": "A folk tune with an accordion."}',
        '{"new_attribute": ["repetitive", "danceable"], "description": "An energetic, danceable techno track with'
        ' repetitive synthesizer lines."}',
        '{"new_attribute": ["soulful", "sparse"], "description": "A soulful, sparse blues at a slow tempo in e minor'
        ' and 12/8 time, where a melancholic male vocal sings over harmonica and acoustic guitar."}',
    ),
}


@dataclass(frozen=True)
class Message:
    """One chat message; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt. The first `shared` messages are equal for every track (local models cache them)."""

    messages: tuple[Message, ...]
    wording: str
    wording_version: str
    shared: int = 0


def released_text(instruction: str, tags: Sequence[str]) -> str:
    """The user message that the released generator sent for `tags` (one or more), byte for byte."""
    wording = RELEASED_SINGULAR if len(tags) == 1 else RELEASED_PLURAL
    return f"{wording[instruction]} \n {', '.join(tags)}"


def _small_user(tags: Sequence[str]) -> str:
    return f"attributes: {', '.join(tags)}"


def _small_head(instruction: str) -> tuple[Message, ...]:
    head = [Message("system", SMALL_SYSTEM[instruction])]
    for tags, answer in zip(_EXAMPLE_TAGS, _EXAMPLE_ANSWERS[instruction], strict=True):
        head += [Message("user", _small_user(tags)), Message("assistant", answer)]
    return tuple(head)


def _version(texts: object) -> str:
    return hashlib.sha256(json.dumps(texts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]


WORDINGS = {
    "released": _version([RELEASED_PLURAL, RELEASED_SINGULAR]),
    "small": _version([SMALL_SYSTEM, _EXAMPLE_TAGS, _EXAMPLE_ANSWERS]),
}
"""Name -> version (a hash of every text of the wording, so that a changed word is a changed version)."""


def render_prompt(instruction: str, tags: Sequence[str], wording: str = "released") -> Prompt:
    """The prompt of one track for one instruction.

    `tags` holds at least one tag; the singular texts serve exactly one. Raises `KeyError` for an unknown instruction
    or wording and `ValueError` without tags: the paper sends no request for a track that has none.
    """
    if not tags:
        raise ValueError("a prompt needs at least one tag")
    version = WORDINGS[wording]
    if wording == "small":
        head = _small_head(instruction)
        return Prompt((*head, Message("user", _small_user(tags))), wording, version, shared=len(head))
    return Prompt((Message("user", released_text(instruction, tags)),), wording, version)


def template_caption(tags: Sequence[str]) -> str:
    """The paper's template baseline (Table 2): `the music is characterized by {tags}`, in the corpus's tag order.

    The released code shuffles the tags without a seed; here the order is kept, so that a run can be repeated.
    """
    return f"the music is characterized by {', '.join(tags)}"


def tag_concat_caption(tags: Sequence[str]) -> str:
    """The paper's tag-concatenation baseline (Table 2): the tags joined by `, `."""
    return ", ".join(tags)
