"""From the tags of a corpus to captions, and from captions to a dataset on the Hugging Face Hub.

Importing this package loads none of its parts; a name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ChatBackend": "captioning.backends.openai_chat",
    "TaggedTrack": "tracks",
    "build_dataset": "build",
    "caption_tracks": "captioning.pseudo_caption",
    "check_caption": "faithfulness",
    "join_audio": "lp_musiccaps",
    "load_source": "sources",
    "make_plan": "captioning.pseudo_caption",
    "push_dataset": "publish",
    "write_tracks": "tracks",
}

__all__ = [
    "ChatBackend",
    "TaggedTrack",
    "build_dataset",
    "caption_tracks",
    "check_caption",
    "join_audio",
    "load_source",
    "make_plan",
    "push_dataset",
    "write_tracks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
