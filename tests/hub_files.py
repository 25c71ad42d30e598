"""The Hub double's files: listings, uploads through LFS, commits, downloads."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote

from hub_http import HubRequest, Refusal, Route, lfs_entry
from hub_state import PullRequest, Repository, StoredFile, now

URL_PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}
KIND_OF_PREFIX = {prefix: kind for kind, prefix in URL_PREFIX.items()}
# What the Hub's .gitattributes sends through LFS. Parquet must be among them: `push_to_hub` deletes each shard when it
# is uploaded and relies on not being asked for its content again.
LFS_PATTERNS = (
    *("*.parquet", "*.arrow", "*.safetensors", "*.bin", "*.npy", "*.tar", "*.zip"),
    *("*.wav", "*.flac", "*.mp3", "*.ogg"),
)
LFS_THRESHOLD = 10 * 2**20  # bytes above which the Hub wants LFS whatever the name
TREE_PAGE = 1_000  # entries of a listing at once; 50 when it is expanded
EXPANDED_TREE_PAGE = 50
SIGNATURE = "s3cr3t"  # of the addresses of content; nothing of it may reach a log


def tree(request: HubRequest, kinds: str, repo_id: str, revision: str, path: str | None) -> None:
    files = request.commit_of(request.find(kinds, repo_id), revision).files
    under = f"{unquote(path).strip('/')}/" if path and path.strip("/") else ""
    everything = {**dict.fromkeys(_folders(files)), **files}
    inside = {name: stored for name, stored in everything.items() if name.startswith(under)}
    if under and not inside:
        raise Refusal(404, f"{under} does not exist", "EntryNotFound")
    recursive = request.query.get("recursive", "").lower() in ("1", "true")
    shown = {name: stored for name, stored in inside.items() if recursive or "/" not in name[len(under) :]}
    expand = request.query.get("expand", "").lower() == "true"
    entries = [_entry(name, stored, expand) for name, stored in sorted(shown.items())]
    request.reply_page(entries, EXPANDED_TREE_PAGE if expand else TREE_PAGE)


def paths_info(request: HubRequest, kinds: str, repo_id: str, revision: str) -> None:
    files = request.commit_of(request.find(kinds, repo_id), revision).files
    try:
        asked: dict[str, Any] = request.json_body()
        paths, expand = asked["paths"], bool(asked.get("expand"))
    except ValueError:  # some clients send a form
        form = parse_qs(request.payload.decode())
        paths, expand = form.get("paths", []), form.get("expand", [""])[-1].lower() == "true"
    everything = {**dict.fromkeys(_folders(files)), **files}
    wanted = [paths] if isinstance(paths, str) else paths
    request.reply([_entry(path, everything[path], expand) for path in wanted if path in everything])


def _entry(path: str, stored: StoredFile | None, expand: bool) -> dict[str, Any]:
    if stored is None:
        entry: dict[str, Any] = {"type": "directory", "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
    else:
        entry = {"type": "file", "size": stored.size, "oid": stored.git_oid, **lfs_entry("oid", stored)}
    if expand:
        entry["lastCommit"] = {"id": "0" * 40, "title": "commit", "date": now()}
    return {"path": path, **entry}


def preupload(request: HubRequest, kinds: str, repo_id: str, revision: str) -> None:
    commit = request.commit_of(request.find(kinds, repo_id), revision)
    answers = []
    for asked in request.json_body()["files"]:
        path, here = asked["path"], commit.files.get(asked["path"])
        lfs = asked["size"] > LFS_THRESHOLD or any(fnmatch.fnmatch(path, pattern) for pattern in LFS_PATTERNS)
        mode = "lfs" if lfs else "regular"
        answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": here.etag if here else None})
    request.reply({"files": answers, "commitOid": commit.sha})


def lfs_batch(request: HubRequest, prefix: str, repo_id: str) -> None:
    """Where to put each object; nothing to do for those that this repository has received before."""
    kind = KIND_OF_PREFIX[prefix]
    repository = request.find_own(f"{kind}s", repo_id)
    objects = []
    for asked in request.json_body()["objects"]:
        answer: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in repository.lfs_objects:
            query = f"kind={kind}&id={repository.id}&X-Amz-Signature={SIGNATURE}"
            href = f"{request.state.storage_url}/__lfs/{asked['oid']}?{query}"
            answer["actions"] = {"upload": {"href": href, "header": {}}}
        objects.append(answer)
    request.reply({"transfer": "basic", "objects": objects})


def lfs_put(request: HubRequest, oid: str) -> None:
    _check_signature(request, "X-Amz-Signature")
    if hashlib.sha256(request.payload).hexdigest() != oid:
        raise Refusal(422, "sha256 mismatch")
    request.state.blobs[oid] = request.payload
    request.state.repositories[request.query["kind"], request.query["id"]].lfs_objects.add(oid)
    request.state.uploads.append((oid, len(request.payload)))
    request.reply({})


def add_commit(request: HubRequest, kinds: str, repo_id: str, revision: str) -> None:
    as_pull = request.query.get("create_pr") == "1"
    repository = request.find(kinds, repo_id) if as_pull else request.find_own(kinds, repo_id)
    branch = unquote(revision)
    if branch not in repository.branches:
        raise Refusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    head = repository.branches[branch]
    files = dict(repository.commits[head].files)
    title = ""
    for line in request.payload.splitlines():
        operation = json.loads(line)
        if operation["key"] == "header":
            title = operation["value"].get("summary", "")
            parent = operation["value"].get("parentCommit")
            if parent is not None and repository.resolve(parent) != head:
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        else:
            files = _changed(request, repository, files, operation["key"], operation["value"])
    url = f"{request.base}/{URL_PREFIX[repository.kind]}{repository.id}"
    answer = {"success": True, "hookOutput": ""}
    if as_pull:
        pull = open_pull(repository, title, request.user or "", status="open")
        branch, answer["pullRequestUrl"] = f"refs/pr/{pull.number}", f"{url}/discussions/{pull.number}"
    sha = repository.commit(branch, files, title)
    request.reply({**answer, "commitOid": sha, "commitUrl": f"{url}/commit/{sha}"})


def open_pull(repository: Repository, title: str, author: str, status: str) -> PullRequest:
    """A new pull request, whose branch starts at `main`."""
    pull = PullRequest(1 + len(repository.pulls), title, author, status)
    repository.pulls.append(pull)
    repository.branches[f"refs/pr/{pull.number}"] = repository.branches["main"]
    return pull


def _changed(
    request: HubRequest, repository: Repository, files: dict[str, StoredFile], what: str, value: dict[str, Any]
) -> dict[str, StoredFile]:
    path = value["path"]
    if what == "file":
        return {**files, path: request.state.store(base64.b64decode(value["content"]))}
    if what == "lfsFile":
        if value["oid"] not in repository.lfs_objects:
            raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {value['oid']}")
        return {**files, path: request.state.store(request.state.blobs[value["oid"]], lfs=True)}
    gone = {path} if what == "deletedFile" else {name for name in files if name.startswith(path.rstrip("/") + "/")}
    if not gone & files.keys():
        raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
    return {name: stored for name, stored in files.items() if name not in gone}


def resolve(request: HubRequest, prefix: str, repo_id: str, revision: str, path: str) -> None:
    """A file at a revision. What LFS keeps is a redirection to a signed address, as on the Hub."""
    repository = request.find(f"{KIND_OF_PREFIX[prefix]}s", repo_id)
    request.check_gate(repository)
    commit = request.commit_of(repository, revision)
    stored = commit.files.get(unquote(path))
    if stored is None:
        raise Refusal(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.sha})
    headers = {"ETag": f'"{stored.git_oid}"', "X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
    if stored.lfs:
        headers |= {"X-Linked-Etag": f'"{stored.sha256}"', "X-Linked-Size": str(stored.size)}
        headers["Location"] = f"{request.state.storage_url}/__cdn/{stored.sha256}?Signature={SIGNATURE}"
        return request.reply(raw=b"", status=302, headers=headers)
    _send(request, request.state.blobs[stored.sha256], headers)


def cdn(request: HubRequest, sha256: str) -> None:
    _check_signature(request, "Signature")
    _send(request, request.state.blobs[sha256], {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})


def _check_signature(request: HubRequest, name: str) -> None:
    """The storage knows no accounts: the signature in the address opens it, and a token beside it is a fault."""
    if "Authorization" in request.headers:
        raise Refusal(400, "Only one auth mechanism allowed")
    if request.query.get(name) != SIGNATURE:
        raise Refusal(403, "SignatureDoesNotMatch")


def _send(request: HubRequest, content: bytes, headers: dict[str, str]) -> None:
    """The content, or the one range of it that was asked for."""
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if asked is None or asked.groups() == ("", "") or not content:
        return request.reply(raw=content, headers=headers)
    first, last = asked.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    stop = min(int(last) + 1 if first and last else len(content), len(content))
    if start >= len(content):
        return request.reply(raw=b"", status=416, headers={"Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
    request.reply(raw=content[start:stop], status=206, headers=headers)


def _folders(files: dict[str, StoredFile]) -> set[str]:
    return {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}


REPO = r"(?P<repo_id>[\w.\-]+(?:/|%2F)[\w.\-]+)"
API = rf"/api/(?P<kinds>models|datasets|spaces)/{REPO}"
REVISION = r"(?P<revision>[^/]+)"
_PREFIX = r"/(?P<prefix>datasets/|spaces/|)"

FILE_ROUTES: tuple[Route, ...] = (
    ("GET", rf"{API}/tree/{REVISION}(?:/(?P<path>.*))?", tree),
    ("POST", rf"{API}/paths-info/{REVISION}", paths_info),
    ("POST", rf"{API}/preupload/{REVISION}", preupload),
    ("POST", rf"{API}/commit/{REVISION}", add_commit),
    ("POST", rf"{_PREFIX}{REPO}\.git/info/lfs/objects/batch", lfs_batch),
    ("PUT", r"/__lfs/(?P<oid>[0-9a-f]{64})", lfs_put),
    ("GET HEAD", r"/__cdn/(?P<sha256>[0-9a-f]{64})", cdn),
    ("GET HEAD", rf"{_PREFIX}{REPO}/resolve/{REVISION}/(?P<path>.+)", resolve),
)
