"""The HTTP side of the Hub double: one method an endpoint, and the table of routes at the end."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from hub_state import ORGANISATIONS, USER, Commit, HubState, Repository, StoredFile, now

URL_PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}
KIND_OF_PREFIX = {prefix: kind for kind, prefix in URL_PREFIX.items()}
# What the Hub's .gitattributes sends through LFS. Parquet must be among them: `push_to_hub` deletes each shard when it
# is uploaded and relies on not being asked for its content again.
LFS_PATTERNS = (
    *("*.parquet", "*.arrow", "*.safetensors", "*.bin", "*.npy", "*.tar", "*.zip"),
    *("*.wav", "*.flac", "*.mp3", "*.ogg"),
)
LFS_THRESHOLD = 10 * 2**20  # bytes above which the Hub wants LFS whatever the name


class Refusal(Exception):
    """An HTTP error answer; `code` is what the clients look for in X-Error-Code."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


class HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: HubState

    # -- one request ----------------------------------------------------------

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test output quiet; `HubState.log` has the requests."""

    def handle_request(self) -> None:
        address = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        self.payload = self._body()
        with self.state.lock:
            try:
                self._route(address.path)
            except Refusal as refusal:
                headers = {"X-Error-Message": refusal.message}
                if refusal.code:
                    headers["X-Error-Code"] = refusal.code
                self.reply({"error": refusal.message}, status=refusal.status, headers=headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _route(self, path: str) -> None:
        open_to_all = path.startswith("/__lfs/") or "/paths-info/" in path or path == "/api/validate-yaml"
        if self.command in ("POST", "PUT", "DELETE") and not open_to_all:
            if not self.signed_in:
                raise Refusal(401, "Invalid username or password.")
            if self._token in self.state.read_only_tokens:
                raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        for methods, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, path)
            if self.command in methods.split() and match:
                answer(self, **match.groupdict())
                return
        raise Refusal(404, f"no route {self.command} {path}")

    @property
    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    @property
    def signed_in(self) -> bool:
        return self._token in self.state.tokens | self.state.read_only_tokens

    @property
    def base(self) -> str:
        return f"http://{self.headers.get('Host')}"

    def reply(
        self, value: Any = None, *, status: int = 200, raw: bytes | None = None, headers: dict[str, str] | None = None
    ) -> None:
        content = raw if raw is not None else json.dumps(value).encode() if value is not None else b""
        self.state.log.append((self.command, self.path, status))
        self.send_response(status)
        kind = "application/json" if raw is None else "application/octet-stream"
        for name, text in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def json_body(self) -> dict[str, Any]:
        return json.loads(self.payload or b"{}")

    # -- looking things up ----------------------------------------------------

    def find(self, kinds: str, repo_id: str) -> Repository:
        """`kinds` as in the addresses: `models`, `datasets`, `spaces`. Without a token nothing private is there."""
        found = self.state.repositories.get((kinds.removesuffix("s"), unquote(repo_id)))
        if found is None or (found.private and not self.signed_in):
            raise Refusal(404 if self.signed_in else 401, "Repository not found", "RepoNotFound")
        return found

    def commit_of(self, repository: Repository, revision: str) -> Commit:
        sha = repository.resolve(revision)
        if sha is None:
            raise Refusal(404, f"Invalid rev id: {unquote(revision)}", "RevisionNotFound")
        return repository.commits[sha]

    def front_matter(self, commit: Commit) -> dict[str, Any]:
        card = commit.files.get("README.md")
        match = re.match(rb"\s*---\r?\n(.*?)\n---", self.state.blobs[card.sha256], re.DOTALL) if card else None
        try:
            loaded = yaml.safe_load(match.group(1)) if match else None
        except yaml.YAMLError:
            loaded = None
        return json.loads(json.dumps(loaded if isinstance(loaded, dict) else {}, default=str))

    def describe(self, repository: Repository, commit: Commit) -> dict[str, Any]:
        card = self.front_matter(commit)
        described: dict[str, Any] = {
            "_id": "0",
            "id": repository.id,
            "modelId": repository.id,
            "author": repository.id.split("/")[0],
            "sha": commit.sha,
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "lastModified": commit.date,
            "createdAt": commit.date,
            "downloads": 0,
            "likes": 0,
            "tags": card.get("tags") or [],
            "cardData": card,
            "siblings": [
                {"rfilename": path, "size": stored.size, "blobId": stored.git_oid, **_lfs_entry("sha256", stored)}
                for path, stored in sorted(commit.files.items())
            ],
        }
        if repository.kind == "space":
            hardware = {"current": "cpu-basic", "requested": repository.settings.get("hardware") or "cpu-basic"}
            described["sdk"] = card.get("sdk") or repository.settings.get("sdk")
            described["runtime"] = {"stage": "RUNNING", "hardware": hardware, "storage": None, "gcTimeout": 172800}
        if repository.kind == "model":
            config = commit.files.get("config.json")
            described["config"] = json.loads(self.state.blobs[config.sha256]) if config else {}
            described |= {name: card.get(name) for name in ("pipeline_tag", "library_name")}
        return described

    # -- account and repositories ---------------------------------------------

    def whoami(self) -> None:
        if not self.signed_in:
            raise Refusal(401, "Invalid username or password.")
        organisations = [
            {"type": "org", "id": name, "name": name, "fullname": name, "roleInOrg": "admin"} for name in ORGANISATIONS
        ]
        role = "read" if self._token in self.state.read_only_tokens else "write"
        self.reply(
            {
                "type": "user",
                "id": "0",
                "name": USER,
                "fullname": USER,
                "email": "tester@example.org",
                "isPro": False,
                "orgs": organisations,
                "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": role}},
            }
        )

    def create(self) -> None:
        asked = self.json_body()
        kind, owner = asked.get("type") or "model", asked.get("organization") or USER
        if owner not in (USER, *ORGANISATIONS):
            raise Refusal(403, f"You don't have the rights to create a {kind} under the namespace {owner!r}.")
        repo_id = f"{owner}/{asked['name']}"
        url = f"{self.base}/{URL_PREFIX[kind]}{repo_id}"
        if (kind, repo_id) in self.state.repositories:
            return self.reply({"error": "You already created this repo", "url": url}, status=409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        settings: dict[str, Any] = {name: asked[name] for name in ("sdk", "hardware") if name in asked}
        repository = self.state.repositories[kind, repo_id] = Repository(kind, repo_id, private, settings)
        attributes = "\n".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text" for pattern in LFS_PATTERNS)
        files = {".gitattributes": self.state.store(attributes.encode())}
        if kind == "space":
            front = f"---\ntitle: {asked['name']}\nsdk: {asked.get('sdk')}\n---\n"
            files["README.md"] = self.state.store(front.encode())
        repository.commit("main", files, "initial commit")
        self.reply({"url": url, "name": repo_id, "id": repo_id})

    def delete(self) -> None:
        asked = self.json_body()
        key = (asked.get("type") or "model", f"{asked.get('organization') or USER}/{asked['name']}")
        if self.state.repositories.pop(key, None) is None:
            raise Refusal(404, "Repository not found", "RepoNotFound")
        self.reply({})

    def change_settings(self, kinds: str, repo_id: str) -> None:
        repository, asked = self.find(kinds, repo_id), self.json_body()
        if "private" in asked or "visibility" in asked:
            repository.private = bool(asked.get("private")) or asked.get("visibility") == "private"
        repository.settings |= asked
        self.reply(asked)

    def accept(self, kinds: str, repo_id: str) -> None:
        """Secrets, variables, hardware and the like of a Space: remembered by nobody."""
        self.find(kinds, repo_id)
        self.reply({})

    def list_repositories(self, kinds: str) -> None:
        wanted = (self.query.get("author", ""), self.query.get("search", ""))
        self.reply(
            [
                self.describe(repository, repository.commits[repository.branches["main"]])
                for (kind, repo_id), repository in self.state.repositories.items()
                if f"{kind}s" == kinds and repo_id.startswith(wanted[0]) and wanted[1] in repo_id
                if not repository.private or self.signed_in
            ]
        )

    def info(self, kinds: str, repo_id: str, revision: str = "main") -> None:
        repository = self.find(kinds, repo_id)
        self.reply(self.describe(repository, self.commit_of(repository, revision)))

    # -- history --------------------------------------------------------------

    def list_refs(self, kinds: str, repo_id: str) -> None:
        repository = self.find(kinds, repo_id)
        branches = {name: sha for name, sha in repository.branches.items() if not name.startswith("refs/")}
        self.reply(
            {
                "branches": [_ref("heads", name, sha) for name, sha in branches.items()],
                "tags": [_ref("tags", name, sha) for name, sha in repository.tags.items()],
                "converts": [],
                "pullRequests": [],
            }
        )

    def list_commits(self, kinds: str, repo_id: str, revision: str) -> None:
        repository = self.find(kinds, repo_id)
        commit: Commit | None = self.commit_of(repository, revision)
        listed = []
        while commit is not None:
            authors = [{"user": USER}]
            listed.append(
                {"id": commit.sha, "title": commit.title, "message": "", "date": commit.date, "authors": authors}
            )
            commit = repository.commits[commit.parent] if commit.parent else None
        self.reply(listed)

    def change_branch(self, kinds: str, repo_id: str, name: str) -> None:
        repository, name = self.find(kinds, repo_id), unquote(name)
        if self.command == "DELETE":
            repository.branches.pop(name, None)
        elif name in repository.branches:
            raise Refusal(409, "Reference already exists")
        else:
            start = self.json_body().get("startingPoint") or "main"
            repository.branches[name] = self.commit_of(repository, start).sha
        self.reply({})

    def change_tag(self, kinds: str, repo_id: str, name: str) -> None:
        """POST tags the revision in the address with the name in the body; DELETE removes the tag in the address."""
        repository, name = self.find(kinds, repo_id), unquote(name)
        if self.command == "DELETE":
            repository.tags.pop(name, None)
        else:
            tag = self.json_body()["tag"]
            if tag in repository.tags:
                raise Refusal(409, "Tag reference exists already")
            repository.tags[tag] = self.commit_of(repository, name).sha
        self.reply({})

    # -- content --------------------------------------------------------------

    def entry(self, path: str, stored: StoredFile | None) -> dict[str, Any]:
        if stored is None:
            return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
        entry = {"type": "file", "path": path, "size": stored.size, "oid": stored.git_oid, **_lfs_entry("oid", stored)}
        if self.query.get("expand", "").lower() == "true":
            entry["lastCommit"] = {"id": "0" * 40, "title": "commit", "date": now()}
        return entry

    def tree(self, kinds: str, repo_id: str, revision: str, path: str | None) -> None:
        files = self.commit_of(self.find(kinds, repo_id), revision).files
        under = f"{unquote(path).strip('/')}/" if path and path.strip("/") else ""
        everything = {**dict.fromkeys(_folders(files)), **files}
        inside = {name: stored for name, stored in everything.items() if name.startswith(under)}
        if under and not inside:
            raise Refusal(404, f"{under} does not exist", "EntryNotFound")
        recursive = self.query.get("recursive", "").lower() in ("1", "true")
        shown = {name: stored for name, stored in inside.items() if recursive or "/" not in name[len(under) :]}
        self.reply([self.entry(name, stored) for name, stored in sorted(shown.items())])

    def paths_info(self, kinds: str, repo_id: str, revision: str) -> None:
        files = self.commit_of(self.find(kinds, repo_id), revision).files
        try:
            paths = self.json_body()["paths"]
        except ValueError:  # some clients send a form
            paths = parse_qs(self.payload.decode()).get("paths", [])
        everything = {**dict.fromkeys(_folders(files)), **files}
        asked = [paths] if isinstance(paths, str) else paths
        self.reply([self.entry(path, everything[path]) for path in asked if path in everything])

    def preupload(self, kinds: str, repo_id: str, revision: str) -> None:
        commit = self.commit_of(self.find(kinds, repo_id), revision)
        answers = []
        for asked in self.json_body()["files"]:
            path, here = asked["path"], commit.files.get(asked["path"])
            lfs = asked["size"] > LFS_THRESHOLD or any(fnmatch.fnmatch(path, pattern) for pattern in LFS_PATTERNS)
            mode = "lfs" if lfs else "regular"
            answers.append(
                {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": here.etag if here else None}
            )
        self.reply({"files": answers, "commitOid": commit.sha})

    def lfs_batch(self, prefix: str, repo_id: str) -> None:
        objects = []
        for asked in self.json_body()["objects"]:
            upload = {"href": f"{self.base}/__lfs/{asked['oid']}", "header": {}}
            missing = asked["oid"] not in self.state.blobs
            objects.append(
                {"oid": asked["oid"], "size": asked["size"], **({"actions": {"upload": upload}} if missing else {})}
            )
        self.reply({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.payload).hexdigest() != oid:
            raise Refusal(422, "sha256 mismatch")
        self.state.blobs[oid] = self.payload
        self.reply({})

    def add_commit(self, kinds: str, repo_id: str, revision: str) -> None:
        repository, branch = self.find(kinds, repo_id), unquote(revision)
        if branch not in repository.branches:
            raise Refusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        files = dict(repository.commits[repository.branches[branch]].files)
        title = ""
        for line in self.payload.splitlines():
            operation = json.loads(line)
            what, value = operation["key"], operation["value"]
            if what == "header":
                title = value.get("summary", "")
                if value.get("parentCommit") not in (None, repository.branches[branch]):
                    raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            elif what == "file":
                files[value["path"]] = self.state.store(base64.b64decode(value["content"]))
            elif what == "lfsFile":
                if value["oid"] not in self.state.blobs:
                    raise Refusal(400, f"LFS object {value['oid']} was never uploaded")
                files[value["path"]] = self.state.store(self.state.blobs[value["oid"]], lfs=True)
            elif what == "deletedFile":
                files.pop(value["path"], None)
            elif what == "deletedFolder":
                files = {name: f for name, f in files.items() if not name.startswith(value["path"].rstrip("/") + "/")}
        url = f"{self.base}/{URL_PREFIX[repository.kind]}{repository.id}"
        answer = {"success": True, "hookOutput": ""}
        if self.query.get("create_pr") == "1":
            number = 1 + sum(name.startswith("refs/pr/") for name in repository.branches)
            repository.branches[f"refs/pr/{number}"] = repository.branches[branch]
            branch, answer["pullRequestUrl"] = f"refs/pr/{number}", f"{url}/discussions/{number}"
        sha = repository.commit(branch, files, title)
        self.reply({**answer, "commitOid": sha, "commitUrl": f"{url}/commit/{sha}"})

    def resolve(self, prefix: str, repo_id: str, revision: str, path: str) -> None:
        commit = self.commit_of(self.find(f"{KIND_OF_PREFIX[prefix]}s", repo_id), revision)
        stored = commit.files.get(unquote(path))
        if stored is None:
            headers = {
                "X-Error-Code": "EntryNotFound",
                "X-Error-Message": "Entry not found",
                "X-Repo-Commit": commit.sha,
            }
            return self.reply({"error": "Entry not found"}, status=404, headers=headers)
        content = self.state.blobs[stored.sha256]
        headers = {"ETag": f'"{stored.etag}"', "X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        if stored.lfs:
            headers |= {"X-Linked-Etag": f'"{stored.sha256}"', "X-Linked-Size": str(stored.size)}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None or not content:
            return self.reply(raw=content, headers=headers)
        first, last = asked.groups()
        start = int(first) if first else max(0, len(content) - int(last))
        stop = min(int(last) + 1 if first and last else len(content), len(content))
        if start >= len(content):
            return self.reply(raw=b"", status=416, headers={"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        self.reply(raw=content[start:stop], status=206, headers=headers)

    def validate_card(self) -> None:
        """A few of the Hub's own rules; its full validation is not to be had offline."""
        asked = self.json_body()
        match = re.match(r"\s*---\r?\n(.*?)\n---", asked.get("content", ""), re.DOTALL)
        errors = []
        try:
            front = (yaml.safe_load(match.group(1)) if match else {}) or {}
        except yaml.YAMLError as error:
            front, errors = {}, [{"message": f"YAML: {error}"}]
        if not errors and asked.get("repoType") == "space" and "sdk" not in front:
            errors.append({"message": '"sdk" is required'})
        answer = {"errors": errors, "warnings": [], **({"error": errors[0]["message"]} if errors else {})}
        self.reply(answer, status=400 if errors else 200)


