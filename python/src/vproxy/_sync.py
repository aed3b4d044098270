"""The synchronous front."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import asynccontextmanager, suppress
from functools import wraps
from typing import IO, TYPE_CHECKING, Any, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Optional, Sequence, TypeVar

from . import _calls
from . import _core as core

_READ_BYTES = 1 << 18

T = TypeVar("T")
if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec

    P = ParamSpec("P")


def _blocking(work: Callable[Concatenate[Any, P], Awaitable[T]]) -> Callable[Concatenate[Any, P], T]:
    """The synchronous form of a method."""

    @wraps(work)
    def call(self: Any, /, *values: P.args, **options: P.kwargs) -> T:
        return _done(work(self._calls, *values, **options))

    return call


class Vproxy:
    """
    A vproxy process of this machine, by the path of its control socket or by its name; by default that of
    $VPROXY_SOCKET, or the only one. Opens a connection for each call, so that there is nothing to close.
    """

    def __init__(self, path: str | None = None, *, name: str | None = None) -> None:
        self._calls = _Blocking(path, name=name)
        self.path = self._calls.path

    def __repr__(self) -> str:
        return repr(self._calls)

    ask = _blocking(_calls.Vproxy.ask)
    status = _blocking(_calls.Vproxy.status)
    channels = _blocking(_calls.Vproxy.channels)

    def channel(self, label: str | None = None) -> Channel:
        """A channel, and the machine behind it; by default the only one. Asks nothing."""
        return Channel(self, label)

    @wraps(_calls.Vproxy.events)
    def events(self, since: str | float | None = None, *, follow: bool = True) -> Iterator[core.Json]:
        return each(self._calls.events(since, follow=follow))


class Channel:
    """A channel of a vproxy process, and the machine at its other end."""

    def __init__(self, process: Vproxy, label: str | None) -> None:
        self.process = process
        self.label = label
        self._calls = _calls.Channel(process._calls, label)

    def __repr__(self) -> str:
        return repr(self._calls)

    run = _blocking(_calls.Channel.run)
    copy_to = _blocking(_calls.Channel.copy_to)
    copy_from = _blocking(_calls.Channel.copy_from)
    wait = _blocking(_calls.Channel.wait)
    info = _blocking(_calls.Channel.info)
    services = _blocking(_calls.Channel.services)
    ports = _blocking(_calls.Channel.ports)
    call = _blocking(_calls.Channel.call)
    start = _blocking(_calls.Channel.start)
    jobs = _blocking(_calls.Channel.jobs)
    stop_job = _blocking(_calls.Channel.stop_job)
    egress_allow = _blocking(_calls.Channel.egress_allow)
    egress_block = _blocking(_calls.Channel.egress_block)
    egress_reset = _blocking(_calls.Channel.egress_reset)

    def attach(self, job: str, start: int = 0, *, tail: int | None = None) -> JobOutput:
        """Reads the output of a job from a byte on, or its last bytes, and then as it is written; iterate over it."""
        return JobOutput(self._calls, job, start, tail)

    def popen(
        self, argv: Sequence[str], *, tty: core.Terminal = False, timeout: float | None = None, cwd: str | None = None,
        env: Mapping[str, str] | None = None, user: str | None = None,
    ) -> Popen:  # fmt: skip
        """Starts a command, as subprocess.Popen does with three pipes; ``tty``: in a terminal, of columns and rows."""
        asked = core.command(argv, cwd=cwd, env=env, user=user, tty=tty, timeout=timeout)
        return Popen(self.call(asked), asked)

    def connect(self, service: str, *, timeout: float | None = None) -> socket.socket:
        """Connects to a service of the peer; returns a socket, whose shutdown half-closes."""
        connection: _Connection = _done(self._calls.stream(service, timeout))
        return connection.socket


class Popen(_calls.Running):
    """A running command of the peer, as subprocess.Popen. With a terminal, ``stderr`` is None."""

    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: Optional[IO[bytes]]

    def __init__(self, call: _calls.Call, asked: core.Json) -> None:
        super().__init__(call, asked)
        self._error: BaseException | None = None
        self._ended = threading.Event()
        # Guards the state and what is sent; is notified when the state has changed.
        self._changed = threading.Condition()
        near, self._far = socket.socketpair()
        self.stdin = os.fdopen(near.detach(), "wb", 0)
        self.stdout, out = _pipe()
        self.stderr, err = (None, None) if "terminal" in asked else _pipe()
        threading.Thread(target=self._receive, args=(out, err), daemon=True).start()
        threading.Thread(target=self._send_input, daemon=True).start()

    def __enter__(self) -> Popen:
        return self

    def __exit__(self, kind: Optional[type], *_rest: object) -> None:
        """Closes the pipes and waits, as subprocess.Popen; ends the command if there was an exception."""
        if kind is not None:
            with suppress(OSError):
                self._call.connection.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
        for file in (self.stdin, self.stdout, self.stderr):
            with suppress(OSError):
                if file is not None:
                    file.close()
        self._ended.wait()
        if kind is None:
            self.wait()

    def poll(self) -> int | None:
        """The return code; None while it runs. Raises as wait."""
        return self.wait() if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """
        Waits for its end, and for its output to be read or closed. Raises subprocess.TimeoutExpired, Refused if it could
        not be run, and Lost if its result will never be known.
        """
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        if self._error is not None:
            raise self._error
        return self._result()

    def _send(self, record: bytes) -> None:
        with self._changed:
            if not self._ended.is_set():
                self._call.write(record)

    def _send_input(self) -> None:
        state = self._call.state
        while True:
            with self._changed:
                self._changed.wait_for(lambda: state.credit > 0 or self._is_over())
                room = min(state.credit, core.PIECE_BYTES)
            data = self._far.recv(room) if room > 0 else b""
            with self._changed:
                if self._is_over():
                    break
                self._call.write(state.input(data) if data else state.end_of(0))
            if not data:
                break
        self._end_input()
        while self._far.recv(_READ_BYTES):  # closing it now would reset the connection
            pass
        self._far.close()

    def _is_over(self) -> bool:
        return self._call.state.input_over or self._ended.is_set()

    def _receive(self, *files: Optional[IO[bytes]]) -> None:
        state = self._call.state
        sinks = dict(enumerate(files, 1))
        try:
            while state.end is None:
                data = _done(self._call.receive())
                with self._changed:
                    output = state.receive(data)
                    self._changed.notify_all()
                for number, piece in output:
                    self._pass_on(sinks, number, piece)
                if state.input_over:
                    self._end_input()
            _done(self._call.finish())
        except BaseException as error:  # raised by wait
            self._error = error
        for file in sinks.values():
            if file is not None:
                file.close()
        with self._changed:
            self._ended.set()
            self._changed.notify_all()
            self._call.connection.close()
        self._end_input()

    def _end_input(self) -> None:
        """Lets _send_input return, and writing raise BrokenPipeError."""
        with suppress(OSError):
            self._far.shutdown(socket.SHUT_RD)

    def _pass_on(self, sinks: dict[int, Optional[IO[bytes]]], number: int, data: bytes) -> None:
        file = sinks.get(number)
        if file is None:
            return
        try:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
            if data:
                return
        except OSError:  # nobody reads it any longer, which the command shall notice
            self._send(self._call.state.end_of(number))
        sinks[number] = None
        file.close()


class JobOutput(_calls.JobOutput):
    __doc__ = _calls.JobOutput.__doc__

    def __iter__(self) -> Iterator[bytes]:
        return each(self.pieces())


class _Blocking(_calls.Vproxy):
    async def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    async def _connect(self) -> _calls.Connection:
        return _Connection(self.path)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        yield

    async def _program(self, words: list[str], env: dict[str, str], hear: Callable[[bytes], None]) -> tuple[int, bytes]:
        none, pipe = subprocess.DEVNULL, subprocess.PIPE
        with tempfile.TemporaryFile() as errors:
            with subprocess.Popen(words, stdin=none, stdout=pipe, stderr=errors, env=env) as child:
                try:
                    assert child.stdout is not None
                    for line in child.stdout:
                        hear(line)
                except BaseException:
                    child.kill()
                    raise
            errors.seek(0)
            return child.returncode, errors.read()


class _Connection:
    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Without a timeout, which would make it fail while many others connect.
            self.socket.connect(path)
        except BaseException:
            self.close()
            raise
        self.set_timeout = self.socket.settimeout

    def write(self, data: bytes) -> None:
        _timed(self.socket.sendall, data)

    async def send(self, data: bytes) -> None:
        self.write(data)

    async def head(self) -> bytes:
        data = b""
        while not data.endswith(core.HEAD_END):
            ahead: bytes = _timed(self.socket.recv, core.MAX_HEAD_BYTES, socket.MSG_PEEK)
            if not ahead or len(data) >= core.MAX_HEAD_BYTES:
                raise ConnectionError("it ended the connection without an answer")
            end = (data + ahead).find(core.HEAD_END)
            data += self.socket.recv(len(ahead) if end < 0 else end + len(core.HEAD_END) - len(data))
        return data

    async def receive(self) -> bytes:
        data: bytes = _timed(self.socket.recv, _READ_BYTES)
        return data

    def close(self) -> None:
        self.socket.close()


def _timed(work: Callable[..., Any], *values: object) -> Any:
    try:
        return work(*values)
    except socket.timeout as error:  # another class before Python 3.10
        raise TimeoutError(str(error)) from error


def _done(work: Awaitable[T]) -> T:
    """Runs a coroutine that does not wait for a loop."""
    try:
        next(iter(work.__await__()))
    except StopIteration as end:
        value: T = end.value
        return value
    raise RuntimeError("it waits")


def each(items: AsyncIterator[T]) -> Iterator[T]:
    try:
        while True:
            yield _done(items.__anext__())
    except StopAsyncIteration:
        pass
    finally:
        _done(items.aclose())  # type: ignore[attr-defined]


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    read, write = os.pipe()
    return os.fdopen(read, "rb"), os.fdopen(write, "wb", 0)
