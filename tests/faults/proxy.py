"""An HTTP proxy that injects faults; a process of its own, in front of one server.

    python -m tests.faults.proxy --upstream PORT --rates '{"slow_down": 0.02, …}' --seed 0

It prints its port. ``GET /-/faults`` tells how many requests came and how many of each fault were
injected; ``POST /-/rates`` sets other rates. Which requests are spoiled is drawn from the seed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("slow_down", "internal_error", "reset", "reset_after", "reset_inside", "cut", "stall")
"""503 SlowDown; 500 InternalError; the connection reset before the server hears of the request,
after it has obeyed, or inside the answer's body; an answer that ends too soon, decently; no answer
for ``STALL`` seconds."""
STALL = 40.0
_HOPS = {"connection", "keep-alive", "transfer-encoding", "date", "server", "content-length"}
_ERROR = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId></Error>"""


class Faults:
    """Which request is spoiled, and how many were."""

    def __init__(self, rates: Mapping[str, float], seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.rates = dict(rates)
        self.counts: Counter[str] = Counter()

    def draw(self) -> str:
        """A fault for the next request, mostly none."""
        with self._lock:
            self.counts["requests"] += 1
            point = self._random.random()
            for name, rate in self.rates.items():
                if point < rate:
                    self.counts[name] += 1
                    return name
                point -= rate
            return ""


class Handler(BaseHTTPRequestHandler):
    """Passes requests on, unless a fault is drawn."""

    protocol_version = "HTTP/1.1"
    faults: Faults
    upstream: int

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the server behind has a log."""

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/-/"):
            self._control(body)
            return
        fault = self.faults.draw()
        if fault == "slow_down":
            self._refuse(503, "SlowDown", "Please reduce your request rate.")
        elif fault == "internal_error":
            self._refuse(500, "InternalError", "We encountered an internal error.")
        elif fault == "stall":
            time.sleep(STALL)
            self._reset()
        elif fault == "reset":
            self._reset()
        else:
            self._answer(fault, *self._ask(body))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        try:
            # As it came: the signature covers the host.
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(self, fault: str, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        if fault == "reset_after" or (fault and not body):
            self._reset()
            return
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOPS:
                self.send_header(name, value)
        told = {name.lower(): value for name, value in headers}.get("content-length")
        self.send_header(
            "Content-Length", told if self.command == "HEAD" and told else str(len(body))
        )
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if not fault else body[: len(body) // 2])
        self.wfile.flush()
        if fault == "reset_inside":
            self._reset()
        elif fault == "cut":
            self.close_connection = True

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = _ERROR.format(code=code, message=message).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        """End the connection with a reset in place of an orderly close."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _control(self, body: bytes) -> None:
        if self.command == "POST":
            self.faults.rates = json.loads(body)
        told = json.dumps(self.faults.counts).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)


class Server(ThreadingHTTPServer):
    """Without words about connections that its clients or faults have ended."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing."""


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--upstream", type=int, required=True)
    parser.add_argument("--port", type=int, default=0, help="to listen on; 0: any")
    parser.add_argument("--rates", type=json.loads, default={})
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    unknown = set(parsed.rates) - set(FAULTS)
    if unknown:
        sys.exit(f"unknown faults: {unknown}")
    Handler.faults, Handler.upstream = Faults(parsed.rates, parsed.seed), parsed.upstream
    server = Server(("127.0.0.1", parsed.port), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