def _lfs_entry(name: str, stored: StoredFile) -> dict[str, Any]:
    return {"lfs": {name: stored.sha256, "size": stored.size, "pointerSize": 130}} if stored.lfs else {}


def _ref(kind: str, name: str, sha: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}


def _folders(files: dict[str, StoredFile]) -> set[str]:
    return {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}


_REPO = r"(?P<repo_id>[\w.\-]+(?:/|%2F)[\w.\-]+)"
_API = rf"/api/(?P<kinds>models|datasets|spaces)/{_REPO}"
_REVISION = r"(?P<revision>[^/]+)"
_PREFIX = r"/(?P<prefix>datasets/|spaces/|)"

ROUTES: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("GET", r"/api/whoami-v2", HubHandler.whoami),
    ("POST", r"/api/repos/create", HubHandler.create),
    ("DELETE", r"/api/repos/delete", HubHandler.delete),
    ("POST", r"/api/validate-yaml", HubHandler.validate_card),
    ("GET", r"/api/(?P<kinds>models|datasets|spaces)", HubHandler.list_repositories),
    ("GET HEAD", _API, HubHandler.info),
    ("PUT", rf"{_API}/settings", HubHandler.change_settings),
    ("GET HEAD", rf"{_API}/revision/{_REVISION}", HubHandler.info),
    ("GET", rf"{_API}/refs", HubHandler.list_refs),
    ("GET", rf"{_API}/commits/{_REVISION}", HubHandler.list_commits),
    ("POST DELETE", rf"{_API}/branch/(?P<name>[^/]+)", HubHandler.change_branch),
    ("POST DELETE", rf"{_API}/tag/(?P<name>[^/]+)", HubHandler.change_tag),
    ("GET", rf"{_API}/tree/{_REVISION}(?:/(?P<path>.*))?", HubHandler.tree),
    ("POST", rf"{_API}/paths-info/{_REVISION}", HubHandler.paths_info),
    ("POST", rf"{_API}/preupload/{_REVISION}", HubHandler.preupload),
    ("POST", rf"{_API}/commit/{_REVISION}", HubHandler.add_commit),
    (
        "GET POST PUT DELETE",
        rf"{_API}/(?:hardware|secrets|variables|sleeptime|restart|pause|runtime)",
        HubHandler.accept,
    ),
    ("POST", rf"{_PREFIX}{_REPO}\.git/info/lfs/objects/batch", HubHandler.lfs_batch),
    ("PUT", r"/__lfs/(?P<oid>[0-9a-f]{64})", HubHandler.lfs_put),
    ("GET HEAD", rf"{_PREFIX}{_REPO}/resolve/{_REVISION}/(?P<path>.+)", HubHandler.resolve),
)
