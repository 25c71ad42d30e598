"""Released weights from the Hub: the right file of the repository, where it came from, and what its licence claims."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hub_clients import Client, check_output
from hub_double import HubDouble
from hub_state import Repository
from released_reference import Sizes, make_state, save_checkpoint

from lpmc_errors import ModelError
from modeling_lpmc.released_weights import choose_checkpoint, find_settings, is_hub_id
from modeling_lpmc.tokenizer import train_tokenizer

RELEASED = "seungheondoh/lp-music-caps"
CARD = "---\nlicense: mit\nlanguage: en\ntags:\n- music\n---\n# LP-Music-Caps\n"
LFS_BYTES = 100_000  # above which the double keeps a file in LFS here
TINY = Sizes(d_model=16, encoder_ffn=32, decoder_ffn=32, encoder_layers=1, decoder_layers=1, positions=40)
SETTINGS = "epochs: 100\nwarmup_epochs: 20\nbatch_size: 64\nseed: null\nlabel_smoothing: 0.1\nmax_length: 36\n"

# Conversions in a process of their own, since huggingface_hub reads its environment when it is imported.
CONVERT = """
import json
from dataclasses import asdict
from pathlib import Path
from lpmc_errors import LpmcError
from modeling_lpmc.conversion import convert_source
def convert(source, output, **options):
    said = []
    sizes = Path(options.pop("sizes"))
    try:
        report = convert_source(source, Path(output), sizes=sizes, say=said.append, **options)
    except LpmcError as error:
        return {"error": str(error), "code": error.exit_code}
    return asdict(report) | {"said": said}
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The three released files at a tiny size, each with weights of its own."""
    folder = tmp_path_factory.mktemp("released")
    return {
        name: save_checkpoint(make_state(TINY, seed), folder / f"{name}.pth").read_bytes()
        for seed, name in enumerate(("transfer", "pretrain", "supervised"))
    }


@pytest.fixture(scope="module")
def client(double: HubDouble, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Client(double.environment(tmp_path_factory.mktemp("hub-home")), CONVERT) as process:
        yield process


@pytest.fixture
def sizes(tmp_path: Path) -> Path:
    path = tmp_path / "sizes.json"
    path.write_text('{"attention_heads": 4, "max_length": 6}')
    return path


def put(hub: HubDouble, repo_id: str, files: dict[str, bytes]) -> Repository:
    """A model repository with these files."""
    repository = hub.state.repositories.setdefault(("model", repo_id), Repository("model", repo_id))
    stored = {name: hub.state.store(content, lfs=len(content) > LFS_BYTES) for name, content in files.items()}
    repository.commit("main", stored, "Upload 6 files")
    return repository


@pytest.fixture
def released(hub: HubDouble, checkpoints: dict[str, bytes]) -> Repository:
    """The authors' repository with the names that its files have there."""
    files = {f"{name}.pth": content for name, content in checkpoints.items()}
    files |= {f"{name}.yaml": SETTINGS.encode() for name in checkpoints}
    return put(hub, RELEASED, files | {"README.md": CARD.encode(), "orchestra.wav": b"RIFF", ".gitattributes": b"*"})


