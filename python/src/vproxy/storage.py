"""
Storage emulation: answers calls to a storage controller's utility in guests (docs/storage.md).

    def answer(call: StorageCall) -> StorageReply:
        return StorageReply(stdout=f"{call.vm}: {' '.join(call.argv[1:])}\\n")

    with StorageEmulator(answer) as emulator:
        emulator.listen("127.0.0.1:9500")
        emulator.wait()
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Callable, Union

from ._core import BAD_JSON, Json
from ._errors import VproxyError
from ._sync import Latch

_MAX_REQUEST_BYTES = 1 << 20
_MAX_CONNECTIONS = 1024
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 5.0


@dataclass(frozen=True)
class StorageCall:
    """A call in a guest. ``argv[0]`` is the path by which the utility was called; ``vm`` names the machine, if known."""

    argv: list[str]
    vm: str | None = None


@dataclass(frozen=True)
class StorageReply:
    """What the utility prints, and its exit status, from 0 to 255. Texts are sent as UTF-8."""

    stdout: Union[str, bytes] = b""
    stderr: Union[str, bytes] = b""
    status: int = 0


def _parse_call(line: bytes) -> StorageCall:
    try:
        told = json.loads(line)
        argv, vm = told["argv"], told.get("vm")
        if argv and isinstance(argv, list) and all(isinstance(each, str) for each in [*argv, vm or ""]):
            return StorageCall(argv, vm)
    except BAD_JSON:
        pass
    message = 'not a JSON object with "argv", a list of at least one string, and perhaps "vm", a string'
    raise VproxyError("storage-bad-request", f"storage request: {message}")


def _format_reply(reply: StorageReply) -> bytes:
    if type(reply.status) is not int or not 0 <= reply.status <= 255:
        raise VproxyError("storage-bad-reply", f"storage reply: exit status {reply.status!r}: must be from 0 to 255")
    fields: Json = {"status": reply.status}
    for name, output in (("stdout", reply.stdout), ("stderr", reply.stderr)):
        data = output.encode() if isinstance(output, str) else output
        fields[name] = data.decode(errors="replace")
        if fields[name].encode() != data:
            fields[f"{name}Base64"] = base64.b64encode(data).decode()
    return json.dumps(fields).encode() + b"\n"


class StorageEmulator:
    """
    Answers storage calls on addresses on which it listens, or that it dials: ``host:port``, or the path of a unix socket.
    Each connection has a thread, in which the handler runs; if it raises, that call fails, and ``on_failure`` gets the
    exception, as it does of failed connections.
    """

    def __init__(
        self, handler: Callable[[StorageCall], StorageReply], *, on_failure: Callable[[Exception], None] = lambda _: None
    ) -> None:
        self._handler = handler
        self._on_failure = on_failure
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = Latch()

    def __enter__(self) -> StorageEmulator:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def listen(self, address: str) -> str:
        """Listens; returns the actual address: port 0 picks one. Raises OSError."""
        if address.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.bind(address)
            server.listen(128)
        else:
            host, port = _place(address)
            server = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            address = f"{address.rpartition(':')[0]}:{server.getsockname()[1]}"
        self._keep(server)
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()
        return address

    def dial(self, address: str) -> None:
        """Connects to an address, and connects again 100 ms to 5 s after each failure or end, until close."""
        threading.Thread(target=self._redial, args=(address,), daemon=True).start()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is closed, or so many seconds; returns whether it is."""
        return self._closed.wait(timeout)

    def close(self) -> None:
        """Stops listening and dialling, and closes all connections."""
        with self._lock:
            self._closed.set()
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _keep(self, each: socket.socket) -> bool:
        with self._lock:
            if self._closed.is_set or len(self._sockets) >= _MAX_CONNECTIONS:
                each.close()
                return False
            self._sockets.add(each)
            return True

    def _accept(self, server: socket.socket) -> None:
        while not self._closed.is_set:
            try:
                connection, _ = server.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            except OSError as error:
                self._fail(error)
                self._closed.wait(_FIRST_RETRY_S)

    def _redial(self, address: str) -> None:
        pause = _FIRST_RETRY_S
        while not self._closed.is_set:
            began = time.monotonic()
            try:
                if address.startswith("/"):
                    connection = socket.socket(socket.AF_UNIX)
                    connection.connect(address)
                else:
                    connection = socket.create_connection(_place(address))
                if self._serve(connection) or time.monotonic() - began >= _LAST_RETRY_S:
                    pause = _FIRST_RETRY_S
            except OSError as error:
                self._fail(error)
            self._closed.wait(pause)
            pause = min(2 * pause, _LAST_RETRY_S)

    def _serve(self, connection: socket.socket) -> bool:
        """Answers one call after the other; returns whether there was one."""
        has_answered = False
        try:
            if self._keep(connection):
                with connection, connection.makefile("rb") as reader:
                    for line in iter(lambda: reader.readline(_MAX_REQUEST_BYTES + 1), b""):
                        connection.sendall(self._answer(line))
                        has_answered = True
        except Exception as error:  # also of the handler
            self._fail(error)
        with self._lock:
            self._sockets.discard(connection)
        return has_answered

    def _answer(self, line: bytes) -> bytes:
        try:
            return _format_reply(self._handler(_parse_call(line)))
        except VproxyError as error:
            if error.code != "storage-bad-request":
                raise
            return _format_reply(StorageReply(stderr=f"storage emulator: {error}\n", status=126))

    def _fail(self, error: Exception) -> None:
        if not (self._closed.is_set and isinstance(error, (OSError, ValueError))):
            self._on_failure(error)


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
