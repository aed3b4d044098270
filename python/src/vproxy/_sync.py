"""The synchronous front."""

from __future__ import annotations

import _thread
import io
import os
import select
import selectors
import socket
import subprocess
import threading
import time
import warnings
import weakref
from contextlib import asynccontextmanager, suppress
from functools import wraps
from typing import IO, TYPE_CHECKING, Any, AsyncIterator, Awaitable, Callable, Iterator, Optional, Sequence, TypeVar

from . import _calls, _files
from . import _core as core
from ._errors import VproxyError

_READ_BYTES = 1 << 18

#: How much a writable standard input takes without blocking.
_WRITE_BYTES = 1 << 13

T = TypeVar("T")
if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec

    from . import types

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

    def __init__(self, path: str | os.PathLike[str] | None = None, *, name: str | None = None) -> None:
        self._calls = _Blocking(path, name=name)
        self.path = self._calls.path

    def __repr__(self) -> str:
        return repr(self._calls)

    ask = _blocking(_calls.Vproxy.ask)
    status = _blocking(_calls.Vproxy.status)
    channels = _blocking(_calls.Vproxy.channels)

    def channel(
        self, label: str | None = None, *, env: core.Environment | None = None, user: str | None = None,
        cwd: core.Word | None = None,
    ) -> Channel:  # fmt: skip
        """
        A channel, and the machine behind it; by default the only one. Its commands run with ``env``, ``user`` and ``cwd``
        unless a call names others; variables of both are merged. Asks nothing.
        """
        return Channel(self, label, core.defaults(env, user, cwd))

    @wraps(_calls.Vproxy.events)
    def events(
        self, since: str | float | None = None, *, follow: bool = True, timeout: float | None = None
    ) -> Iterator[types.ControlEvent]:
        return each(self._calls.events(since, follow=follow, timeout=timeout))


class Channel:
    """A channel of a vproxy process, and the machine at its other end."""

    def __init__(self, process: Vproxy, label: str | None, defaults: core.Json) -> None:
        self.process = process
        self.label = label
        self._calls = _calls.Channel(process._calls, label, defaults)
        self.files = Files(self)

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
    egress_rules = _blocking(_calls.Channel.egress_rules)
    egress_test = _blocking(_calls.Channel.egress_test)
    wait_booted = _blocking(_calls.Channel.wait_booted)
    ping = _blocking(_calls.Channel.ping)
    add_forward = _blocking(_calls.Channel.add_forward)
    remove_forward = _blocking(_calls.Channel.remove_forward)

    @wraps(_calls.Channel.egress_questions)
    def egress_questions(self) -> Iterator[Question]:
        return map(Question, each(self._calls.egress_questions()))

    @wraps(_calls.Channel.freeze)
    def freeze(self, *paths: str, seconds: int = 10) -> Frozen:
        return Frozen(_done(self._calls.freeze(*paths, seconds=seconds)))

    def attach(
        self, job: str, start: int = 0, *, tail: int | None = None,
        on_lost: Callable[[VproxyError], object] | None = None, timeout: float | None = None, input: bool = False,
        steal: bool = False,
    ) -> JobOutput:  # fmt: skip
        """
        Reads the output of a job from a byte on, or its last bytes, and then as it is written; iterate over it. With ``input`` it
        also writes to the job; ``steal`` takes that over from another caller.
        """
        return JobOutput(self._calls, job, start, tail=tail, on_lost=on_lost, timeout=timeout, input=input, steal=steal)

    def popen(
        self, argv: Sequence[core.Word], *, tty: core.Terminal = False, timeout: float | None = None, text: bool = False,
        encoding: str | None = None, errors: str | None = None, stderr: int | None = None, cwd: core.Word | None = None,
        env: core.Environment | None = None, user: str | None = None, kill_after: float | None = None,
    ) -> Popen:  # fmt: skip
        """
        Starts a command, as subprocess.Popen does with three pipes, an empty one the login shell; ``tty``: in a terminal, of
        columns and rows.
        """
        form, is_merged = core.as_text(text, encoding, errors), core.is_merged(stderr)
        asked = core.command(argv, cwd=cwd, env=env, user=user, tty=tty, timeout=timeout, kill_after=kill_after)
        call = self.call(asked)
        try:
            return Popen(call, asked, form, is_merged)
        except BaseException:
            call.connection.close()
            raise

    def connect(self, service: str, *, timeout: float | None = None) -> socket.socket:
        """Connects to a service of the peer; returns a socket, whose shutdown half-closes."""
        connection: _Connection = _done(self._calls.stream(service, timeout))
        return connection.socket


