"""The corpora that can be read: one function a source, imported when it is used.

Each function has the form `read_...(root, **options) -> Iterator[TaggedTrack]`: `root` is the corpus's folder or file,
the options are the source's own. A corpus that cannot be used raises `TableError` or `AudioError`.

    from dataset_builder.sources import load_source
    tracks = list(load_source("rendered")(Path("corpus"), clips=12))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

from dataset_builder.tracks import TaggedTrack
from lpmc_errors import UsageError

__all__ = ["SOURCES", "load_source"]

SOURCES: dict[str, str] = {
    "audio_folder": "dataset_builder.sources.audio_folder:read_audio_folder",
    "fma": "dataset_builder.sources.fma:read_fma",
    "jamendo_max_caps": "dataset_builder.sources.jamendo_max_caps:read_jamendo_max_caps",
    "magnatagatune": "dataset_builder.sources.magnatagatune:read_magnatagatune",
    "msd_ecals": "dataset_builder.sources.msd_ecals:read_msd_ecals",
    "mtg_jamendo": "dataset_builder.sources.mtg_jamendo:read_mtg_jamendo",
    "musiccaps": "dataset_builder.sources.musiccaps:read_musiccaps",
    "rendered": "dataset_builder.sources.rendered:read_rendered",
    "slakh": "dataset_builder.sources.slakh:read_slakh",
    "song_describer": "dataset_builder.sources.song_describer:read_song_describer",
    "table": "dataset_builder.sources.table:read_table",
}


def load_source(name: str) -> Callable[..., Iterator[TaggedTrack]]:
    """The function that reads the source `name`. Raises `UsageError` for a name that is not in `SOURCES`."""
    if name not in SOURCES:
        raise UsageError(name, "is no source", f"the sources are {', '.join(sorted(SOURCES))}")
    module, _, function = SOURCES[name].partition(":")
    reader: Callable[..., Iterator[TaggedTrack]] = getattr(import_module(module), function)
    return reader
