"""A server with OpenAI's `/files` and `/batches` on 127.0.0.1 that runs batches at once and ends them as it is told.

It speaks HTTP through the real client; only the provider behind it is replaced. Every answer names the prompt that it
belongs to, and output lines are shuffled, so an answer that reaches the wrong request shows. `endings[n]` says how the
n-th created batch (from 0) ends:

- "completed" (also without an entry), "expired" and "cancelled" (half of the requests ran), "no output" (every request
  was refused), "mixed" (output and error lines of many kinds), "strange" (unknown, repeated and broken lines),
  "short" (a line of the output is missing), "invalid" and "full" (failed before anything ran);
- "gone" (the batch's id is not known to this key), "emptied" (its output file is not there any more).

`faults` is asked before every call, given (method, path, number of the call, from 0), and returns None, a status, or
"cut" (close the connection when the call has had its effect) or "torn" (the same, in the middle of the answer).
"""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LINE_SEPARATOR = "\u2028"  # legal inside a JSON string, and a line's end to some readers


def answer_to(line: dict[str, Any]) -> str:
    """What the model says to a line of a batch file; it names the prompt."""
    return f"about{LINE_SEPARATOR}[{line['body']['messages'][-1]['content']}]"


class BatchDouble:
    """Use as a context manager; `url` is the base URL. `submitted` counts, by key, the requests that were run."""

    def __init__(
        self,
        endings: dict[int, str] | None = None,
        *,
        looks: int = 1,
        room: int | None = None,
        faults: Callable[[str, str, int], int | str | None] = lambda method, path, number: None,
        on_create: Callable[[], None] = lambda: None,
        has_batches: bool = True,
        keeps_metadata: bool = True,
    ) -> None:
        self.endings = endings or {}
        self.looks = looks  # looks at a batch until it ends
        self.room = room  # batches under way at once; one more fails with `token_limit_exceeded`
        self.faults = faults
        self.on_create = on_create
        self.has_batches = has_batches
        self.keeps_metadata = keeps_metadata
        self.calls: list[tuple[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.submitted: dict[str, int] = {}
        self.most_under_way = 0
        self._lock = threading.RLock()
        self._random = random.Random(7)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> BatchDouble:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *arguments: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    # --- what the provider does ------------------------------------------------------------------------------------

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        with self._lock:
            return self._file(self._keep(name, content))

    def _keep(self, name: str, content: bytes) -> str:
        identity = f"file-{len(self.files)}"
        self.files[identity], self.names[identity] = content, name
        return identity

    def _file(self, identity: str) -> dict[str, Any]:
        return {
            "id": identity,
            "object": "file",
            "bytes": len(self.files[identity]),
            "created_at": 0,
            "filename": self.names[identity],
            "purpose": "batch",
            "status": "processed",
        }

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            number = len(self.batches)
            identity = f"batch_{number}"
            batch = {
                "id": identity,
                "object": "batch",
                "endpoint": body["endpoint"],
                "completion_window": body["completion_window"],
                "input_file_id": body["input_file_id"],
                "metadata": body.get("metadata") if self.keeps_metadata else None,
                "created_at": number,
                "status": "validating",
                "output_file_id": None,
                "error_file_id": "",  # some providers say "" where there is none
                "request_counts": {"total": 0, "completed": 0, "failed": 0},
                "looks": 0,
                "ending": self.endings.get(number, "completed"),
            }
            under_way = sum(other["status"] in ("validating", "in_progress") for other in self.batches.values())
            self.batches[identity] = batch
            if self.room is not None and under_way >= self.room:
                batch["ending"] = "full"
            else:
                self.most_under_way = max(self.most_under_way, under_way + 1)
            if batch["ending"] in ("full", "invalid"):
                code, words = {
                    "full": ("token_limit_exceeded", "Enqueued token limit reached for double"),
                    "invalid": ("model_not_supported", "The model does not do batches"),
                }[batch["ending"]]
                data = [{"code": code, "message": words, "line": None, "param": None}]
                batch |= {"status": "failed", "errors": {"object": "list", "data": data}}
            else:
                for line in self._lines(batch):
                    self.submitted[line["custom_id"]] = self.submitted.get(line["custom_id"], 0) + 1
            return batch

    def _lines(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files[batch["input_file_id"]].split(b"\n") if line]

    def look(self, identity: str) -> dict[str, Any] | None:
        with self._lock:
            batch = self.batches.get(identity)
            if batch is None or batch["ending"] == "gone":
                return None
            batch["looks"] += 1
            if batch["status"] in ("validating", "in_progress"):
                if batch["looks"] > self.looks:
                    self._end(batch)
                else:
                    batch["status"] = "in_progress"
            return batch

    def _end(self, batch: dict[str, Any]) -> None:
        lines, ending = self._lines(batch), batch["ending"]
        half = len(lines) // 2 if ending in ("expired", "cancelled") else len(lines)
        output = [_answered(line) for line in lines[:half]]
        error = [_not_run(line, f"batch_{ending}") for line in lines[half:]] if ending == "expired" else []
        completed = half
        if ending == "no output":
            output, error = [], [_refused(line) for line in lines]
            completed = 0
        elif ending == "mixed":
            output, error = _mixed(lines)
        elif ending == "strange":
            output = _strange(output)
        self._random.shuffle(output)
        if ending == "short":
            output.pop()
        content = b"\n".join(json.dumps(line, ensure_ascii=False).encode() for line in output)
        if ending == "strange":
            content += b'\n{"custom_id": "cut off'
        batch["status"] = ending if ending in ("expired", "cancelled") else "completed"
        batch["output_file_id"] = self._keep("output", content) if output else None
        batch["error_file_id"] = self._keep("error", "\n".join(map(json.dumps, error)).encode()) if error else ""
        batch["request_counts"] = {"total": len(lines), "completed": completed, "failed": len(lines) - completed}
        if ending == "emptied":
            del self.files[batch["output_file_id"]]


def _answered(line: dict[str, Any], **changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer_to(line)} | changes.pop("message", {})
    body = {
        "id": "x",
        "object": "chat.completion",
        "model": f"{line['body']['model']}-answered",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message} | changes],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "b", "custom_id": line["custom_id"], "response": response, "error": None}


