"""A small server of OpenAI's API for tests, over the standard library's HTTP; what it does depends on the model."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Barrier, Semaphore, Thread
from typing import Any

# Seconds that the model "slow" takes to its first token, and from when the client has got one to sending the next.
FIRST, GAP = 0.06, 0.03
TOGETHER = 3  # requests that the model "together" waits for before it answers any
KEY = "sesame"


class Handler(BaseHTTPRequestHandler):
    """Answers as `server.model_of` says, and notes every request in `server.asked`."""

    protocol_version = "HTTP/1.1"  # keeps connections
    server: "OddServer"
    used = False  # this connection, by an earlier request

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [_listed(*model) for model in self.server.models.items()]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.path, asked, headers, self.client_address))
        if self.path == "/tokenize":
            self._tokenize(asked)
        elif asked["model"] == "once" and self.used:
            self.close_connection = True
        elif asked["model"] == "busy":
            self._json(429, {"error": {"message": "come back\nlater", "type": "rate_limit"}})
        elif asked["model"] == "locked" and headers.get("authorization") != f"Bearer {KEY}":
            self._json(401, {"error": {"message": "who are you?"}})
        else:
            self._stream(asked)
        self.used = True

    def do_PUT(self) -> None:
        """Megatron's /api, for those with the key: a word after the prompt."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] == f"Bearer {KEY}":
            self._json(200, {"text": [f"{prompt} word" for prompt in asked["prompts"]]})
        else:
            self._json(401, {"message": "who are you?"})

    def _tokenize(self, asked: dict[str, Any]) -> None:
        if self.server.tokens is None:
            self._json(404, {"error": "no such route"})
        else:
            self._json(200, {"tokens": self.server.tokens if self.server.tokenizes in asked else []})

    def _stream(self, asked: dict[str, Any]) -> None:
        model, chat = asked["model"], "messages" in asked
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if chat:
            self._event({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        if model == "together":
            self.server.barrier.wait(timeout=60)
        if model == "silent":
            time.sleep(1.0)
        time.sleep(FIRST if model == "slow" else 0)
        count = 2 if model == "short" else asked["max_tokens"]
        for number in range(count):
            if number and model == "slow":
                self.server.received.acquire(timeout=60)
                time.sleep(GAP)
            if model == "failing" and number == 1:
                self._event({"error": {"message": "a rank is gone", "code": 500}})
                self._data("[DONE]")
                break
            if model == "cut" and number == 1:
                self.close_connection = True
                return
            last = "length" if number == count - 1 else None
            words = {"delta": {"content": " word"}} if chat else {"text": " word"}
            self._event({"choices": [{"index": 0, **words, "finish_reason": last}], "usage": None})
        else:
            self._end(asked, count)
        self.wfile.write(b"0\r\n\r\n")

    def _end(self, asked: dict[str, Any], count: int) -> None:
        if asked["model"] != "uncounted":
            assert asked["stream_options"] == {"include_usage": True}
            prompt = asked.get("prompt") or asked["messages"][0]["content"]
            length = len(prompt.split()) if isinstance(prompt, str) else len(prompt)
            self._event({"choices": [], "usage": {"prompt_tokens": length, "completion_tokens": count}})
        self._data("[DONE]")

    def _event(self, chunk: dict[str, Any]) -> None:
        self._data(json.dumps(chunk))

    def _data(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))

    def _json(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _listed(name: str, context: int | None) -> dict[str, Any]:
    return {"id": name} | ({} if context is None else {"max_model_len": context})


class OddServer(ThreadingHTTPServer):
    """`models` are those that it lists, with their context where it tells one. `tokens` is what /tokenize answers
    to a text in the field `tokenizes`, None for no such route; `asked` gets all requests in the order they came.
    """

    daemon_threads = True
    models: Mapping[str, int | None] = {"plain": None, "other": None, "little": 100}
    tokens: list[int] | None = None
    tokenizes = "prompt"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, Any], dict[str, str], Any]] = []
        self.barrier = Barrier(TOGETHER)
        self.received = Semaphore(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def sent(self) -> list[dict[str, Any]]:
        """The requests for text."""
        return [asked for path, asked, *_ in self.asked if path != "/tokenize"]

    def handle_error(self, *_: object) -> None:
        """A client that has gone."""


@contextmanager
def odd_server() -> Iterator[OddServer]:
    """A running server."""
    with OddServer() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