class Files:
    __doc__ = _files.Files.__doc__

    def __init__(self, channel: Channel) -> None:
        self._calls = _files.Files(channel._calls)

    read = _blocking(_files.Files.read)
    read_text = _blocking(_files.Files.read_text)
    write = _blocking(_files.Files.write)
    append = _blocking(_files.Files.append)
    list = _blocking(_files.Files.list)
    stat = _blocking(_files.Files.stat)
    exists = _blocking(_files.Files.exists)
    mkdir = _blocking(_files.Files.mkdir)
    remove = _blocking(_files.Files.remove)
    rename = _blocking(_files.Files.rename)
    chmod = _blocking(_files.Files.chmod)

    @wraps(_files.Files.pieces)
    def pieces(
        self, path: core.Word, offset: int = 0, length: int | None = None, *, timeout: float | None = None
    ) -> Iterator[bytes]:
        return each(self._calls.pieces(path, offset, length, timeout=timeout))


class Question:
    __doc__ = _calls.Question.__doc__

    def __init__(self, calls: _calls.Question) -> None:
        self._calls = calls
        self.told = calls.told
        self.destination = calls.destination

    def __repr__(self) -> str:
        return repr(self._calls)

    allow = _blocking(_calls.Question.allow)
    deny = _blocking(_calls.Question.deny)


class Frozen:
    """Frozen file systems of a machine; ``paths`` are their mount points."""

    def __init__(self, calls: _calls.Frozen) -> None:
        self._calls = calls
        self.paths = calls.paths

    thaw = _blocking(_calls.Frozen.thaw)

    def __enter__(self) -> Frozen:
        return self

    def __exit__(self, kind: Optional[type], *_rest: object) -> None:
        _done(self._calls.__aexit__(kind))


class Popen(_calls.Running):
    """A running command of the peer, as subprocess.Popen. With a terminal, ``stderr`` is None."""

    stdin: IO[Any]
    stdout: IO[Any]
    stderr: Optional[IO[Any]]

    def __init__(self, call: _calls.Call, asked: core.Json, form: core.Text, is_merged: bool) -> None:
        super().__init__(call, asked)
        self._form = form
        #: What ``communicate`` has read; None before it began.
        self._kept: dict[IO[Any], bytearray] | None = None
        self._unsent = memoryview(b"")
        near, far = socket.socketpair()
        self.stdin = _open(near.detach(), "w", form)
        with _forks:
            self.stdout, out = _pipe(form)
            self.stderr, err = (None, None) if is_merged or "terminal" in asked else _pipe(form)
            self._work = _Work(call, far, {1: out, **({2: out} if is_merged else {2: err} if err is not None else {})})
        # While one of them is read, the command is not forgotten.
        for file in (self.stdin, self.stdout, self.stderr):
            vars(file or self)["process"] = self
        self._work.begin()

    def __enter__(self) -> Popen:
        return self

    def __exit__(self, kind: Optional[type], *_rest: object) -> None:
        """Closes the pipes and waits, as subprocess.Popen; ends the command if there was an exception."""
        if kind is not None:
            self._work.abandon()
        for file in (self.stdin, self.stdout, self.stderr):
            with suppress(OSError):
                if file is not None:
                    file.close()
        if not self._call.connection.is_own():
            return
        self._work.ended.wait()
        if kind is None and not self._is_told:
            self.wait()

    def __del__(self) -> None:
        work = self.__dict__.get("_work")
        if work is not None and self._call.connection.is_own() and not work.ended.is_set:
            work.abandon()
            warnings.warn(f"the command {self.args} was forgotten while it ran, and is ended", ResourceWarning, source=self)

    def poll(self) -> int | None:
        """The return code; None while it runs. Raises as wait."""
        return self.wait() if self._work.ended.is_set else None

    def wait(self, timeout: float | None = None) -> int:
        """
        Waits for its end, and for its output to be read or closed. Raises subprocess.TimeoutExpired, Refused if it could
        not be run, and Lost if its result will never be known.
        """
        self._check_own()
        if not self._work.ended.wait(core.left(core.deadline(timeout))):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        for file in (self.stdin, self.stdout, self.stderr):
            vars(file or self).pop("process", None)
        return self._result(self._work.error)

    def communicate(self, input: str | core.Buffer | None = None, timeout: float | None = None) -> tuple[Any, Any]:
        """
        Sends input, reads all output, and waits. Raises as wait; after subprocess.TimeoutExpired, which has the output so far,
        call it again.
        """
        self._check_own()
        end = core.deadline(timeout)
        if self._kept is None:
            self._unsent = memoryview(self._form.encoded(input))
            with suppress(OSError, ValueError):
                self.stdin.flush()
            self._kept = {file: bytearray(_buffered(file)) for file in (self.stdout, self.stderr) if file is not None}
        with selectors.PollSelector() as selector:  # another thread may close a file meanwhile, which epoll does not tell
            for file in (self.stdin, *self._kept):
                if not file.closed:
                    selector.register(file, selectors.EVENT_WRITE if file is self.stdin else selectors.EVENT_READ)
            while selector.get_map() and core.left(end) != 0:
                for key, _ in selector.select(core.left(end)):
                    file = key.fileobj  # type: ignore[assignment]
                    if not (self._feed() if file is self.stdin else self._collect(file, self._kept[file])):
                        selector.unregister(file)
                        with suppress(OSError):
                            file.close()
            is_over = not selector.get_map() and self._work.ended.wait(core.left(end))
        kept = [bytes(each) for each in self._kept.values()]
        if not is_over:
            raise subprocess.TimeoutExpired(self.args, timeout or 0, *kept)
        self.wait()
        texts = [self._form.decoded(each) for each in kept]
        return texts[0], texts[1] if len(texts) > 1 else None

    def _feed(self) -> bool:
        """Sends some of the input; returns whether there is more."""
        with suppress(BrokenPipeError):
            self._unsent = self._unsent[os.write(self.stdin.fileno(), self._unsent[:_WRITE_BYTES]) :]
            return len(self._unsent) > 0
        return False

    @staticmethod
    def _collect(file: IO[Any], kept: bytearray) -> bool:
        """Reads some of an output; returns whether there may be more."""
        piece = io.BufferedReader.read1(_bytes_of(file), _READ_BYTES)
        kept += piece
        return len(piece) > 0

    def _send(self, record: bytes) -> None:
        self._work.send(record)


