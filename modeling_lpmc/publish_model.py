"""A saved captioner to the Hub in one commit: checked first, nothing but what belongs to it, and again without harm."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from lpmc_errors import LpmcError, UsageError
from lpmc_hub import HubError, hub_faults_named
from modeling_lpmc.export import CARD, EVALUATION, PICTURES
from modeling_lpmc.saving_lpmc import CODE_LICENCE_FILES, PROCESSOR_FILES, WEIGHTS, WEIGHTS_LICENCE_FILE, code_files

# What a run and an evaluation leave beside the model that readers of its card may want.
BESIDE = (
    *("training.json", "inference.json", "metrics.jsonl", "samples.jsonl", "samples.md"),
    *("conversion.json", "PARITY.md", EVALUATION, *PICTURES),
)
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")
_SETTINGS = ("config.json", "generation_config.json")


@dataclass(frozen=True)
class PushedModel:
    """What a push did. `revision` is the sha that readers may pin; `files` are those of the repository's new state."""

    url: str
    revision: str
    files: tuple[str, ...]
    deleted: tuple[str, ...]


def check_push(repo_id: str, *, private: bool = False, token: str | None = None) -> None:
    """Find out before a model is trained for it what would stop `push_model`: name, token, somebody else's repository.

    Changes nothing on the Hub. Raises `UsageError` for a name without namespace, and `HubError`.
    """
    wrong = len(repo_id) > 96 or ".." in repo_id or "--" in repo_id or repo_id.endswith((".git", "-", "."))
    if not _REPO_ID.fullmatch(repo_id) or wrong:
        raise UsageError(f"--push-to {repo_id}", "is no name of a repository", "write USER/NAME or ORGANISATION/NAME")
    api = HfApi(token=token)
    with hub_faults_named(repo_id, token):
        api.whoami()  # for a wrong token every repository looks as if it were not there
        _files_there(api, repo_id, private)


def published_files(directory: Path) -> list[str]:
    """The files of a model directory that are sent, by name: model, code, licences, card, results; nothing else.

    Raises `UsageError` when no saved captioner with its card lies there.
    """
    known = {*_SETTINGS, *PROCESSOR_FILES, *CODE_LICENCE_FILES, WEIGHTS_LICENCE_FILE, CARD, *BESIDE}
    known |= {path.name for path in code_files()}
    names = sorted(path.name for path in directory.iterdir() if path.is_file()) if directory.is_dir() else []
    found = [name for name in names if name in known or WEIGHTS.fullmatch(name)]
    if not {"config.json", CARD} <= set(found):
        raise UsageError(directory, "holds no saved captioner with a card", "train or convert one")
    return found


def push_model(directory: Path, repo_id: str, *, private: bool = False, token: str | None = None) -> PushedModel:
    """Publish the model directory as the Hub repository `repo_id`, as one commit that loads and captions.

    The card's examples then name `repo_id`; the file here stays as it is. What an earlier push sent and is not here any
    more is deleted there; files of others stay. `private` makes a new repository private. `token` defaults to the one
    that `hf auth login` or HF_TOKEN gave.

    Raises `UsageError`, `LpmcError` for a card that fails its lint, and `HubError`; nothing local changes, and the same
    call pushes again.
    """
    files = published_files(directory)
    _check_card(directory)
    check_push(repo_id, private=private, token=token)
    api = HfApi(token=token)
    bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with hub_faults_named(repo_id, token):
            there = _files_there(api, repo_id, private)
            if there is None:
                api.create_repo(repo_id, private=private or None, exist_ok=True)
            deleted = tuple(sorted(name for name in there or () if name not in files and _is_ours(name)))
            commit = api.create_commit(
                repo_id,
                [
                    *(CommitOperationDelete(name) for name in deleted),
                    *(_addition(directory, name, repo_id) for name in files),
                ],
                commit_message=f"Publish {directory.resolve().name}",
            )
    finally:
        if bars:
            enable_progress_bars()
    return PushedModel(f"{api.endpoint}/{repo_id}", str(commit.oid), tuple(files), deleted)


def _check_card(directory: Path) -> None:
    from hub_cards import lint_model  # and with it pyarrow: a model is saved without

    problems = lint_model(directory)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise LpmcError(directory / problems[0].path, f"{problems[0].message}{more}", "correct it, then push again")


def _addition(directory: Path, name: str, repo_id: str) -> CommitOperationAdd:
    if name != CARD:
        return CommitOperationAdd(name, directory / name)
    text = (directory / CARD).read_text(encoding="utf-8")
    local = re.escape(f"./{directory.resolve().name}")
    return CommitOperationAdd(name, re.sub(rf"{local}(?=[\s\"`]|$)", repo_id, text).encode())


def _files_there(api: HfApi, repo_id: str, private: bool) -> list[str] | None:
    """The files of the repository; None where there is none. Raises `HubError` for one that must not be written."""
    try:
        info = api.model_info(repo_id)
    except RepositoryNotFoundError:
        return None
    if private and not info.private:
        raise HubError(
            repo_id, "exists and is public, but --private was asked for", "make it private there, or choose another"
        )
    return [file.rfilename for file in info.siblings or ()]


def _is_ours(name: str) -> bool:
    return name in {*PROCESSOR_FILES, *BESIDE} or bool(WEIGHTS.fullmatch(name)) or name.endswith("_lpmc.py")
