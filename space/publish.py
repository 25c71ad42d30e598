"""Publishes the page as a Space of the Hub: the app, what it imports and its model, in one commit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lpmc_errors import LpmcError, UsageError
from lpmc_hub import hub_faults_named
from modeling_lpmc.shipped import MODEL_FOLDER, MODEL_NAME
from space import space_files

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")
_MARK = "modeling_lpmc/captioner.py"  # a Space that holds it is one of these


@dataclass(frozen=True)
class PublishedSpace:
    """What a push did: the address, the sha of the commit, and the files of the repository's new state."""

    url: str
    revision: str
    files: tuple[str, ...]


def bundle(model: str | None = None) -> dict[str, Path | bytes]:
    """The files of the Space, by name; `model` is a model directory, which goes along, or the Hub id of one.

    Raises `UsageError` for a directory that holds no captioner.
    """
    files: dict[str, Path | bytes] = dict(space_files())
    if model is None:
        return files
    folder = Path(model)
    if folder.is_dir():
        from modeling_lpmc.publish_model import published_files

        return files | {f"{MODEL_FOLDER}/{name}": folder / name for name in published_files(folder)}
    if not _is_repo_id(model):
        raise UsageError(f"--model {model}", "is neither a model directory nor a Hub id", "give one of the two")
    return files | {MODEL_NAME: f"{model}\n".encode()}


def publish_space(
    repo_id: str, *, model: str | None = None, private: bool = False, token: str | None = None
) -> PublishedSpace:
    """Put the page into the Space `repo_id`, in one commit; one that an earlier call filled is brought up to date.

    Raises `UsageError` for a name that no Space can have, and `LpmcError` for a Space of another kind, a missing token,
    and a Hub that refuses or cannot be reached. Nothing local changes; the same call publishes again.
    """
    if not _is_repo_id(repo_id):
        raise UsageError(f"--repo {repo_id}", "is no name of a Space", "write USER/NAME or ORGANISATION/NAME")
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    files = bundle(model)
    with hub_faults_named(repo_id, token):
        api = HfApi(token=token)
        api.whoami()  # raises for a wrong token, with which every repository looks as if it were not there
        try:
            there = set(api.list_repo_files(repo_id, repo_type="space"))
        except RepositoryNotFoundError:
            there = set()
            api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private)
        foreign = sorted(there - {".gitattributes", "README.md"})
        if foreign and _MARK not in there:
            told = f"is a Space of another kind: it holds {foreign[0]}"
            raise LpmcError(repo_id, told, "choose another name, or empty it first")
        gone = sorted(name for name in there - files.keys() if _is_ours(name))
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, source) for name, source in files.items()),
                *(CommitOperationDelete(name) for name in gone),
            ],
            commit_message="Publish the page",
            repo_type="space",
        )
    return PublishedSpace(f"{api.endpoint}/spaces/{repo_id}", str(commit.oid), tuple(sorted(files)))


def _is_repo_id(name: str) -> bool:
    return bool(_REPO_ID.fullmatch(name)) and len(name) <= 96 and ".." not in name and "--" not in name


def _is_ours(name: str) -> bool:
    """Whether an earlier call may have put the file there."""
    return name == MODEL_NAME or name.split("/")[0] in ("modeling_lpmc", "caption_metrics", MODEL_FOLDER)
