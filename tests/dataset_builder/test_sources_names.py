"""The table of sources: every name leads to a reader, an unknown one is answered with the names."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from dataset_builder.sources import SOURCES, load_source
from lpmc_errors import EXIT_USAGE, UsageError


def test_every_source_is_a_generator_that_takes_a_root_and_keyword_options():
    for name in SOURCES:
        reader = load_source(name)
        root, *options = inspect.signature(reader).parameters.values()
        assert root.name == "root", name
        assert inspect.isgeneratorfunction(reader), name
        assert all(option.kind is option.KEYWORD_ONLY and option.default is not option.empty for option in options), (
            name
        )


def test_an_unknown_source_is_answered_with_the_names():
    with pytest.raises(UsageError, match=r"spotify: is no source; the sources are audio_folder, .*musiccaps") as caught:
        load_source("spotify")
    assert caught.value.exit_code == EXIT_USAGE


def test_reading_sources_imports_neither_torch_nor_a_synthesizer():
    script = (
        "import sys; from dataset_builder.sources import SOURCES, load_source;"
        "[load_source(name) for name in SOURCES];"
        "print(sorted({'torch', 'pretty_midi', 'symusic', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
