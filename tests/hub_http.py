"""One request to the Hub double: reading it, the faults it meets, who asks, what they may see, the answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from hub_state import Commit, HubState, Repository, StoredFile

Route = tuple[str, str, Callable[..., None]]  # methods, pattern of the path, answer(request, **groups of the pattern)


class Refusal(Exception):
    """An HTTP error answer; `code` is what the clients look for in X-Error-Code."""

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}


class _Dropped(Exception):
    """The connection is closed without an answer."""


class HubRequest(BaseHTTPRequestHandler):
    """A handler of http.server; `state` and `routes` are set by the double."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the body follows the headers at once: 40 ms less for each answer
    state: HubState
    routes: Sequence[Route]

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test output quiet; `HubState.log` has the requests."""

    def handle_request(self) -> None:
        address = urlsplit(self.path)
        self.queries = parse_qs(address.query)
        self.query = {name: values[-1] for name, values in self.queries.items()}
        fault = self.state.fault_of(f"{self.command} {address.path}")
        try:
            if fault is not None and fault.delay:
                time.sleep(fault.delay)
            self.payload = self._body(fault.cut_after if fault is not None else None)
            if fault is not None and fault.status:
                raise Refusal(fault.status, "a fault made for this test", headers=fault.headers)
            with self.state.lock:
                self._keep_to_limits(f"{self.command} {address.path}")
                self._lose_answer = fault is not None and fault.lose_answer
                self._route(address.path)
        except Refusal as refusal:
            self._refuse(refusal)
        except _Dropped:
            self.close_connection = True

    def _refuse(self, refusal: Refusal) -> None:
        try:
            self.reply({"error": refusal.message}, status=refusal.status, headers=refusal.headers)
        except _Dropped:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request
    _lose_answer = False

    def _body(self, cut_after: int | None) -> bytes:
        is_content = self.path.startswith("/__lfs/")
        parts: list[bytes] = []
        held = 0
        for part in self._body_parts():
            parts.append(part)
            held += len(part)
            if is_content:
                with self.state.lock:
                    self.state.received += len(part)
            if cut_after is not None and held >= cut_after:
                raise _Dropped
        if cut_after is not None:
            raise _Dropped
        return b"".join(parts)

    def _body_parts(self) -> Any:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            left = int(self.headers.get("Content-Length") or 0)
            while left > 0:
                part = self.rfile.read(min(left, 65_536))
                if not part:
                    raise _Dropped  # the client went away
                left -= len(part)
                yield part
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _keep_to_limits(self, request: str) -> None:
        for limit in self.state.limits:
            wait = limit.seconds_to_wait() if re.search(limit.pattern, request) else 0.0
            if wait > 0:
                headers = {
                    "RateLimit": f'"api";r=0;t={int(wait) + 1}',
                    "RateLimit-Policy": f'"fixed window";"api";q={limit.quota};w={int(limit.window)}',
                }
                raise Refusal(429, "We had to rate limit you.", headers=headers)

    def _route(self, path: str) -> None:
        if self._token and self.user is None and not path.startswith(("/__lfs/", "/__cdn/")):
            raise Refusal(401, "Invalid credentials in Authorization header")
        open_to_all = path.startswith("/__lfs/") or "/paths-info/" in path or path == "/api/validate-yaml"
        if self.command in ("POST", "PUT", "DELETE") and not open_to_all:
            if not self.signed_in:
                raise Refusal(401, "Invalid username or password.")
            if self._token in self.state.read_only_tokens:
                raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        for methods, pattern, answer in self.routes:
            match = re.fullmatch(pattern, path)
            if self.command in methods.split() and match:
                answer(self, **match.groupdict())
                return
        raise Refusal(404, f"no route {self.command} {path}")

    # -- who asks, and for what -----------------------------------------------

    @property
    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    @property
    def user(self) -> str | None:
        return self.state.user_of(self._token)

    @property
    def signed_in(self) -> bool:
        return self.user is not None

    @property
    def may_only_read(self) -> bool:
        return self._token in self.state.read_only_tokens

    @property
    def base(self) -> str:
        return f"http://{self.headers.get('Host')}"

    def json_body(self) -> dict[str, Any]:
        return json.loads(self.payload or b"{}")

    def find(self, kinds: str, repo_id: str) -> Repository:
        """`kinds` as in the addresses: `models`, `datasets`, `spaces`. What is private is there for its owners only."""
        found = self.state.repositories.get((kinds.removesuffix("s"), unquote(repo_id)))
        if found is None or (found.private and not self.state.is_owner(self.user, found)):
            raise Refusal(404 if self.signed_in else 401, "Repository not found", "RepoNotFound")
        return found

    def find_own(self, kinds: str, repo_id: str) -> Repository:
        """A repository that the user may change."""
        found = self.find(kinds, repo_id)
        if not self.state.is_owner(self.user, found):
            raise Refusal(403, f"You don't have the rights to write to {found.id}.")
        return found

    def check_gate(self, repository: Repository) -> None:
        """Refuse files of a gated repository to who was not let in. Its listing is open to all, as on the Hub."""
        allowed = repository.access.get(self.user or "") == "accepted"
        if not repository.gated or allowed or self.state.is_owner(self.user, repository):
            return
        text = f"Access to {repository.kind} {repository.id} is restricted."
        if not self.signed_in:
            text += " You must have access to it and be authenticated to access it. Please log in."
            raise Refusal(401, text, "GatedRepo")
        raise Refusal(403, f"{text} Visit its page to ask for access.", "GatedRepo")

    def commit_of(self, repository: Repository, revision: str) -> Commit:
        sha = repository.resolve(revision)
        if sha is None:
            raise Refusal(404, f"Invalid rev id: {unquote(revision)}", "RevisionNotFound")
        return repository.commits[sha]

    # -- answers --------------------------------------------------------------

    def reply(
        self, value: Any = None, *, status: int = 200, raw: bytes | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Answer with JSON or `raw` bytes, and write the request down."""
        if self._lose_answer:
            raise _Dropped
        content = raw if raw is not None else json.dumps(value).encode() if value is not None else b""
        self.state.log.append((self.command, self.path, status))
        kind = "application/json" if raw is None else "application/octet-stream"
        try:
            self.send_response(status)
            for name, text in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
        except OSError as error:  # the client was killed, or would not wait
            raise _Dropped from error

    def reply_page(self, items: Sequence[Any], size: int) -> None:
        """A page of a list, with a Link header to the next one, by which the clients go on."""
        start = int(self.query.get("cursor", 0))
        headers = {}
        if start + size < len(items):
            address = urlsplit(self.path)
            kept = "&".join(part for part in address.query.split("&") if part and not part.startswith("cursor="))
            headers["Link"] = f'<{self.base}{address.path}?{kept}&cursor={start + size}>; rel="next"'
        self.reply(items[start : start + size], headers=headers)


def front_matter(content: bytes) -> dict[str, Any]:
    """The front matter of a card, as JSON would hold it; nothing of it when it cannot be read."""
    match = re.match(rb"\s*---\r?\n(.*?)\n---", content, re.DOTALL)
    try:
        loaded = yaml.safe_load(match.group(1)) if match else None
    except yaml.YAMLError:
        loaded = None
    return json.loads(json.dumps(loaded if isinstance(loaded, dict) else {}, default=str))


def lfs_entry(name: str, stored: StoredFile) -> dict[str, Any]:
    """How listings tell that a file is kept in LFS; `name` is the key of its hash, which differs between them."""
    return {"lfs": {name: stored.sha256, "size": stored.size, "pointerSize": 130}} if stored.lfs else {}