class Latch:
    """A threading.Event that KeyboardInterrupt, or another exception of a signal handler, cannot leave locked."""

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        self.is_set = True
        with suppress(RuntimeError):
            self._lock.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Returns whether it is set, after so many seconds at the latest."""
        try:
            if not self.is_set:
                self._lock.acquire(timeout=-1 if seconds is None else seconds)
        finally:
            if self.is_set:
                self.set()  # for the next one who waits
        return self.is_set


class _Work:
    """The thread of a Popen, which it does not keep from being forgotten."""

    def __init__(self, call: _calls.Call, far: socket.socket, sinks: dict[int, io.RawIOBase]) -> None:
        self._call, self._far, self._sinks = call, far, sinks
        #: Output that its pipe had no room for.
        self._unwritten: list[tuple[int, memoryview]] = []
        self.error: BaseException | None = None
        self.ended = Latch()
        # Guards what is sent.
        self._lock = threading.Lock()
        _works.add(self)

    def begin(self) -> None:
        # threading.Thread.start, if a signal handler raises an exception in it, can leave the thread waiting for ever.
        _thread.start_new_thread(self._run, ())

    def abandon(self) -> None:
        """Ends the command, and the thread."""
        self._call.connection.hang_up()

    def send(self, record: bytes) -> None:
        with self._lock:
            if not self.ended.is_set:
                self._call.write(record)

    def _run(self) -> None:
        try:
            while self._call.state.end is None or self._unwritten:
                self._turn()
            _done(self._call.finish())
        except BaseException as error:  # raised by wait
            self.error = error
        self.close_outputs()
        with self._lock:
            self.ended.set()
            self._call.connection.close()
        self._end_input()

    def _turn(self) -> None:
        """Waits for something to read or to write, and does so."""
        state, near, poll = self._call.state, self._call.connection.socket, select.poll()
        if self._unwritten:
            poll.register(self._sinks[self._unwritten[0][0]].fileno(), select.POLLOUT)
        else:
            poll.register(near, select.POLLIN)
        if state.credit > 0 and self._far.fileno() >= 0:
            poll.register(self._far, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        if self._far.fileno() in ready:
            data = self._far.recv(min(state.credit, core.PIECE_BYTES))
            self.send(state.input(data) if data else state.end_of(0))
            if not data:
                self._end_input()
        if near.fileno() in ready:
            self._unwritten += [(number, memoryview(piece)) for number, piece in state.receive(_done(self._call.receive()))]
            if state.input_over:
                self._end_input()
        while self._unwritten and self._write(*self._unwritten[0]):
            del self._unwritten[0]

    def _write(self, number: int, data: memoryview) -> bool:
        """Passes output on, or its end, which is empty. Returns whether its pipe had room for all of it."""
        file = self._sinks.get(number)
        if file is None:
            return True
        over = [number]
        try:
            rest = data[file.write(data) or 0 :]
            if data:
                self._unwritten[0] = number, rest
                return not rest
        except OSError:  # nobody reads it any longer, which the command shall notice
            over = [each for each, one in self._sinks.items() if one is file]
            for each in over:
                self.send(self._call.state.end_of(each))
        with _forks:
            for each in over:
                del self._sinks[each]
            if file not in self._sinks.values():
                file.close()
        return True

    def _end_input(self) -> None:
        """Lets writing raise BrokenPipeError: unread bytes would make it raise ConnectionResetError."""
        with suppress(OSError):
            self._far.shutdown(socket.SHUT_RD)
            while self._far.recv(_READ_BYTES):
                pass
        self._far.close()

    def close_outputs(self) -> None:
        with _forks:
            for file in self._sinks.values():
                file.close()


_works: weakref.WeakSet[_Work] = weakref.WeakSet()

#: Is held while outputs are opened or closed, and by a fork.
_forks = threading.RLock()


def _leave() -> None:
    """Closes the copies of a forked process: readers of its parent would wait for its end, too."""
    for work in _works:
        work.close_outputs()
    _forks.release()


os.register_at_fork(before=_forks.acquire, after_in_parent=_forks.release, after_in_child=_leave)


class JobOutput(_calls.JobOutput):
    __doc__ = _calls.JobOutput.__doc__

    def __iter__(self) -> Iterator[bytes]:
        return each(self.pieces())


class _Blocking(_calls.Vproxy):
    async def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    async def _joined(self, connected: socket.socket) -> _calls.Connection:
        return _Connection(connected)

    @asynccontextmanager
    async def _turn(self, label: str | None, seconds: float | None, service: str = "exec") -> AsyncIterator[None]:
        yield

    async def _program(self, words: list[str], env: dict[str, str], errors: IO[bytes], hear: Callable[[bytes], None]) -> int:
        none, pipe = subprocess.DEVNULL, subprocess.PIPE
        try:
            child = subprocess.Popen(words, stdin=none, stdout=pipe, stderr=errors, env=env)
        except OSError as error:
            raise core.no_program(error) from error
        with child:
            try:
                assert child.stdout is not None
                for piece in child.stdout:
                    hear(piece)
            except BaseException:
                child.terminate()
                with suppress(subprocess.TimeoutExpired):
                    child.wait(core.COPY_END_S)
                child.kill()
                raise
        return child.returncode


class _Connection(_calls.Connection):
    def __init__(self, connected: socket.socket) -> None:
        super().__init__(connected)
        self.set_timeout(None)

    def set_timeout(self, seconds: float | None) -> None:
        self.socket.settimeout(None if seconds is None or seconds > core.FOREVER_S else max(seconds, 0.001))

    def write(self, data: bytes) -> None:
        _timed(self.socket.sendall, data)

    async def send(self, data: bytes) -> None:
        self.write(data)

    def end_input(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

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
        self.hang_up()
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


def _pipe(form: core.Text) -> tuple[IO[Any], io.RawIOBase]:
    read, write = os.pipe()
    os.set_blocking(write, False)
    return _open(read, "r", form), io.FileIO(write, "w")


def _open(descriptor: int, mode: str, form: core.Text) -> IO[Any]:
    """Input is sent when it is written, as text with each line."""
    if form.encoding is None:
        return _Input(descriptor, "w") if mode == "w" else os.fdopen(descriptor, "rb")
    if mode == "w":
        return os.fdopen(descriptor, mode, 1, form.encoding, form.errors)
    return io.TextIOWrapper(_Lines(io.FileIO(descriptor)), form.encoding, form.errors)


class _Input(io.FileIO):
    """Writes all of it: a signal that is handled ends a call of the system after a part."""

    def write(self, data: core.Buffer, /) -> Optional[int]:  # type: ignore[override]
        done = 0
        # A traceback keeps it; unreleased, it would forbid ``clear`` of a bytearray.
        with memoryview(data).cast("B") as view:
            while True:
                count: Optional[int] = super().write(view[done:])
                if count is None:  # it was set to not block
                    return done or None
                done += count
                if done == len(view):
                    return done


class _Lines(io.BufferedReader):
    """Who reads text by lines reads no others ahead, which ``communicate`` could not return."""

    def read1(self, size: int = -1, /) -> bytes:
        return super().read1(self.peek().find(b"\n") + 1 or size)


def _bytes_of(file: Any) -> io.BufferedReader:
    source: io.BufferedReader = getattr(file, "buffer", file)
    return source


def _buffered(file: IO[Any]) -> bytes:
    """What was read ahead of the program."""
    if file.closed:
        return b""
    os.set_blocking(file.fileno(), False)
    try:
        return io.BufferedReader.read1(_bytes_of(file), len(_bytes_of(file).peek()))
    finally:
        os.set_blocking(file.fileno(), True)
