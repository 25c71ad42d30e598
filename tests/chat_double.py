"""A chat-completions server on 127.0.0.1 that answers from the tags of the prompt and fails on request.

It speaks HTTP through the real client; only the language model behind it is replaced. `faults` decides per request:
given the number of the request (from 0) and its user message it returns None (answer well) or one of
`(status, headers, body)`, the string "cut" (close the connection), "garbage" (200 with no completion), or a number of
seconds to wait before answering.
"""

from __future__ import annotations

import json
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


class ChatDouble:
    """Use as a context manager; `url` is the base URL, `log` the user messages in order of arrival."""

    def __init__(
        self,
        faults: Callable[[int, str], Fault] = lambda number, message: None,
        answer: Callable[[str], str] = good_answer,
        key: str | None = None,
        finish_reason: str = "stop",
    ) -> None:
        self.log: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

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
                if not self.refused():
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
                elif isinstance(fault, tuple):
                    self.send(*fault)
                    return
                self.send(
                    200,
                    {},
                    {
                        "id": "x",
                        "object": "chat.completion",
                        "created": 0,
                        "model": f"{body['model']}-answered",
                        "choices": [
                            {
                                "index": 0,
                                "finish_reason": finish_reason,
                                "message": {"role": "assistant", "content": answer(message)},
                            }
                        ],
                        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
                    },
                )

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> ChatDouble:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *arguments: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
