"""The Hub double's repositories: accounts, settings, history, access requests, pull requests; and all of its routes."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

import yaml
from hub_files import API, FILE_ROUTES, LFS_PATTERNS, REVISION, URL_PREFIX, open_pull
from hub_http import HubRequest, Refusal, Route, front_matter, lfs_entry
from hub_state import ORGANISATIONS, USER, Commit, PullRequest, Repository, now

COMMITS_PAGE = 50  # entries of a history at once
_ALWAYS_SHOWN = ("_id", "id")  # also when `expand` names what is wanted


def whoami(request: HubRequest) -> None:
    if request.user is None:
        raise Refusal(401, "Invalid username or password.")
    names = ORGANISATIONS if request.user == USER else ()
    organisations = [
        {"type": "org", "id": name, "name": name, "fullname": name, "roleInOrg": "admin"} for name in names
    ]
    role = "read" if request.may_only_read else "write"
    request.reply(
        {
            "type": "user",
            "id": "0",
            "name": request.user,
            "fullname": request.user,
            "email": f"{request.user}@example.org",
            "isPro": False,
            "orgs": organisations,
            "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": role}},
        }
    )


def validate_card(request: HubRequest) -> None:
    """A few of the Hub's own rules; its full validation is not to be had offline."""
    asked = request.json_body()
    match = re.match(r"\s*---\r?\n(.*?)\n---", asked.get("content", ""), re.DOTALL)
    errors = []
    try:
        front = (yaml.safe_load(match.group(1)) if match else {}) or {}
    except yaml.YAMLError as error:
        front, errors = {}, [{"message": f"YAML: {error}"}]
    if not errors and asked.get("repoType") == "space" and "sdk" not in front:
        errors.append({"message": '"sdk" is required'})
    answer = {"errors": errors, "warnings": [], **({"error": errors[0]["message"]} if errors else {})}
    request.reply(answer, status=400 if errors else 200)


# -- repositories -------------------------------------------------------------


def create(request: HubRequest) -> None:
    asked = request.json_body()
    kind, owner = asked.get("type") or "model", asked.get("organization") or request.user
    if owner != request.user and not (request.user == USER and owner in ORGANISATIONS):
        raise Refusal(403, f"You don't have the rights to create a {kind} under the namespace {owner!r}.")
    repo_id = f"{owner}/{asked['name']}"
    url = f"{request.base}/{URL_PREFIX[kind]}{repo_id}"
    if (kind, repo_id) in request.state.repositories:
        return request.reply({"error": "You already created this repo", "url": url}, status=409)
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    settings: dict[str, Any] = {name: asked[name] for name in ("sdk", "hardware") if name in asked}
    repository = request.state.repositories[kind, repo_id] = Repository(kind, repo_id, private, settings)
    attributes = "\n".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text" for pattern in LFS_PATTERNS)
    files = {".gitattributes": request.state.store(attributes.encode())}
    if kind == "space":
        front = f"---\ntitle: {asked['name']}\nsdk: {asked.get('sdk')}\n---\n"
        files["README.md"] = request.state.store(front.encode())
    repository.commit("main", files, "initial commit")
    request.reply({"url": url, "name": repo_id, "id": repo_id})


def delete(request: HubRequest) -> None:
    asked = request.json_body()
    kind, repo_id = asked.get("type") or "model", f"{asked.get('organization') or request.user}/{asked['name']}"
    request.find_own(f"{kind}s", repo_id)
    del request.state.repositories[kind, repo_id]
    request.reply({})


def change_settings(request: HubRequest, kinds: str, repo_id: str) -> None:
    repository, asked = request.find_own(kinds, repo_id), request.json_body()
    if asked.get("gated", False) not in ("auto", "manual", False):
        raise Refusal(400, "gated must be auto, manual or false")
    if "private" in asked or "visibility" in asked:
        repository.private = bool(asked.get("private")) or asked.get("visibility") == "private"
    repository.settings |= asked
    request.reply(asked)


def accept(request: HubRequest, kinds: str, repo_id: str) -> None:
    """Secrets, variables, hardware and the like of a Space: remembered by nobody."""
    request.find(kinds, repo_id)
    request.reply({})


def list_repositories(request: HubRequest, kinds: str) -> None:
    wanted = (request.query.get("author", ""), request.query.get("search", ""))
    request.reply(
        [
            _describe(request, repository, repository.commits[repository.branches["main"]])
            for (kind, repo_id), repository in request.state.repositories.items()
            if f"{kind}s" == kinds and repo_id.startswith(wanted[0]) and wanted[1] in repo_id
            if not repository.private or request.state.is_owner(request.user, repository)
        ]
    )


