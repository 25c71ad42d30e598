"""Released checkpoints from the Hub: which file of a repository it is, its download, and what its licence claims.

`seungheondoh/lp-music-caps` holds `pretrain.pth`, `supervised.pth` and `transfer.pth` (1.78 GB each, two thirds of it
the optimiser's state), the training settings of each as a YAML file of the same name, recordings and a card. Any other
repository with a checkpoint in that format will do.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import yaml
from huggingface_hub import HfApi, ModelCard, ModelInfo, hf_hub_download, scan_cache_dir
from huggingface_hub.errors import (
    CacheNotFound,
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lpmc_errors import Interrupted, ModelError, disk_fault

logger = logging.getLogger(__name__)

RELEASED_REPOSITORY = "seungheondoh/lp-music-caps"
VARIANTS = ("transfer", "pretrain", "supervised")  # the released ones; other repositories may have others
# What the authors' code repository says (github.com/seungheondoh/lp-music-caps, readme.md at 12fcb31, December 2023).
PAPER_REPOSITORY_CLAIM = (
    "CC BY-NC 4.0 (readme of the authors' code on GitHub; the LICENSE file it refers to is missing)"
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt")
SETTINGS_SUFFIXES = (".yaml", ".yml")
FOLDER_SETTINGS = ("hparams.yaml", "hparams.yml")  # as the released training writes them beside last.pth
_PASSING = frozenset({408, 429, 500, 502, 503, 504})  # answers that another attempt may change


@dataclass(frozen=True)
class LicenceClaims:
    """What is said about the use of the weights, by whom; none of it is settled here."""

    hub: str | None  # `license` of the repository's card as it was read; None when it says nothing
    paper_repository: str | None  # of the authors' code; None for weights that are not the authors'

    @property
    def conflict(self) -> bool:
        """Whether the two say different things."""
        return bool(self.paper_repository) and not (self.hub or "").lower().startswith("cc-by-nc")

    def sentence(self) -> str:
        """One line for the person who converts."""
        said = f"the Hub card says {self.hub}" if self.hub else "the Hub card says nothing"
        if not self.paper_repository:
            return f"licence of the weights: {said}"
        line = f"licence of the weights: {said}; their authors' code repository says {self.paper_repository}"
        return (
            f"{line}: a conflict that only the authors can settle, use them at your own risk" if self.conflict else line
        )


@dataclass(frozen=True)
class ReleasedFile:
    """A checkpoint on this machine and where it came from."""

    path: Path
    repo_id: str
    revision: str  # the sha of the commit
    file: str  # path in the repository
    sha256: str
    licence: LicenceClaims
    settings_file: str | None = None  # the YAML of its training, path in the repository
    settings: dict[str, Any] = field(default_factory=dict)  # what stands in it


def is_hub_id(source: str) -> bool:
    """Whether `source` reads as ORG/NAME on the Hub and is not there as a file or folder."""
    named = HUB_ID.fullmatch(source) and not source.endswith(CHECKPOINT_SUFFIXES)
    return bool(named) and not Path(source).exists()


def fetch_released(
    repo_id: str, *, variant: str | None = None, file: str | None = None, revision: str | None = None
) -> ReleasedFile:
    """Download a released checkpoint, with the settings beside it and the licence that its card claims.

    Args:
        variant: what the file's name says: `transfer`, `pretrain` or `supervised` in the authors' repository.
        file: path in the repository, instead. With neither, the repository must hold a single checkpoint.
        revision: branch, tag or commit; the default branch by default.

    What lies in the cache of huggingface_hub is not downloaded again, and is used where there is no network.
    Raises `ModelError` when repository, revision or file are not there, when access is refused, the Hub can't be
    reached, or what came is not what the Hub lists; `Interrupted` when the connection was lost on the way; `DiskError`.
    """
    listed = _list_files(repo_id, revision)
    chosen = file if file is not None else choose_checkpoint(sorted(listed.sizes), variant, where=repo_id)
    if chosen not in listed.sizes:
        raise ModelError(f"{repo_id}/{chosen}", "no such file there", f"it holds {_named(sorted(listed.sizes))}")
    path = _download(repo_id, chosen, listed)
    digest = sha256_of(path)
    expected = listed.sha256.get(chosen)
    if expected and digest != expected:
        raise ModelError(path, f"it is not what {repo_id} lists (SHA-256)", "delete it from the cache and try again")
    settings_file = find_settings(chosen, listed.sizes)
    settings = read_settings(_download(repo_id, settings_file, listed)) if settings_file else {}
    return ReleasedFile(
        path=path,
        repo_id=repo_id,
        revision=listed.revision,
        file=chosen,
        sha256=digest,
        licence=LicenceClaims(
            hub=_card_licence(repo_id, listed),
            paper_repository=PAPER_REPOSITORY_CLAIM if repo_id.lower() == RELEASED_REPOSITORY else None,
        ),
        settings_file=settings_file,
        settings=settings,
    )


def choose_checkpoint(names: list[str], variant: str | None, *, where: str) -> str:
    """The one checkpoint among `names` that `variant` means; names may have folders.

    A variant is the file's name without suffix, else the folder it lies in, else a word of its path. Raises
    `ModelError` naming what is there when none or several fit.
    """
    there = [name for name in names if name.endswith(CHECKPOINT_SUFFIXES)]
    if not there:
        raise ModelError(where, "it holds no checkpoint (.pth)", f"it holds {_named(names)}")
    if variant is None:
        found = there
    else:
        wanted = variant.lower()
        tests = (
            lambda name: PurePosixPath(name).stem.lower() == wanted,
            lambda name: wanted in (part.lower() for part in PurePosixPath(name).parts[:-1]),
            lambda name: wanted in re.split(r"[^a-z0-9]+", name.lower()),
        )
        found = next((fitting for test in tests if (fitting := [name for name in there if test(name)])), [])
    if len(found) == 1:
        return found[0]
    if variant is None:
        raise ModelError(
            where, "it holds several checkpoints", f"choose with --variant or --file among {_named(there)}"
        )
    if not found:
        raise ModelError(where, f"it has no variant {variant!r}", f"it holds {_named(there)}; name one with --file")
    raise ModelError(where, f"{variant!r} fits several checkpoints", f"choose with --file among {_named(found)}")


def find_settings(checkpoint: str, names: Any) -> str | None:
    """The YAML of a checkpoint's training: of the same name, else hparams.yaml in its folder; None without one."""
    path = PurePosixPath(checkpoint)
    wanted = [str(path.with_suffix(suffix)) for suffix in SETTINGS_SUFFIXES]
    wanted += [str(path.with_name(name)) for name in FOLDER_SETTINGS]
    return next((name for name in wanted if name in names), None)


