"""A server on this machine that answers byte by byte as a test wants it, however wrong that is."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

Answer = Callable[[socket.socket], None]


@dataclass
class Server:
    """A running server.

    Attributes:
        port: Of 127.0.0.1.
        answers: Path → what is done with the connection once the request has come.
        requests: What was asked for, whole, in order.
    """

    port: int
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[bytes] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        """URL of a path."""
        return f"{scheme}://{host}:{self.port}{path}"

    def says(self, path: str, *pieces: bytes) -> str:
        """Send pieces to whoever asks for a path; returns its URL."""

        def answer(connection: socket.socket) -> None:
            for piece in pieces:
                connection.sendall(piece)

        self.answers[path] = answer
        return self.url(path)

    def drips(self, path: str, head: bytes, piece: bytes, every: float = 0.05) -> str:
        """Send a head, then a piece now and then for ever; returns its URL."""

        def answer(connection: socket.socket) -> None:
            connection.sendall(head)
            while not self.over.wait(every):
                connection.sendall(piece)

        self.answers[path] = answer
        return self.url(path)


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@contextmanager
def serve(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server, with TLS where a context is given, until the block ends."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = Server(listener.getsockname()[1])
        thread = threading.Thread(target=_accept, args=(listener, server, context), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _accept(listener: socket.socket, server: Server, context: ssl.SSLContext | None) -> None:
    while not server.over.is_set():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_handle, args=(connection, server, context), daemon=True).start()


def _handle(connection: socket.socket, server: Server, context: ssl.SSLContext | None) -> None:
    with suppress(OSError, ValueError), connection:
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        with connection:
            request = b""
            while b"\r\n\r\n" not in request:
                piece = connection.recv(4096)
                if not piece:
                    return
                request += piece
            server.requests.append(request)
            path = request.split(b" ")[1].decode()
            missing = response(b"", "404 Not Found")
            server.answers.get(path, lambda c: c.sendall(missing))(connection)
