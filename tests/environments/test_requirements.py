"""LPMC_REQUIRE: what a machine must have, tests never skip for want of."""

from __future__ import annotations

import pytest
from interpreters import LEFT_TO_THE_MATRIX, NEEDS, PROJECT, datasets_3, lacking, required, transformers

Outcome = (pytest.skip.Exception, pytest.fail.Exception)  # both: a skip that gets away would only skip the test here


def test_a_test_that_lacks_its_environment_skips_and_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.delenv("LPMC_REQUIRE", raising=False)
    monkeypatch.setenv("LPMC_DATASETS_3_PYTHON", str(tmp_path / "python"))
    with pytest.raises(Outcome, match="python does not exist: `make test` installs it") as ended:
        datasets_3()
    assert ended.type is pytest.skip.Exception


def test_it_fails_where_the_environment_is_required(monkeypatch, tmp_path):
    monkeypatch.setenv("LPMC_REQUIRE", "ffmpeg,datasets-3")
    monkeypatch.setenv("LPMC_DATASETS_3_PYTHON", str(tmp_path / "python"))
    with pytest.raises(Outcome, match="does not exist") as ended:
        datasets_3()
    assert ended.type is pytest.fail.Exception
    assert str(ended.value).startswith("LPMC_REQUIRE names datasets-3, but")
    with pytest.raises(Outcome) as ended:
        lacking("torchcodec", "it is required nowhere")
    assert ended.type is pytest.skip.Exception


def test_an_interpreter_of_ones_own_takes_the_place_of_the_installed_one(monkeypatch, tmp_path):
    (tmp_path / "python").touch()
    monkeypatch.setenv("LPMC_DATASETS_3_PYTHON", str(tmp_path / "python"))
    assert datasets_3().python == str(tmp_path / "python")


def test_a_misspelt_need_is_refused(monkeypatch):
    monkeypatch.setenv("LPMC_REQUIRE", "ffmpg")
    with pytest.raises(ValueError, match="ffmpg unknown; known are datasets-alone, datasets-3, torchcodec, ffmpeg, "):
        required()


def test_ci_requires_everything_that_a_test_may_lack():
    script = (PROJECT / ".ci/run").read_text()
    needed = [need for need in NEEDS if need != LEFT_TO_THE_MATRIX]
    assert f"export LPMC_REQUIRE={','.join(needed)}\n" in script


def test_the_matrix_requires_every_release_of_transformers():
    needed = [need for need in NEEDS if need.startswith("transformers-")]
    assert LEFT_TO_THE_MATRIX in needed
    target = (PROJECT / "Makefile").read_text().split("\nmatrix:")[1].split("\n\n")[0]
    named = target.split("LPMC_REQUIRE=")[1].split()[0]
    assert sorted(named.split(",")) == sorted(needed)


def test_a_missing_release_of_the_matrix_says_which_target_installs_it(monkeypatch, tmp_path):
    monkeypatch.delenv("LPMC_REQUIRE", raising=False)
    monkeypatch.setattr("interpreters.PROJECT", tmp_path)
    for version, target in (("5.0.0", "make matrix"), ("4.53.3", "make test")):
        with pytest.raises(Outcome, match=f"transformers-{version}/bin/python does not exist: `{target}` installs it"):
            transformers(version)