def info(request: HubRequest, kinds: str, repo_id: str, revision: str = "main") -> None:
    repository = request.find(kinds, repo_id)
    described = _describe(request, repository, request.commit_of(repository, revision))
    wanted = request.queries.get("expand")
    if wanted:
        described = {name: value for name, value in described.items() if name in (*_ALWAYS_SHOWN, *wanted)}
    request.reply(described)


def _describe(request: HubRequest, repository: Repository, commit: Commit) -> dict[str, Any]:
    blobs = request.state.blobs
    card = front_matter(blobs[commit.files["README.md"].sha256]) if "README.md" in commit.files else {}
    detailed = request.query.get("blobs", "").lower() in ("1", "true")
    described: dict[str, Any] = {
        "_id": "0",
        "id": repository.id,
        "modelId": repository.id,
        "author": repository.owner,
        "sha": commit.sha,
        "private": repository.private,
        "gated": repository.gated,
        "disabled": False,
        "lastModified": commit.date,
        "createdAt": commit.date,
        "downloads": 0,
        "likes": 0,
        "tags": card.get("tags") or [],
        "cardData": card,
        "siblings": [
            {"rfilename": path}
            | ({"size": stored.size, "blobId": stored.git_oid, **lfs_entry("sha256", stored)} if detailed else {})
            for path, stored in sorted(commit.files.items())
        ],
    }
    if repository.kind == "space":
        hardware = {"current": "cpu-basic", "requested": repository.settings.get("hardware") or "cpu-basic"}
        described["sdk"] = card.get("sdk") or repository.settings.get("sdk")
        described["runtime"] = {"stage": "RUNNING", "hardware": hardware, "storage": None, "gcTimeout": 172800}
    if repository.kind == "model":
        config = commit.files.get("config.json")
        described["config"] = json.loads(blobs[config.sha256]) if config else {}
        described |= {name: card.get(name) for name in ("pipeline_tag", "library_name")}
    return described


# -- history ------------------------------------------------------------------


def list_refs(request: HubRequest, kinds: str, repo_id: str) -> None:
    repository = request.find(kinds, repo_id)
    own = {name: sha for name, sha in repository.branches.items() if not name.startswith("refs/")}
    pulls = {name: sha for name, sha in repository.branches.items() if name.startswith("refs/pr/")}
    shown = {
        "branches": [_ref(name, f"refs/heads/{name}", sha) for name, sha in own.items()],
        "tags": [_ref(name, f"refs/tags/{name}", sha) for name, sha in repository.tags.items()],
        "converts": [],
    }
    if request.query.get("include_prs") == "1":
        shown["pullRequests"] = [_ref(name.removeprefix("refs/"), name, sha) for name, sha in pulls.items()]
    request.reply(shown)


