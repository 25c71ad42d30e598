"""A chat-completions server on 127.0.0.1 that answers from the tags of the prompt and fails on request.

It speaks HTTP through the real client; only the language model behind it is replaced. `faults` decides per request:
given the number of the request (from 0) and its user message it returns None (answer well) or one of
`(status, headers, body)`, the string "cut" (close the connection), "garbage" (200 with no completion), "truncated" (the
connection ends in the middle of the answer), "drip" (a byte now and then, for ever), or a number of seconds to wait
before answering.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Any


def tags_of(message: str) -> str:
    """The tag list at the end of a prompt."""
    return message.rsplit("\n", 1)[-1].strip().removeprefix("attributes: ")


def good_answer(message: str) -> str:
    """What a faithful model would say."""
    tags = tags_of(message)
    if "python dictionary" in message:
        return json.dumps({"new_attribute": ["pleasant"], "description": f"A pleasant piece with {tags}."})
    return f"This is a piece with {tags}."


def completion(text: str | None, *, model: str = "double-answered", reason: str | None = "stop", **message: Any) -> Any:
    """The body of a good answer; `message` adds fields to its message."""
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text, **message}}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024  # hundreds of connections arrive at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet about clients that went away; everything else is a fault of the test."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class ChatDouble:
    """Use as a context manager; `url` is the base URL, `log` the user messages in order of arrival.

    `models` is what `GET /models` answers, as a fault; `port` brings a server back where an earlier one was.
    """

    def __init__(
        self,
        faults: Callable[[int, str], Fault] = lambda number, message: None,
        answer: Callable[[str], str] = good_answer,
        key: str | None = None,
        finish_reason: str = "stop",
        models: Fault = None,
        port: int = 0,
    ) -> None:
        self.log: list[str] = []
        self.checks = 0
        self.headers: list[dict[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body go in two writes: the second would wait 40 ms for an ACK

            def log_message(self, *arguments: Any) -> None:
                """Quiet: the log is kept as data."""

            def send(self, status: int, headers: dict[str, str], body: Any) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def refused(self) -> bool:
                if key is None or self.headers.get("authorization") == f"Bearer {key}":
                    return False
                given = self.headers.get("authorization", "")
                body = {"error": {"message": f"Incorrect API key provided: {given}", "code": "invalid_api_key"}}
                self.send(401, {}, body)
                return True

            def do_GET(self) -> None:
                double.checks += 1
                if isinstance(models, tuple):
                    self.send(*models)
                elif not self.refused():
                    if isinstance(models, float | int):
                        time.sleep(models)
                    self.send(200, {}, {"object": "list", "data": [{"id": "double", "object": "model"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.refused():
                    return
                message = body["messages"][-1]["content"]
                with double._lock:
                    number = len(double.log)
                    double.log.append(message)
                    double.bodies.append(body)
                    double.headers.append({name.lower(): value for name, value in self.headers.items()})
                    double._at_once += 1
                    double.most_at_once = max(double.most_at_once, double._at_once)
                try:
                    self.serve(body, message, faults(number, message))
                finally:
                    with double._lock:
                        double._at_once -= 1

            def serve(self, body: dict[str, Any], message: str, fault: Fault) -> None:
                if isinstance(fault, float | int):
                    time.sleep(fault)
                elif fault == "cut":
                    self.close_connection = True
                    self.connection.close()
                    return
                elif fault == "garbage":
                    self.send(200, {}, b"<html>busy</html>")
                    return
                elif fault in ("truncated", "drip"):
                    self.send_response(200)
                    self.send_header("content-length", "5000")
                    self.end_headers()
                    for _ in range(100 if fault == "drip" else 1):
                        self.wfile.write(b" ")
                        time.sleep(0.05)
                    self.close_connection = True
                    return
                elif isinstance(fault, tuple):
                    self.send(*fault)
                    return
                good = completion(answer(message), model=f"{body['model']}-answered", reason=finish_reason)
                self.send(200, {}, good)

        self._server = _Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> ChatDouble:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *arguments: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