def read_settings(path: Path) -> dict[str, Any]:
    """The training settings in a YAML file, or nothing, with a warning, when it holds none."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        logger.warning("%s: it cannot be read (%s)", path, (str(error).splitlines() or ["no reason"])[0])
        return {}
    if not isinstance(loaded, dict):
        logger.warning("%s: it holds no settings", path)
        return {}
    return loaded


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# -- the Hub ------------------------------------------------------------------


@dataclass(frozen=True)
class _Listing:
    revision: str
    sizes: dict[str, int]  # path -> bytes
    sha256: dict[str, str]  # of what LFS keeps
    folder: Path | None = None  # the cache, where the Hub could not be asked


def _list_files(repo_id: str, revision: str | None) -> _Listing:
    try:
        return _listing(HfApi().model_info(repo_id, revision=revision, files_metadata=True))
    except OfflineModeIsEnabled as error:
        return _cached(repo_id, revision, "HF_HUB_OFFLINE is set", error)
    except (HfHubHTTPError, HFValidationError) as error:
        _explain(error, repo_id, revision)
    except (HTTPError, OSError) as error:
        return _cached(repo_id, revision, "the Hub cannot be reached", error)
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # no JSON, or JSON of something else
        return _cached(repo_id, revision, "what answered for the Hub is not the Hub, a page to sign in perhaps", error)


def _listing(info: ModelInfo) -> _Listing:
    siblings = info.siblings or []
    return _Listing(
        revision=info.sha or "",
        sizes={sibling.rfilename: sibling.size or 0 for sibling in siblings},
        sha256={sibling.rfilename: sibling.lfs.sha256 for sibling in siblings if sibling.lfs},
    )


def _cached(repo_id: str, revision: str | None, reason: str, error: Exception) -> _Listing:
    """What an earlier run has left in the cache."""
    folder = _snapshot(repo_id, revision)
    if folder is None:
        remedy = "connect, or give the path of a .pth file that is already here"
        raise ModelError(repo_id, f"{reason}, and it is not in the cache", remedy) from error
    logger.warning("%s: %s; taking what the cache holds at %s", repo_id, reason, folder.name)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return _Listing(folder.name, {name: path.stat().st_size for name, path in files.items()}, {}, folder)


def _snapshot(repo_id: str, revision: str | None) -> Path | None:
    """Where the cache has a revision (branch, tag or commit) of a repository; by default `main`, else the latest."""
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return None
    kept = [
        each for repo in repositories if (repo.repo_id, repo.repo_type) == (repo_id, "model") for each in repo.revisions
    ]
    fitting = [each for each in kept if revision in each.refs or (revision and each.commit_hash.startswith(revision))]
    if revision is None:
        fitting = [each for each in kept if "main" in each.refs] or sorted(kept, key=lambda each: each.last_modified)
    return fitting[-1].snapshot_path if fitting else None


def _download(repo_id: str, name: str, listed: _Listing) -> Path:
    if listed.folder is not None:
        return listed.folder / name
    size = listed.sizes[name]
    try:
        return Path(hf_hub_download(repo_id, name, revision=listed.revision))
    except HfHubHTTPError as error:
        if isinstance(error, EntryNotFoundError):
            raise ModelError(f"{repo_id}/{name}", "no such file there", "look at the repository's files") from error
        _explain(error, repo_id, listed.revision, name)
    except (HTTPError, OSError) as error:
        fault = disk_fault(error, name) if isinstance(error, OSError) else None
        if fault is not None:
            raise fault from error
        problem = f"the connection was lost while its {size / 1e6:,.1f} MB came down"
        raise Interrupted(f"{repo_id}/{name}", problem, "run the same command again") from error


def _card_licence(repo_id: str, listed: _Listing) -> str | None:
    """`license` of the card at that revision. The file is fetched for it, so that the cache has it later."""
    if "README.md" not in listed.sizes:
        return None
    try:
        card = ModelCard.load(_download(repo_id, "README.md", listed), ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError, yaml.YAMLError):
        return None
    said = card.get("license_name") if card.get("license") == "other" else card.get("license")
    names = said if isinstance(said, list) else [said]
    return ", ".join(str(name) for name in names if name) or None


def _explain(
    error: HfHubHTTPError | HFValidationError, repo_id: str, revision: str | None, name: str | None = None
) -> NoReturn:
    """Raise what a refusal of the Hub means to the person who asked."""
    item = f"{repo_id}/{name}" if name else repo_id
    if isinstance(error, HFValidationError):
        raise ModelError(item, "that is no name of a repository", "give ORG/NAME or the path of a .pth file") from error
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        problem, remedy = (
            "its owner wants to be asked first",
            "ask for access on its page, then sign in with `hf auth login`",
        )
    elif isinstance(error, RevisionNotFoundError):
        problem, remedy = f"it has no revision {revision!r}", "name a branch, tag or commit of it with --revision"
    elif isinstance(error, DisabledRepoError):
        problem, remedy = "the Hub has closed it", "look at its page"
    elif isinstance(error, RepositoryNotFoundError):  # also the answer to who may not see it
        problem, remedy = "there is no such model, or it is private", "check the name, or sign in with `hf auth login`"
    elif status in (401, 403):
        problem, remedy = f"the Hub refuses access ({status})", "check your token (`hf auth login`)"
    elif status in _PASSING:
        raise Interrupted(item, f"the Hub is busy or out of order ({status})", "run the same command again") from error
    else:
        problem, remedy = f"the Hub answers {status}", "look at its page, or try again later"
    raise ModelError(item, problem, remedy) from error


def _named(names: list[str], limit: int = 12) -> str:
    shown = ", ".join(names[:limit]) or "nothing"
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