def _ref(name: str, ref: str, sha: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": sha}


def list_commits(request: HubRequest, kinds: str, repo_id: str, revision: str) -> None:
    repository = request.find(kinds, repo_id)
    listed = [
        {"id": commit.sha, "title": commit.title, "message": "", "date": commit.date, "authors": [{"user": USER}]}
        for commit in repository.history(request.commit_of(repository, revision).sha)
    ]
    request.reply_page(listed, COMMITS_PAGE)


def change_branch(request: HubRequest, kinds: str, repo_id: str, name: str) -> None:
    repository, name = request.find_own(kinds, repo_id), unquote(name)
    if name.startswith("refs/"):
        raise Refusal(400, f"Invalid reference for a branch: {name}")
    if request.command == "DELETE":
        if name == "main":
            raise Refusal(403, "The branch main cannot be deleted")
        if repository.branches.pop(name, None) is None:
            raise Refusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
    elif name in repository.branches:
        raise Refusal(409, "Reference already exists")
    else:
        start = request.json_body().get("startingPoint") or "main"
        repository.branches[name] = request.commit_of(repository, start).sha
    request.reply({})


def change_tag(request: HubRequest, kinds: str, repo_id: str, name: str) -> None:
    """POST tags the revision in the address with the name in the body; DELETE removes the tag in the address."""
    repository, name = request.find_own(kinds, repo_id), unquote(name)
    if request.command == "DELETE":
        if repository.tags.pop(name, None) is None:
            raise Refusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
    else:
        tag = request.json_body()["tag"]
        if tag in repository.tags:
            raise Refusal(409, "Tag reference exists already")
        repository.tags[tag] = request.commit_of(repository, name).sha
    request.reply({})


# -- access to gated repositories ---------------------------------------------


def list_access(request: HubRequest, kinds: str, repo_id: str, status: str) -> None:
    repository = request.find_own(kinds, repo_id)
    request.reply(
        [
            {"requestId": user, "user": {"user": user}, "status": state, "timestamp": now(), "fields": {}}
            for user, state in repository.access.items()
            if state == status
        ]
    )


def decide_access(request: HubRequest, kinds: str, repo_id: str, how: str) -> None:
    """`grant` lets a user in who may not even have asked; `handle` decides about a request."""
    repository, asked = request.find_own(kinds, repo_id), request.json_body()
    user = asked.get("user") or asked.get("requestId") or ""
    if user not in request.state.users.values():
        raise Refusal(404, "User not found")
    if how == "handle" and user not in repository.access:
        raise Refusal(404, "No access request found")
    repository.access[user] = "accepted" if how == "grant" else asked["status"]
    request.reply({})


def ask_access(request: HubRequest, prefix: str, repo_id: str) -> None:
    """What the button of the repository's page does; there is no such method in the clients."""
    repository = request.find(f"{prefix.strip('/') or 'models'}", repo_id)
    repository.access.setdefault(request.user or "", "accepted" if repository.gated == "auto" else "pending")
    request.reply({})


# -- pull requests ------------------------------------------------------------


def open_discussion(request: HubRequest, kinds: str, repo_id: str) -> None:
    repository, asked = request.find(kinds, repo_id), request.json_body()
    if not asked.get("pullRequest"):
        raise Refusal(501, "discussions without changes are not part of this double")
    request.reply({"num": open_pull(repository, asked["title"], request.user or "", status="draft").number})


def show_discussion(request: HubRequest, kinds: str, repo_id: str, number: str) -> None:
    repository, pull = _pull(request, kinds, repo_id, number)
    request.reply(
        {
            "num": pull.number,
            "title": pull.title,
            "status": pull.status,
            "author": {"name": pull.author},
            "createdAt": now(),
            "isPullRequest": True,
            "repo": {"name": repository.id, "type": repository.kind},
            "events": [],
            "filesWithConflicts": [],
            "changes": {"base": "refs/heads/main", "mergeCommitId": pull.merge_commit},
        }
    )


def merge_pull(request: HubRequest, kinds: str, repo_id: str, number: str) -> None:
    repository, pull = _pull(request, kinds, repo_id, number)
    request.find_own(kinds, repo_id)
    proposed = repository.commits[repository.branches[f"refs/pr/{pull.number}"]]
    pull.merge_commit = repository.commit("main", proposed.files, pull.title)
    pull.status = "merged"
    request.reply({})


def change_pull_status(request: HubRequest, kinds: str, repo_id: str, number: str) -> None:
    _, pull = _pull(request, kinds, repo_id, number)
    pull.status = request.json_body()["status"]
    request.reply({"newStatus": {"id": "0", "type": "status-change", "createdAt": now(), "data": {"status": "open"}}})


def _pull(request: HubRequest, kinds: str, repo_id: str, number: str) -> tuple[Repository, PullRequest]:
    repository = request.find(kinds, repo_id)
    if not 0 < int(number) <= len(repository.pulls):
        raise Refusal(404, "Discussion not found")
    return repository, repository.pulls[int(number) - 1]


_SPACE_THINGS = "hardware|secrets|variables|sleeptime|restart|pause|runtime"

ROUTES: tuple[Route, ...] = (
    ("GET", r"/api/whoami-v2", whoami),
    ("POST", r"/api/repos/create", create),
    ("DELETE", r"/api/repos/delete", delete),
    ("POST", r"/api/validate-yaml", validate_card),
    ("GET", r"/api/(?P<kinds>models|datasets|spaces)", list_repositories),
    ("GET HEAD", API, info),
    ("PUT", rf"{API}/settings", change_settings),
    ("GET HEAD", rf"{API}/revision/{REVISION}", info),
    ("GET", rf"{API}/refs", list_refs),
    ("GET", rf"{API}/commits/{REVISION}", list_commits),
    ("POST DELETE", rf"{API}/branch/(?P<name>[^/]+)", change_branch),
    ("POST DELETE", rf"{API}/tag/(?P<name>[^/]+)", change_tag),
    ("GET", rf"{API}/user-access-request/(?P<status>accepted|rejected|pending)", list_access),
    ("POST", rf"{API}/user-access-request/(?P<how>handle|grant)", decide_access),
    ("POST", r"/(?P<prefix>datasets/|spaces/|)(?P<repo_id>[\w.\-]+/[\w.\-]+)/ask-access", ask_access),
    ("POST", rf"{API}/discussions", open_discussion),
    ("GET", rf"{API}/discussions/(?P<number>\d+)", show_discussion),
    ("POST", rf"{API}/discussions/(?P<number>\d+)/merge", merge_pull),
    ("POST", rf"{API}/discussions/(?P<number>\d+)/status", change_pull_status),
    ("GET POST PUT DELETE", rf"{API}/(?:{_SPACE_THINGS})", accept),
    *FILE_ROUTES,
)
