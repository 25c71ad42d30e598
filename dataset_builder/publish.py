"""The data set directory to the Hub: checked first, nothing but what belongs to it, resumable, never half there."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import DatasetCard, HfApi
from huggingface_hub.errors import (
    RepositoryNotFoundError,
)
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from dataset_builder.hub_upload import (
    HubUpload,
    LocalFiles,
    Progress,
    RemoteState,
    patiently,
    remote_state,
)
from dataset_builder.publish_checks import check_audio_licences, check_private_content
from hub_cards.croissant import CROISSANT_FILE
from hub_cards.facts import MAKING_FILE, PIPELINE_FILE, config_names, read_config, shard_files
from hub_cards.lint import CARD, lint_dataset
from hub_cards.render import LICENCES_FILE, gates
from lpmc_errors import LpmcError, UsageError
from lpmc_hub import HubError, hub_faults_named, without_secrets

GATES = ("auto", "manual")  # how the Hub grants access: to everybody who asks, or after a look

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")
_MODEL_CONFIG = "config.json"  # which a model directory has at its top, and a data set's does not
_BESIDE_SHARDS = (MAKING_FILE, PIPELINE_FILE)  # sent with the shards of each configuration


@dataclass(frozen=True)
class PushPlan:
    """What a push will do. `files` maps each file to its size in bytes; the tuples name files of the repository."""

    repo_id: str
    exists: bool
    private: bool
    gated: str  # "auto", "manual" or ""
    files: dict[str, int]
    new: tuple[str, ...]
    changed: tuple[str, ...]
    same: tuple[str, ...]
    deleted: tuple[str, ...]
    terms: tuple[str, ...] = ()  # sources whose terms the card asks readers to agree to

    @property
    def asks_nobody(self) -> bool:
        """Whether the card has terms to agree to and the Hub will not show them: it asks at a gate only."""
        return bool(self.terms) and not self.gated and not self.private

    @property
    def bytes_in_all(self) -> int:
        return sum(self.files.values())

    @property
    def bytes_to_send(self) -> int:
        return sum(self.files[name] for name in (*self.new, *self.changed))


@dataclass(frozen=True)
class PushReport:
    """What a push did. `revision` is the sha that readers may pin; `sent_*` count what this run handed over."""

    url: str
    revision: str
    private: bool
    gated: str
    files: int
    bytes: int
    sent_files: int
    sent_bytes: int
    commits: int
    deleted: tuple[str, ...]


def push_dataset(
    directory: Path,
    repo_id: str,
    *,
    private: bool = False,
    gated: str | None = None,
    token: str | None = None,
    on_plan: Callable[[PushPlan], None] | None = None,
    progress: Progress | None = None,
) -> PushReport:
    """Publish the data set directory as the Hub repository `repo_id`, or go on with a push that was interrupted.

    First everything is checked that `plan_push` checks. Large files are then sent in commits of a branch of their own,
    and one commit makes them, the card and the deletion of old shards visible. `gated` ("auto", "manual") sets how
    access is granted, before anything is sent; None leaves it. `token` defaults to the one that `hf auth login` or
    HF_TOKEN gave. `progress` gets bytes that are there, bytes in all and a word about the present step.

    Raises `UsageError` (a name without namespace, no data set, unknown gate), `LpmcError` (lint),
    `PrivateContentError` (audio without permission, paths, keys), `HubError` (no access, no network, a public
    repository for a push that was to be private, configurations on the Hub that the directory lacks and its card would
    hide) and `HubAwayError` (the same command goes on later).
    """
    seen = [0, 0]  # bytes there and in all, for words that come between two steps

    def tell(done: int, total: int, note: str) -> None:
        seen[:] = done, total
        if progress is not None:
            progress(done, total, note)

    def say(note: str) -> None:
        tell(seen[0], seen[1], note)

    files = _checked_files(directory, repo_id, private, gated)
    configs = config_names(directory)
    api = HfApi(token=token)
    with hub_faults_named(repo_id, token), _quiet_client(say):
        plan = _plan(api, repo_id, files, configs, private, gated)
        if on_plan is not None:
            on_plan(plan)
        patiently(lambda: _prepare(api, plan, directory), say)
        upload = HubUpload(
            api,
            repo_id,
            files,
            message=f"Publish {', '.join(configs)}",
            obsolete=lambda name: _is_obsolete(name, configs),
            guard=lambda state: _check_remote(repo_id, state, files, configs, private),
            progress=tell,
        )
        done = upload.run()
    return PushReport(
        url=f"{api.endpoint}/datasets/{repo_id}",
        revision=done.revision,
        private=plan.private,
        gated=plan.gated,
        files=len(files.names),
        bytes=plan.bytes_in_all,
        sent_files=done.sent_files,
        sent_bytes=done.sent_bytes,
        commits=done.commits,
        deleted=done.deleted,
    )


def plan_push(
    directory: Path, repo_id: str, *, private: bool = False, gated: str | None = None, token: str | None = None
) -> PushPlan:
    """Check all that `push_dataset` checks, compare with what the Hub has, and change nothing.

    The checks: the lint of the card; no path of this machine and no key in any text that would be sent; no column that
    no layout has; for a public push no audio that its source or licence forbids. Raises as `push_dataset` does.
    """
    files = _checked_files(directory, repo_id, private, gated)
    api = HfApi(token=token)
    with hub_faults_named(repo_id, token), _quiet_client(lambda note: None):
        return _plan(api, repo_id, files, config_names(directory), private, gated)


def published_files(directory: Path) -> list[str]:
    """The files of a data set directory that are sent to the Hub, relative to it; anything else in it stays at home.

    Raises `UsageError` when `directory` is no data set.
    """
    configs = config_names(directory) if directory.is_dir() else []
    if not configs and (directory / _MODEL_CONFIG).is_file():
        remedy = f"upload it with `hf upload NAME/MODEL {directory}`"
        raise UsageError(directory, "is a model, and this publishes data sets", remedy)
    if not configs or not (directory / CARD).is_file():
        raise UsageError(directory, "is no data set directory", "make one with `lpmc build`")
    paths = [directory / name for name in (CARD, LICENCES_FILE, CROISSANT_FILE)]
    for config in configs:
        paths += [directory / config / name for name in _BESIDE_SHARDS]
        paths += [path for files in shard_files(directory / config).values() for path in files]
    return [path.relative_to(directory).as_posix() for path in paths if path.is_file()]


def _checked_files(directory: Path, repo_id: str, private: bool, gated: str | None) -> LocalFiles:
    _check_repo_id(repo_id)
    if gated is not None and gated not in GATES:
        raise UsageError(f"--gated {gated}", "is no way to grant access", f"write {' or '.join(GATES)}")
    files = LocalFiles(directory, published_files(directory))
    problems = lint_dataset(directory)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise LpmcError(
            directory / problems[0].path, f"{problems[0].message}{more}", "run `lpmc build` again, then push"
        )
    check_private_content(directory, list(files.names))
    if not private:
        check_audio_licences(directory, config_names(directory))
    return files


def _check_repo_id(repo_id: str) -> None:
    if "/" not in repo_id:
        raise UsageError(
            f"--repo {repo_id}",
            "has no namespace",
            f"write USER/{repo_id or 'NAME'} or ORGANISATION/{repo_id or 'NAME'}",
        )
    wrong = len(repo_id) > 96 or ".." in repo_id or "--" in repo_id or repo_id.endswith((".git", "-", "."))
    if not _REPO_ID.fullmatch(repo_id) or wrong:
        raise UsageError(
            f"--repo {repo_id}", "is no name of a repository", "write USER/NAME with letters, digits, -, _ and ."
        )


def _plan(
    api: HfApi, repo_id: str, files: LocalFiles, configs: list[str], private: bool, gated: str | None
) -> PushPlan:
    try:
        state = patiently(lambda: remote_state(api, repo_id), lambda note: None)
    except RepositoryNotFoundError:
        api.whoami()  # raises for a wrong token, with which every repository looks as if it were not there
        state = None
    if state is not None:
        _check_remote(repo_id, state, files, configs, private)
    todo = files.difference(state.files if state else {}, lambda name: _is_obsolete(name, configs))
    return PushPlan(
        repo_id=repo_id,
        exists=state is not None,
        private=state.private if state else private,
        gated=gated or (state.gated if state else ""),
        files=dict(files.sizes),
        new=todo.new,
        changed=todo.changed,
        same=todo.same,
        deleted=todo.deleted,
        terms=tuple(licence.title for licence, _ in gates([read_config(files.directory, name) for name in configs])),
    )


def _prepare(api: HfApi, plan: PushPlan, directory: Path) -> None:
    """Let the Hub judge the card, make the repository where there is none, and set who may read it."""
    try:
        DatasetCard.load(directory / CARD).validate(repo_type="dataset")
    except ValueError as error:
        raise HubError(
            directory / CARD, f"the Hub does not take it: {without_secrets(str(error))}", "correct it"
        ) from error
    if not plan.exists:
        api.create_repo(plan.repo_id, repo_type="dataset", private=plan.private or None, exist_ok=True)
    if plan.gated:
        api.update_repo_settings(plan.repo_id, gated=plan.gated, repo_type="dataset")  # type: ignore[arg-type]


def _is_obsolete(name: str, configs: list[str]) -> bool:
    """Whether a file on the Hub that is not published any more was one that a push had sent."""
    folder, _, file = name.partition("/")
    return name in (LICENCES_FILE, CROISSANT_FILE) or (
        folder in configs and (file in _BESIDE_SHARDS or file.endswith(".parquet"))
    )


def _check_remote(repo_id: str, state: RemoteState, files: LocalFiles, configs: list[str], private: bool) -> None:
    if private and not state.private:
        raise HubError(
            repo_id, "exists and is public, but --private was asked for", "make it private there, or choose another"
        )
    there = {name.split("/")[0] for name in state.files if name.endswith(f"/{MAKING_FILE}")}
    foreign = sorted(name for name in state.files if name in set(files.names) or _is_obsolete(name, configs))
    if foreign and not there:
        raise HubError(
            repo_id,
            f"is somebody's own: it holds {foreign[0]}, which no `lpmc push` sent and this one would replace",
            "choose another name, or delete that there first",
        )
    missing = sorted(there - set(configs))
    if missing:
        raise HubError(
            repo_id,
            f"holds the configuration(s) {', '.join(missing)}, which this directory lacks and its card would hide",
            f"fetch them first: hf download {repo_id} --repo-type dataset --local-dir DIR",
        )


@contextmanager
def _quiet_client(say: Callable[[str], None]) -> Iterator[None]:
    """Keep the client's own bars and warnings away: one bar is enough, and its warnings hold signed addresses.

    That it waits, and how long, is passed on. Its records must not reach the root's handlers either: a library that is
    used before (mlcroissant, through absl) may have made one that prints.
    """

    def heard(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith(("Rate limited", "Retrying")):
            say(f"the Hub keeps us waiting: {text}")
        return False

    bars = not are_progress_bars_disabled()
    client = logging.getLogger("huggingface_hub")
    handlers, propagates = client.handlers, client.propagate
    client.propagate = False
    disable_progress_bars()
    for handler in handlers:
        handler.addFilter(heard)
    try:
        yield
    finally:
        client.propagate = propagates
        for handler in handlers:
            handler.removeFilter(heard)
        if bars:
            enable_progress_bars()
