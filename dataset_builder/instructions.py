"""The four instructions of the paper, in named wordings, and the prompt of a track.

- `released`: what the authors' generator sent, byte for byte.
- `grounded`: for capable models. Only the listed attributes, no names, no stock openers; attribute_prediction answers
  as a JSON object with a schema.
- `small`: for local models of 0.1 to 3 B parameters, with worked examples.
- a YAML file of your own: see `dataset_builder/wordings/user_file.py`.

Only tags enter a prompt; never a title, an artist or an album.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dataset_builder.wordings.grounded import GROUNDED
from dataset_builder.wordings.prompts import INSTRUCTIONS, Message, Prompt, Wording, texts_version
from dataset_builder.wordings.released import RELEASED, RELEASED_PLURAL, RELEASED_SINGULAR
from dataset_builder.wordings.small import SMALL, SMALL_SYSTEM
from lpmc_errors import UsageError

__all__ = [
    "INSTRUCTIONS",
    "RELEASED_PLURAL",
    "RELEASED_SINGULAR",
    "SMALL_SYSTEM",
    "WORDINGS",
    "Message",
    "Prompt",
    "Wording",
    "find_wording",
    "k2c_prompt",
    "released_text",
    "render_prompt",
    "tag_concat_caption",
    "template_caption",
]

_BUILT_IN = {wording.name: wording for wording in (RELEASED, GROUNDED, SMALL)}
_BASELINE_NAMES = ("grammar", "k2c", "tag-concat", "template")  # the `wording` of captions that no prompt asked for
_FILE_ENDINGS = (".yaml", ".yml")

_K2C_SEPARATOR = "| "
_K2C_CHARACTERS = str.maketrans({",": "|", "'": None, "[": None, "]": None})
_K2C_VERSION = texts_version([_K2C_SEPARATOR, ",'[]"])

WORDINGS = {name: wording.version for name, wording in _BUILT_IN.items()}
"""Built-in name -> version (a hash of every text of the wording, so that a changed word is a changed version)."""


def find_wording(name_or_path: str | os.PathLike[str]) -> Wording:
    """The built-in wording of that name, or the one that a YAML file holds.

    Raises `UsageError` for an unknown name or a file that is not there, `TableError` for a file that is no wording. A
    file is read on every call: look it up once a run.
    """
    name = os.fspath(name_or_path)
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    path = Path(name)
    if not path.is_file():
        looks_like_a_file = path.suffix.lower() in _FILE_ENDINGS or os.sep in name
        raise UsageError(
            f"--wording {name}",
            "there is no such file" if looks_like_a_file else "is unknown",
            f"choose from {', '.join(_BUILT_IN)}, or give the path of a YAML file with your own texts",
        )
    from dataset_builder.wordings.user_file import read_wording  # reads YAML: only when asked for

    return read_wording(path, reserved=(*_BUILT_IN, *_BASELINE_NAMES))


def render_prompt(instruction: str, tags: Sequence[str], wording: str = "released") -> Prompt:
    """The prompt of one track for one instruction, in the named wording.

    `tags` holds at least one tag; the singular texts serve exactly one. Raises as `find_wording` and `Wording.render`.
    """
    return find_wording(wording).render(instruction, tags)


def released_text(instruction: str, tags: Sequence[str]) -> str:
    """The user message that the released generator sent for `tags` (one or more), byte for byte."""
    return RELEASED.render(instruction, tags).messages[-1].content


def k2c_prompt(tags: Sequence[str]) -> Prompt:
    """What a keyword-to-text model reads for `tags` (the paper's K2C baseline, see `captioning/backends/k2c.py`).

    The form of the keytotext models: `first| second| third`, without quotation marks and brackets; a comma separates
    too. Raises `ValueError` without tags.
    """
    if not tags:
        raise ValueError("a prompt needs at least one tag")
    text = _K2C_SEPARATOR.join(tags).translate(_K2C_CHARACTERS)
    return Prompt((Message("user", text),), "k2c", _K2C_VERSION)


def template_caption(tags: Sequence[str]) -> str:
    """The paper's template baseline (Table 2): `the music is characterized by {tags}`, in the corpus's tag order.

    The released code shuffles the tags without a seed; here the order is kept, so that a run can be repeated.
    """
    return f"the music is characterized by {', '.join(tags)}"


def tag_concat_caption(tags: Sequence[str]) -> str:
    """The paper's tag-concatenation baseline (Table 2): the tags joined by `, `."""
    return ", ".join(tags)