def _status(line: dict[str, Any], status: int, **error: Any) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "r", "body": {"error": {"message": "no", **error}}}
    return {"id": "b", "custom_id": line["custom_id"], "response": response, "error": None}


def _refused(line: dict[str, Any]) -> dict[str, Any]:
    return _status(line, 400, message="max_tokens is too large", type="invalid_request_error")


def _not_run(line: dict[str, Any], code: str) -> dict[str, Any]:
    return {"id": "b", "custom_id": line["custom_id"], "response": None, "error": {"code": code, "message": "no"}}


def _mixed(lines: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One line of each kind, and answers to the rest."""
    makers: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
        lambda line: _answered(line, finish_reason="length"),
        lambda line: _answered(line, message={"content": None}),
        lambda line: _status(line, 429, code="rate_limit_exceeded"),
        lambda line: _status(line, 503),
        lambda line: _status(line, 500),
        _refused,
    ]
    output = [make(line) for make, line in zip(makers, lines, strict=False)]
    error = [_not_run(line, "request_timeout") for line in lines[len(makers) : len(makers) + 1]]
    return output + [_answered(line) for line in lines[len(makers) + 1 :]], error


def _strange(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    stranger = output[0] | {"custom_id": "f" * 64}
    again = output[1] | {"response": None, "error": {"code": "batch_expired", "message": "late"}}
    return [*output, stranger, again, output[2], output[0] | {"custom_id": 7}]


def _handler(double: BatchDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet: apart they wait 40 ms for each other

        def log_message(self, *arguments: Any) -> None:
            """Quiet: the calls are kept as data."""

        def send(self, status: int, body: Any, *, torn: bool = False) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/octet-stream" if body is data else "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if torn else data)
            self.close_connection = torn

        def serve(self, method: str) -> None:
            address = urlsplit(self.path)
            path = address.path.removeprefix("/v1")
            content = self.rfile.read(int(self.headers["content-length"])) if method == "POST" else self._no_body()
            with double._lock:
                number = len(double.calls)
                double.calls.append((method, path))
            fault = double.faults(method, path, number)
            if isinstance(fault, int):
                self.send(fault, {"error": {"message": "no", "code": "double"}})
                return
            status, body = self.reply(method, path, parse_qs(address.query), content)
            if fault == "cut":
                self.close_connection = True
                self.connection.close()
                return
            self.send(status, body, torn=fault == "torn")

        def _no_body(self) -> bytes:
            return b""

        def reply(self, method: str, path: str, query: dict[str, list[str]], content: bytes) -> tuple[int, Any]:
            nothing = 404, {"error": {"message": f"nothing at {path}"}}
            if not double.has_batches:
                return nothing
            if (method, path) == ("GET", "/models"):
                return 200, {"object": "list", "data": []}
            if (method, path) == ("POST", "/chat/completions"):
                body = json.loads(content)
                message = {"role": "assistant", "content": answer_to({"body": body})}
                choices = [{"index": 0, "finish_reason": "stop", "message": message}]
                return 200, {"object": "chat.completion", "model": body["model"], "choices": choices}
            if (method, path) == ("POST", "/files"):
                head = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
                parts = message_from_bytes(head + content).get_payload()
                file = next(part for part in parts if part.get_filename())
                return 200, double.upload(file.get_filename(), file.get_payload(decode=True))
            if (method, path) == ("GET", "/files"):
                return 200, self.page([double._file(name) for name in double.files], query)
            if found := re.fullmatch(r"/files/([^/]+)/content", path):
                stored = double.files.get(found[1])
                return (200, stored) if stored is not None else nothing
            if (method, path) == ("POST", "/batches"):
                batch = double.create(json.loads(content))
                double.on_create()
                return 200, batch
            if (method, path) == ("GET", "/batches"):
                return 200, self.page(list(reversed(double.batches.values())), query)
            if found := re.fullmatch(r"/batches/([^/]+)", path):
                looked = double.look(found[1])
                return (200, looked) if looked is not None else nothing
            return nothing

        def page(self, rows: list[dict[str, Any]], query: dict[str, list[str]]) -> dict[str, Any]:
            after, limit = query.get("after", [""])[0], min(int(query.get("limit", ["20"])[0]), 2)
            start = next((number + 1 for number, row in enumerate(rows) if row["id"] == after), 0)
            data = rows[start : start + limit]
            return {"object": "list", "data": data, "has_more": start + limit < len(rows)}

        def do_GET(self) -> None:
            self.serve("GET")

        def do_POST(self) -> None:
            self.serve("POST")

    return Handler