def convert(client: Client, source: str, output: Path, sizes: Path, **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.run(
        f"answer = convert({source!r}, {str(output)!r}, sizes={str(sizes)!r}, **{options!r})"
    )
    return answer


@pytest.mark.parametrize("variant", ["transfer", "pretrain", "supervised"])
def test_each_released_variant_is_fetched_and_converted(
    variant: str, client: Client, released: Repository, checkpoints: dict[str, bytes], sizes: Path, tmp_path: Path
) -> None:
    report = convert(client, RELEASED, tmp_path / "model", sizes, variant=variant)
    assert "error" not in report, report
    assert (report["repository"], report["repository_file"]) == (RELEASED, f"{variant}.pth")
    assert (report["revision"], report["settings_file"]) == (released.branches["main"], f"{variant}.yaml")
    assert report["sha256"] == hashlib.sha256(checkpoints[variant]).hexdigest()
    assert report["trained_max_length"] == 36
    assert report["parity"]["beams_equal"] is True
    record = json.loads((tmp_path / "model" / "conversion.json").read_text())
    assert record == {name: value for name, value in report.items() if name != "said"}


def test_the_conflict_of_the_licences_is_said_everywhere(
    client: Client, released: Repository, sizes: Path, tmp_path: Path
) -> None:
    report = convert(client, RELEASED, tmp_path / "model", sizes, variant="transfer")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    page = (tmp_path / "model" / "LICENSE-WEIGHTS.md").read_text()
    card = (tmp_path / "model" / "README.md").read_text()
    for text in ("\n".join(report["said"]), report["licence"], config["weights_licence_note"], page, card):
        words = " ".join(text.split())
        assert "the Hub card says mit" in words
        assert "CC BY-NC 4.0" in words
        assert "a conflict that only the authors can settle" in words
    assert config["weights_licence"] == "mit on the Hub, CC BY-NC 4.0 on GitHub"
    assert "license: mit" not in card
    assert released.branches["main"] in card  # the commit the weights came from
    assert report["sha256"] in card
    assert f"{report['parity']['loss_abs']:g}" in card


def test_the_licence_is_read_from_the_card_and_not_remembered(
    client: Client, hub: HubDouble, released: Repository, checkpoints: dict[str, bytes], sizes: Path, tmp_path: Path
) -> None:
    put(hub, RELEASED, {"transfer.pth": checkpoints["transfer"], "README.md": b"---\nlicense: cc-by-nc-4.0\n---\n"})
    report = convert(client, RELEASED, tmp_path / "agreed", sizes, variant="transfer")
    assert "the Hub card says cc-by-nc-4.0" in report["licence"]
    assert "conflict" not in report["licence"]
    put(hub, RELEASED, {"transfer.pth": checkpoints["transfer"]})
    report = convert(client, RELEASED, tmp_path / "silent", sizes, variant="transfer")
    assert "the Hub card says nothing" in report["licence"]
    assert "conflict" in report["licence"]
    put(hub, "someone/else", {"a.pth": checkpoints["transfer"], "README.md": b"---\nlicense: apache-2.0\n---\n"})
    report = convert(client, "someone/else", tmp_path / "other", sizes)
    assert report["licence"] == "someone/else: licence of the weights: the Hub card says apache-2.0."
    assert json.loads((tmp_path / "other" / "config.json").read_text())["weights_licence"] == "apache-2.0"


def test_an_earlier_revision_is_fetched_when_it_is_named(
    client: Client, hub: HubDouble, released: Repository, checkpoints: dict[str, bytes], sizes: Path, tmp_path: Path
) -> None:
    first = released.branches["main"]
    put(hub, RELEASED, {"transfer.pth": checkpoints["supervised"], "README.md": CARD.encode()})
    report = convert(client, RELEASED, tmp_path / "model", sizes, variant="transfer", revision=first)
    assert report["revision"] == first
    assert report["sha256"] == hashlib.sha256(checkpoints["transfer"]).hexdigest()


def test_a_vocabulary_of_bart_base_gets_its_tokenizer(
    client: Client, hub: HubDouble, sizes: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bart-base"
    train_tokenizer(["A calm piano piece."], vocab_size=300).save_pretrained(folder)
    put(hub, "facebook/bart-base", {path.name: path.read_bytes() for path in folder.iterdir()})
    large = Sizes(
        d_model=8, encoder_ffn=8, decoder_ffn=8, encoder_layers=1, decoder_layers=1, positions=40, vocab=50265
    )
    put(hub, "org/any", {"any.pth": save_checkpoint(make_state(large, 0), tmp_path / "any.pth").read_bytes()})
    report = convert(client, "org/any", tmp_path / "model", sizes)
    assert report["tokenizer"] == "facebook/bart-base"
    assert (tmp_path / "model" / "tokenizer.json").exists()


def test_what_is_in_the_cache_is_converted_without_a_network(
    double: HubDouble, released: Repository, sizes: Path, tmp_path: Path
) -> None:
    environment = double.environment(tmp_path / "home")
    with Client(environment, CONVERT) as online:
        first = convert(online, RELEASED, tmp_path / "first", sizes, variant="transfer")
    wanted = {name: first[name] for name in ("sha256", "revision", "licence", "trained_max_length")}
    for number, away in enumerate(({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"})):
        with Client(environment | away, CONVERT) as offline:
            again = convert(offline, RELEASED, tmp_path / f"again{number}", sizes, variant="transfer")
        assert {name: again.get(name) for name in wanted} == wanted, again


def test_nothing_is_downloaded_twice(
    client: Client, hub: HubDouble, released: Repository, sizes: Path, tmp_path: Path
) -> None:
    convert(client, RELEASED, tmp_path / "first", sizes, variant="pretrain")
    hub.state.log.clear()
    convert(client, RELEASED, tmp_path / "second", sizes, variant="pretrain")
    assert not [path for method, path, _ in hub.state.log if method == "GET" and "__cdn" in path]


@pytest.mark.parametrize(
    ("source", "options", "problem", "code"),
    [
        (RELEASED, {}, "several checkpoints; choose with --variant or --file among pretrain.pth, supervised.pth", 1),
        (RELEASED, {"variant": "zero-shot"}, "no variant 'zero-shot'; it holds pretrain.pth", 1),
        (RELEASED, {"file": "last.pth"}, "last.pth: no such file there; it holds .gitattributes, README.md", 1),
        (RELEASED, {"file": "README.md"}, "README.md: it is not a PyTorch checkpoint", 1),
        (RELEASED, {"variant": "transfer", "revision": "v9"}, "it has no revision 'v9'", 1),
        ("org/absent", {}, "no such model, or it is private", 1),
        ("org/..bad--name", {}, "no name of a repository|no such", 1),
        ("org/empty", {}, "holds no checkpoint", 1),
    ],
)
def test_what_is_not_there_is_named(
    source: str,
    options: dict[str, Any],
    problem: str,
    code: int,
    client: Client,
    hub: HubDouble,
    released: Repository,
    sizes: Path,
    tmp_path: Path,
) -> None:
    put(hub, "org/empty", {"README.md": b"# nothing\n"})
    answer = convert(client, source, tmp_path / "model", sizes, **options)
    assert re.search(problem, answer["error"]), answer
    assert answer["code"] == code
    assert "\n" not in answer["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["sizes.json"]


@pytest.mark.parametrize(
    ("pattern", "fault", "problem", "code"),
    [
        ("GET /api/models", {"status": 500}, r"busy or out of order \(500\); run the same command again", 75),
        ("GET /api/models", {"status": 429}, r"busy or out of order \(429\)", 75),
        ("GET /api/models", {"status": 403}, r"refuses access \(403\); check your token", 1),
        ("GET /__cdn", {"status": 503}, "busy or out of order|connection was lost", 75),
        ("GET /__cdn", {"lose_answer": True}, "connection was lost while its .* MB came down", 75),
    ],
)
def test_a_hub_that_fails_is_one_line_and_leaves_nothing(
    pattern: str,
    fault: dict[str, Any],
    problem: str,
    code: int,
    double: HubDouble,
    hub: HubDouble,
    released: Repository,
    sizes: Path,
    tmp_path: Path,
) -> None:
    hub.fail(pattern, **fault)
    home = tmp_path / "home"
    setup = CONVERT + "\nimport time, huggingface_hub.utils._http as h\nh.time.sleep = lambda seconds: None\n"
    with Client(double.environment(home), setup) as fresh:  # whose cache is empty
        answer = convert(fresh, RELEASED, tmp_path / "model", sizes, variant="transfer")
    assert re.search(problem, answer.get("error", "")), answer
    assert answer["code"] == code
    assert not (tmp_path / "model").exists()
    hub.state.faults.clear()


def test_a_gated_or_private_repository_says_how_to_get_in(
    double: HubDouble, hub: HubDouble, released: Repository, sizes: Path, tmp_path: Path
) -> None:
    released.settings["gated"] = "auto"
    with Client(double.environment(tmp_path / "home", token=None), CONVERT) as stranger:
        answer = convert(stranger, RELEASED, tmp_path / "model", sizes, variant="transfer")
        assert "its owner wants to be asked first; ask for access on its page" in answer["error"]
        released.settings["gated"] = False
        released.private = True
        answer = convert(stranger, RELEASED, tmp_path / "model", sizes, variant="transfer")
    assert "no such model, or it is private; check the name, or sign in" in answer["error"]
    assert answer["code"] == 1


def test_a_file_that_is_not_what_the_hub_lists_is_refused(
    client: Client, hub: HubDouble, released: Repository, checkpoints: dict[str, bytes], sizes: Path, tmp_path: Path
) -> None:
    stored = hub.state.store(checkpoints["transfer"], lfs=True)
    hub.state.blobs[stored.sha256] = checkpoints["pretrain"]  # of the same length
    assert len(checkpoints["transfer"]) == len(checkpoints["pretrain"])
    answer = convert(client, RELEASED, tmp_path / "model", sizes, variant="transfer", revision="main")
    assert "error" in answer or answer["sha256"] == stored.sha256  # what an earlier test has cached is the right one
    with Client(hub.environment(tmp_path / "home"), CONVERT) as fresh:
        answer = convert(fresh, RELEASED, tmp_path / "model", sizes, variant="transfer")
    assert "it is not what seungheondoh/lp-music-caps lists (SHA-256)" in answer["error"]


# -- the command --------------------------------------------------------------


def run(*arguments: object, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import lpmc; lpmc.main()", "convert", *map(str, arguments)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    check_output(result.stdout + result.stderr)
    assert "Traceback" not in result.stderr
    return result


def test_the_command_fetches_says_where_from_and_prints_json(
    double: HubDouble, released: Repository, sizes: Path, tmp_path: Path
) -> None:
    arguments = (RELEASED, "--variant", "transfer", "--output", tmp_path / "model", "--config", sizes)
    result = run(*arguments, "--json", environment=double.environment(tmp_path / "home"))
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["revision"] == released.branches["main"]
    assert f"{RELEASED}: transfer.pth at {released.branches['main'][:12]}" in result.stderr
    assert "the Hub card says mit" in result.stderr
    lint = [sys.executable, "-c", "import lpmc; lpmc.main()", "lint", str(tmp_path / "model")]
    checked = subprocess.run(lint, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_command_fails_in_one_line_where_there_is_no_hub(double: HubDouble, tmp_path: Path) -> None:
    away = double.environment(tmp_path / "home") | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    for environment, reason in ((away, "cannot be reached"), (away | {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set")):
        result = run(RELEASED, "--variant", "transfer", "--output", tmp_path / "model", environment=environment)
        assert result.returncode == 1
        last = result.stderr.strip().splitlines()[-1]
        assert reason in last
        assert "not in the cache" in last
    assert not (tmp_path / "model").exists()


class Portal(http.server.BaseHTTPRequestHandler):
    """Answers 429 once, and then with what no Hub says, as the page of a network to sign in to does."""

    body, asked = b"", 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(429 if self.asked == 1 else 200)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("body", [b"<html>Please sign in", b"[]", b"{}", b'{"id": 7, "siblings": 3}'])
def test_nonsense_from_what_answers_for_the_hub_is_one_line(body: bytes, double: HubDouble, tmp_path: Path) -> None:
    portal = type("AnyPortal", (Portal,), {"body": body})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), portal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = double.environment(tmp_path / "home") | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        for _ in range(2):  # the 429 may end the first run, which then says to run it again
            result = run(RELEASED, "--variant", "transfer", "--output", tmp_path / "model", environment=environment)
            assert "Traceback" not in result.stderr
        server.shutdown()
    assert result.returncode == 1
    assert "is not the Hub" in result.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "model").exists()


# -- which file ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "variant", "chosen"),
    [
        (["transfer.pth", "pretrain.pth"], "transfer", "transfer.pth"),
        (["transfer.pth", "pretrain.pth"], "Transfer", "transfer.pth"),
        (["exp/transfer/lp_music_caps/last.pth", "exp/pretrain/lp_music_caps/last.pth"], "transfer", "exp/transfer/"),
        (["lpmc_transfer_v1.pth", "lpmc_pretrain_v1.pth"], "pretrain", "lpmc_pretrain_v1.pth"),
        (["transfer.pth", "old/transfer-2022.pth"], "transfer", "transfer.pth"),
        (["only.ckpt", "README.md"], None, "only.ckpt"),
    ],
)
def test_a_variant_finds_its_file(names: list[str], variant: str | None, chosen: str) -> None:
    assert choose_checkpoint(names, variant, where="org/name").startswith(chosen)


def test_a_variant_that_fits_several_files_is_not_guessed() -> None:
    with pytest.raises(ModelError, match=r"fits several checkpoints; choose with --file among a/transfer.pth, b/"):
        choose_checkpoint(["a/transfer.pth", "b/transfer.pth"], "transfer", where="org/name")


def test_the_settings_of_a_checkpoint_are_found_beside_it() -> None:
    assert find_settings("transfer.pth", {"transfer.yaml", "pretrain.yaml"}) == "transfer.yaml"
    assert find_settings("exp/gt/last.pth", {"exp/gt/hparams.yaml", "exp/other/hparams.yaml"}) == "exp/gt/hparams.yaml"
    assert find_settings("transfer.pth", {"pretrain.yaml"}) is None


def test_a_path_is_told_from_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_hub_id(RELEASED)
    for path in ("none.pth", "folder/none.pth", "./org/name", "/org/name", "a/b/c", "org", "../org/name"):
        assert not is_hub_id(path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("org/name")


def test_a_clone_of_the_repository_will_do(
    client: Client, checkpoints: dict[str, bytes], sizes: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    for name, content in checkpoints.items():
        (clone / f"{name}.pth").write_bytes(content)
    report = convert(client, str(clone), tmp_path / "model", sizes, variant="supervised")
    assert (report["checkpoint"], report["repository"]) == ("supervised.pth", None)
    assert "local file, which says nothing about its licence" in report["licence"]
    answer = convert(client, str(clone / "transfer.pth"), tmp_path / "other", sizes, variant="transfer")
    assert "--variant and --file choose among several files" in answer["error"]
    answer = convert(client, str(clone), tmp_path / "other", sizes, variant="transfer", revision="main")
    assert "a local file has no revision" in answer["error"]
