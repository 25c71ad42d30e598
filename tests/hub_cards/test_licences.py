"""Licences under the names that corpora give them, and which corpora ask for terms."""

from __future__ import annotations

import pytest

from hub_cards.licences import HUB_LICENCES, SOURCES, audio_publishable, hub_licence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0"),
        ("cc-by-4.0", "cc-by-4.0"),
        ("Attribution-NonCommercial 3.0 International", "cc-by-nc-3.0"),
        ("Attribution-NonCommercial-ShareAlike 3.0", "cc-by-nc-sa-3.0"),
        ("Attribution-NonCommercial-ShareAlike 3.0 International", "cc-by-nc-sa-3.0"),
        ("Attribution-NonCommercial-NoDerivatives (aka Music Sharing) 3.0 International", "cc-by-nc-nd-3.0"),
        ("Attribution-Noncommercial-No Derivative Works 3.0 United States", "cc-by-nc-nd-3.0"),
        ("Attribution-Noncommercial-Share Alike 3.0 United States", "cc-by-nc-sa-3.0"),
        ("Creative Commons Attribution 4.0", "cc-by-4.0"),
        ("Creative Commons Attribution 4.0 International License", "cc-by-4.0"),
        ("http://creativecommons.org/licenses/by-nc-nd/3.0/us/", "cc-by-nc-nd-3.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("CC0 1.0 Universal", "cc0-1.0"),
        ("CC0", "cc0-1.0"),
        ("Apache-2.0", "apache-2.0"),
        ("MIT", "mit"),
        ("CC BY-SA 4.0 (text)", "cc-by-sa-4.0"),
        ("https://creativecommons.org/licenses/by/3.0/us/", "cc-by-3.0"),
        ("Attribution-Noncommercial-Share Alike 3.0 Germany", "cc-by-nc-sa-3.0"),
        ("Attribution 3.0 New Zealand", "cc-by-3.0"),
        ("Attribution 2.0 Generic", "cc-by-2.0"),
        ("FMA-Limited: Download Only", None),
        ("Orphan work", None),
        ("The Music Bed: Non-Commercial", None),
        ("CC BY 4.0, download only", None),
        ("All rights reserved", None),
        ("CC BY, all rights reserved", None),
        ("CC Sampling Plus 1.0", None),
        ("https://creativecommons.org/licenses/nc-sampling+/1.0/", None),
        ("https://creativecommons.org/licenses/devnations/2.0/", None),
        ("CC BY-ND-SA 4.0", None),
        ("by whom, nobody knows", None),
        ("unbekannt", None),
        ("", None),
    ],
)
def test_licences_are_known_under_the_names_that_corpora_give_them(text, expected):
    assert hub_licence(text) == expected
    assert audio_publishable("fma", text) is (expected is not None)


@pytest.mark.parametrize(
    "text",
    [
        "CC BY (Attribution)",
        "Attribution",
        "Creative Commons Attribution-NonCommercial-NoDerivatives",
        "CC BY 1.0",
        "Attribution-ShareAlike 2.5 Sweden",
        "https://creativecommons.org/licenses/by-nc-nd/2.0/",
        "http://creativecommons.org/licenses/by-sa/2.5/",
        "http://creativecommons.org/licenses/by-nd-nc/1.0/",
        "http://creativecommons.org/licenses/by-nc-nd/2.5/ca/deed.fr",
        "Public Domain Mark 1.0",
        "https://creativecommons.org/publicdomain/mark/1.0/",
    ],
)
def test_creative_commons_lets_audio_be_passed_on_also_where_the_hub_has_no_name_for_it(text):
    assert hub_licence(text) is None
    assert audio_publishable("fma", text)
    assert audio_publishable("my own", text)


@pytest.mark.parametrize("text", ["CC BY-SA 4.0 (annotations only)", "CC BY 4.0 (not the audio)", "unknown", "other"])
def test_a_reservation_is_no_permission_whatever_stands_beside_it(text):
    assert hub_licence(text) is not None
    assert not audio_publishable("my own", text)


def test_every_licence_of_a_corpus_is_one_of_the_hubs():
    assert {known.annotations_id for known in SOURCES.values()} - {None} <= HUB_LICENCES


def test_whatever_is_for_research_or_evaluation_or_may_not_be_passed_on_has_a_gate():
    for name, known in SOURCES.items():
        restricted = not known.audio_redistributable or known.evaluation_only or "-nc-" in (known.annotations_id or "")
        assert bool(known.gate) or not restricted, name
    assert not any(SOURCES[name].gate for name in ("fma", "slakh", "rendered"))
