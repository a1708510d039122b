"""A store on loopback, and a proxy before it that fails, cuts and slows requests."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Proxy(ThreadingHTTPServer):
    """Forwards requests to a server on loopback.

    One request in `fails_every` gets, in turn, status 500, a reset connection, or half of its
    answer. Bodies pass at `bytes_per_second`.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = port
        self.fails_every = 0
        self.bytes_per_second = 0
        self.requests = 0
        self.failures = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def failure(self) -> int | None:
        """The kind of the failure of the next request, 0 to 2."""
        with self.lock:
            self.requests += 1
            if not self.fails_every or self.requests % self.fails_every:
                return None
            self.failures += 1
            return self.failures % 3

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go are expected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *arguments: object) -> None:
        pass

    def paced(self, bytes_: bytes) -> None:
        rate = self.server.bytes_per_second
        step = max(1, rate // 20) if rate else len(bytes_) or 1
        for start in range(0, len(bytes_), step):
            self.wfile.write(bytes_[start : start + step])
            if rate:
                time.sleep(0.05)

    def forward(self) -> None:
        length = int(self.headers.get("content-length", 0))
        rate = self.server.bytes_per_second
        body = b""
        while len(body) < length:
            step = min(length - len(body), max(1, rate // 20) if rate else length)
            body += self.rfile.read(step)
            if rate:
                time.sleep(0.05)
        failure = self.server.failure()
        if failure == 0:
            self.send_response(500)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        if failure == 1:
            self.reset()
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        hop = ("connection", "transfer-encoding", "content-length", "date", "server")
        for name, value in answer.getheaders():
            if name.lower() not in hop:
                self.send_header(name, value)
        length_of_head = answer.getheader("content-length")
        is_head = self.command == "HEAD" and length_of_head
        self.send_header("content-length", length_of_head if is_head else str(len(content)))
        self.end_headers()
        if failure == 2 and self.command == "GET":
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.reset()
            return
        if self.command != "HEAD":
            self.paced(content)
        connection.close()

    def reset(self) -> None:
        self.close_connection = True
        # Closed with a reset instead of an end.
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815


class SignedServer(ThreadingHTTPServer):
    """Serves one file at any path, to who knows the signature."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _SignedHandler)
        self.content = content
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name: str, signature: str = "signed-secret") -> str:
        port = self.server_address[1]
        return f"http://127.0.0.1:{port}/{name}?sig={signature}"


class _SignedHandler(BaseHTTPRequestHandler):
    server: SignedServer

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        is_allowed = self.path.endswith("?sig=signed-secret")
        content = self.server.content if is_allowed else b"the signature of %r is wrong" % self.path
        self.send_response(200 if is_allowed else 403)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
