"""A local chat-completions endpoint that fails on a schedule."""

import contextlib
import email.utils
import hashlib
import http.server
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

KEY = "sk-a-secret-that-no-file-may-hold"
FAULTS = (
    "401",
    "429",
    "429 seconds",
    "429 date",
    "500",
    "time-out",
    "broken body",
    "hang up",
    "cut off",
    "half JSON",
    "empty",
    "target",
)
UNBILLED = {"401", "429", "429 seconds", "429 date", "500"}
UNKNOWN_COST = {"time-out", "broken body", "hang up"}
"""Faults of billed requests whose usage does not reach the client."""

RETRY_SECONDS = 0.15
GOOD = {
    "en": "this user likes what is of warm light and quiet make, number {number}",
    "zh": "这位用户喜欢温暖安静的东西 , 第{number}次",
}


class ChatServer:
    """Records requests and what it would bill.

    Attributes:
        plan: Request number, from 0 -> fault, "" for none.
        requests: The bodies of requests, in the order of arrival.
        times: Arrival of each request in seconds of a monotonic clock.
        faults: Fault of each request.
        billed: Tokens in and out of all billed requests.
        reported: The same of those whose usage reaches the client.
        earliest: Number of a request with Retry-After -> earliest time of the next one.
        most_at_once: Largest number of requests in progress.
    """

    def __init__(self, plan: Callable[[int], str], delay: float) -> None:
        self.plan, self.delay = plan, delay
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.faults: list[str] = []
        self.earliest: dict[int, float] = {}
        self.billed, self.reported = [0, 0], [0, 0]
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""
        self.slow = 1.5

    def arrive(self, body: dict[str, Any]) -> str:
        with self.lock:
            fault = self.plan(len(self.requests))
            self.requests.append(body)
            self.times.append(time.monotonic())
            self.faults.append(fault)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            return fault

    def leave(self) -> None:
        with self.lock:
            self.at_once -= 1

    def bill(self, tokens: tuple[int, int], fault: str) -> None:
        with self.lock:
            for side in (0, 1):
                self.billed[side] += tokens[side]
                if fault not in UNKNOWN_COST:
                    self.reported[side] += tokens[side]


def response_to(body: dict[str, Any], fault: str) -> tuple[str, str]:
    """Returns content and finish reason; the content depends only on the request."""
    prompt = body["messages"][-1]["content"]
    number = int(hashlib.sha256(json.dumps(body).encode()).hexdigest()[:6], 16)
    language = "zh" if re.search("[\u4e00-\u9fff]", body["messages"][0]["content"]) else "en"
    text = GOOD[language].format(number=number)
    if fault == "target":
        titles = re.findall(r'"title": "([^"]+)"', prompt)
        likes = {"en": "this user likes", "zh": "这位用户喜欢温暖安静的东西比如"}
        text = f"{likes[language]} {titles[-1]}"
    content = json.dumps({"text": text}, ensure_ascii=False)
    if fault == "cut off":
        return content[:20], "length"
    if fault == "half JSON":
        return content[:20], "stop"
    return ("" if fault == "empty" else content), "stop"


def tokens_of(body: dict[str, Any], content: str) -> tuple[int, int]:
    """Returns a third of the bytes, as tokenizers do, within the limit of the request."""
    tokens_in = sum(len(m["content"].encode()) for m in body["messages"]) // 3 + 7
    allowed = body.get("max_tokens") or body["max_completion_tokens"]
    return tokens_in, min(allowed, len(content.encode()) // 3 + 1)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    chat: ChatServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = self.chat.arrive(body)
        try:
            if self.headers["Authorization"] != f"Bearer {KEY}":
                fault = "401"
            time.sleep(self.chat.delay)
            self.reply(body, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def reply(self, body: dict[str, Any], fault: str) -> None:
        if fault in UNBILLED:
            headers = {}
            wait = 0.0
            if fault == "429 seconds":
                wait, headers["Retry-After"] = RETRY_SECONDS, str(RETRY_SECONDS)
            elif fault == "429 date":
                date = math.floor(time.time()) + 1
                wait = date - time.time()
                headers["Retry-After"] = email.utils.formatdate(date, usegmt=True)
            elif fault == "429":
                headers["Retry-After"] = "soon"
            self.chat.earliest[len(self.chat.times) - 1] = time.monotonic() + wait
            error = {"error": {"message": f"fault {fault} for key {KEY}", "code": None}}
            self.send(int(fault.split()[0]), json.dumps(error).encode(), headers)
            return
        if fault.startswith("400"):
            error = {"error": {"message": f"no such thing {KEY}", "code": fault[4:] or None}}
            self.send(400, json.dumps(error).encode(), {})
            return
        content, finish = response_to(body, fault)
        tokens = tokens_of(body, content)
        self.chat.bill(tokens, fault)
        if fault == "time-out":
            self.chat.leave()
            time.sleep(self.chat.slow)
        message = {"role": "assistant", "content": content}
        whole = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": tokens[0],
                "completion_tokens": tokens[1],
                "total_tokens": sum(tokens),
            },
        }
        data = json.dumps(whole).encode()
        if fault == "broken body":
            self.send(200, data[: len(data) // 2], {})
        elif fault == "time-out":
            self.close_connection = True
        elif fault == "hang up":
            self.send(200, data, {}, sent=len(data) // 2)
        else:
            self.send(200, data, {})

    def send(
        self, status: int, data: bytes, headers: dict[str, str], sent: int | None = None
    ) -> None:
        # Before the response: once it is read, the next request may arrive.
        self.chat.leave()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:sent])
        if sent is not None:
            self.close_connection = True


@contextlib.contextmanager
def serve(
    plan: Callable[[int], str] | Sequence[str] = (), delay: float = 0.0
) -> Iterator[ChatServer]:
    """Serves on a free port.

    Args:
        plan: The fault of each request, or a function of its number.
        delay: Seconds that each answer takes.
    """
    if not callable(plan):
        faults = list(plan)

        def plan(number: int) -> str:
            return faults[number] if number < len(faults) else ""

    chat = ChatServer(plan, delay)
    handler = type("Bound", (Handler,), {"chat": chat})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    chat.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
