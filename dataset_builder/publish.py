"""The data set directory to the Hub, as it lies there: checked first, and nothing but what belongs to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from hub_cards.facts import MAKING_FILE, PIPELINE_FILE, config_names, read_making, shard_files
from hub_cards.licences import source_licence
from hub_cards.lint import CARD, lint_dataset
from hub_cards.render import LICENCES_FILE
from lpmc_errors import LpmcError, UsageError

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")
_TOKEN = re.compile(r"hf_\w+")
_SIGN_IN = "sign in with `hf auth login`, or set HF_TOKEN to a token that may write there"


class HubError(LpmcError):
    """The Hub refused, could not be reached, or holds something that a push would damage."""


def push_dataset(directory: Path, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """Publish the data set directory as the Hub repository `repo_id` and return its address.

    The directory is linted first; a card whose counts do not fit, an absolute path or an access key stops the push.
    Only the card, the licences and the files of the configurations are sent. Shards that a configuration no longer has
    are deleted there. `token` defaults to the one that `hf auth login` or HF_TOKEN gave.

    Raises `UsageError` (a name without namespace, no data set), `LpmcError` (lint) and `HubError`: no access, no
    network, a public repository for audio that may not be redistributed or for a push that was to be private, or
    configurations on the Hub that the directory lacks and its card would hide.
    """
    _check_repo_id(repo_id)
    files = published_files(directory)
    configs = config_names(directory)
    _check_content(directory, configs, private)
    api = HfApi(token=token)
    with _hub_faults_named(repo_id, token):
        address = str(api.create_repo(repo_id, repo_type="dataset", private=private or None, exist_ok=True))
        if private and not api.dataset_info(repo_id).private:
            raise HubError(
                repo_id, "exists and is public, but --private was asked for", "make it private there, or choose another"
            )
        _check_remote(api, repo_id, configs)
        api.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=directory,
            allow_patterns=files,
            delete_patterns=[f"{config}/*.parquet" for config in configs],
            commit_message=f"Add {', '.join(configs)}",
        )
    return address


def published_files(directory: Path) -> list[str]:
    """The files of a data set directory that are sent to the Hub, relative to it; anything else in it stays at home.

    Raises `UsageError` when `directory` is no data set.
    """
    configs = config_names(directory) if directory.is_dir() else []
    if not configs or not (directory / CARD).is_file():
        raise UsageError(directory, "is no data set directory", "make one with `lpmc build`")
    paths = [directory / CARD, directory / LICENCES_FILE]
    for config in configs:
        paths += [directory / config / MAKING_FILE, directory / config / PIPELINE_FILE]
        paths += [path for files in shard_files(directory / config).values() for path in files]
    return [path.relative_to(directory).as_posix() for path in paths if path.is_file()]


def _check_repo_id(repo_id: str) -> None:
    if "/" not in repo_id:
        raise UsageError(
            f"--repo {repo_id}",
            "has no namespace",
            f"write USER/{repo_id or 'NAME'} or ORGANISATION/{repo_id or 'NAME'}",
        )
    if not _REPO_ID.fullmatch(repo_id) or len(repo_id) > 96 or ".." in repo_id or "--" in repo_id:
        raise UsageError(
            f"--repo {repo_id}", "is no name of a repository", "write USER/NAME with letters, digits, -, _ and ."
        )


def _check_content(directory: Path, configs: list[str], private: bool) -> None:
    problems = lint_dataset(directory)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise LpmcError(
            directory / problems[0].path, f"{problems[0].message}{more}", "run `lpmc build` again, then push"
        )
    if private:
        return
    for config in configs:
        making = read_making(directory / config)
        bound = [
            source_licence(name).title for name in making.sources if not source_licence(name).audio_redistributable
        ]
        if making.audio_embedded is not None and bound:
            raise HubError(
                directory / config,
                f"carries audio of {' and '.join(bound)}, which may not be redistributed",
                "build it without --audio-root, or push with --private",
            )


def _check_remote(api: HfApi, repo_id: str, configs: list[str]) -> None:
    there = {
        name.split("/")[0] for name in api.list_repo_files(repo_id, repo_type="dataset") if name.endswith(MAKING_FILE)
    }
    missing = sorted(there - set(configs))
    if missing:
        raise HubError(
            repo_id,
            f"holds the configuration(s) {', '.join(missing)}, which this directory lacks and its card would hide",
            f"fetch them first: hf download {repo_id} --repo-type dataset --local-dir DIR",
        )


@contextmanager
def _hub_faults_named(repo_id: str, token: str | None) -> Iterator[None]:
    """Turn what the client raises into one line for the person at the keyboard, with no token in it."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise HubError(repo_id, "HF_HUB_OFFLINE is set", "unset it to publish") from error
    except LocalTokenNotFoundError as error:
        raise HubError(repo_id, "no token was found", _SIGN_IN) from error
    except GatedRepoError as error:
        raise HubError(repo_id, "is gated and your account has no access", "ask for access on its page") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise HubError(repo_id, "the Hub does not know the token, or none was given (401)", _SIGN_IN) from error
        if status == 403:
            raise HubError(repo_id, "your token may not write there (403)", _SIGN_IN) from error
        if isinstance(error, RepositoryNotFoundError) or status == 404:
            raise HubError(repo_id, "not found on the Hub, or not visible with this token (404)", _SIGN_IN) from error
        said = _scrubbed(error.server_message or str(error), token)
        remedy = (
            "wait a little and push again: what was sent already is kept" if status in (412, 429, 500, 502, 503) else ""
        )
        raise HubError(repo_id, f"the Hub answered {status}: {said}", remedy) from error
    except (HTTPError, ConnectionError) as error:
        raise HubError(
            repo_id, f"the Hub cannot be reached ({_scrubbed(str(error), token)})", "check the network and HF_ENDPOINT"
        ) from error


def _scrubbed(text: str, token: str | None) -> str:
    line = " ".join(text.split())
    return _TOKEN.sub("hf_...", line.replace(token, "hf_...") if token else line)
