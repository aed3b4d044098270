"""
The package for asyncio: ``Vproxy``, ``Channel`` and ``Process``, whose methods have the names of the synchronous ones.

    async with await Vproxy().channel("vm1").popen(["make"]) as process:
        async for line in process.stdout: ...
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import warnings
from collections import OrderedDict
from contextlib import asynccontextmanager, suppress
from typing import IO, AsyncIterator, Awaitable, Callable, Sequence, TypeVar

from . import _calls
from . import _core as core
from ._errors import Lost, TimedOut, VproxyError
from ._files import Files

__all__ = ["Channel", "Files", "JobOutput", "Process", "Vproxy"]

_READ_BYTES = 1 << 16

#: The most unread output of a stream, in bytes: the command waits beyond twice that. Also that of a line.
_HELD_BYTES = 1 << 17

#: How many commands ``run`` runs on a machine at a time, and how many calls use its files: it refuses more than 256 and 64 of
#: all callers.
_AT_A_TIME = {"exec": 128, "sftp": 32}

T = TypeVar("T")


class Vproxy(_calls.Vproxy):
    """A vproxy process of this machine; see vproxy.Vproxy."""

    _turns: tuple[asyncio.AbstractEventLoop, dict[tuple[str | None, str], _Turns]] | None = None

    def channel(
        self, label: str | None = None, *, env: core.Environment | None = None, user: str | None = None,
        cwd: core.Word | None = None,
    ) -> Channel:  # fmt: skip
        return Channel(self, label, core.defaults(env, user, cwd))

    @asynccontextmanager
    async def _turn(self, label: str | None, seconds: float | None, service: str = "exec") -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = loop, {}
        machines = self._turns[1]
        turns = machines.setdefault((label, service), _Turns(_AT_A_TIME[service]))
        await turns.take(seconds)
        try:
            yield
        finally:
            turns.leave()
            if turns.free == _AT_A_TIME[service]:
                machines.pop((label, service), None)

    async def _joined(self, connected: socket.socket) -> _calls.Connection:
        return _Connection(connected, *await asyncio.open_unix_connection(sock=connected, limit=_HELD_BYTES))

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _program(self, words: list[str], env: dict[str, str], errors: IO[bytes], hear: Callable[[bytes], None]) -> int:
        none, pipe = subprocess.DEVNULL, subprocess.PIPE
        try:
            child = await asyncio.create_subprocess_exec(*words, stdin=none, stdout=pipe, stderr=errors, env=env)
        except OSError as error:
            raise core.no_program(error) from error
        assert child.stdout is not None
        try:
            while True:
                piece = await child.stdout.read(_READ_BYTES)
                if not piece:
                    return await child.wait()
                hear(piece)
        finally:
            killing = asyncio.get_running_loop().call_later(core.COPY_END_S, _end, child.kill)
            try:
                if child.returncode is None:
                    _end(child.terminate)
                # The end of the process is not noticed before that of its output, which is not read beyond a limit.
                while await child.stdout.read(_READ_BYTES):
                    pass
                await child.wait()
            finally:
                killing.cancel()
                if child.returncode is None:
                    _end(child.kill)


def _end(signal: Callable[[], None]) -> None:
    with suppress(ProcessLookupError):
        signal()


class _Turns:
    """Limits how many run at a time. asyncio.Semaphore loses turns with those that are cancelled, before Python 3.11."""

    def __init__(self, free: int) -> None:
        self.free = free
        self._waiting: OrderedDict[asyncio.Future[bool], None] = OrderedDict()

    async def take(self, seconds: float | None) -> None:
        if self.free > 0:
            self.free -= 1
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting[turn] = None
        timer = None if seconds is None else loop.call_later(seconds, self._end, turn, False)
        try:
            if not await turn:
                raise TimedOut("too-many-streams", "it was not its turn in time")
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled() and turn.result():
                self.leave()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def leave(self) -> None:
        while self._waiting:
            if self._end(next(iter(self._waiting)), True):
                return
        self.free += 1

    def _end(self, turn: asyncio.Future[bool], is_turn: bool) -> bool:
        self._waiting.pop(turn, None)
        if turn.done():
            return False
        turn.set_result(is_turn)
        return True


class Channel(_calls.Channel):
    """A channel, and the machine at its other end; see vproxy.Channel."""

    def __init__(self, process: _calls.Vproxy, label: str | None, defaults: core.Json) -> None:
        super().__init__(process, label, defaults)
        self.files = Files(self)

    async def popen(
        self, argv: Sequence[core.Word], *, tty: core.Terminal = False, timeout: float | None = None,
        stderr: int | None = None, cwd: core.Word | None = None, env: core.Environment | None = None,
        user: str | None = None, kill_after: float | None = None,
    ) -> Process:  # fmt: skip
        is_merged = core.is_merged(stderr)
        asked = core.command(argv, cwd=cwd, env=env, user=user, tty=tty, timeout=timeout, kill_after=kill_after)
        return Process(await self.call(asked), asked, is_merged)

    async def connect(
        self, service: str, *, timeout: float | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects to a service of the peer; returns the streams of asyncio."""
        connection: _Connection = await self.stream(service, timeout)
        return connection.reader, connection.writer

    def attach(
        self, job: str, start: int = 0, *, tail: int | None = None,
        on_lost: Callable[[VproxyError], object] | None = None, timeout: float | None = None, input: bool = False,
        steal: bool = False,
    ) -> JobOutput:  # fmt: skip
        """
        Reads the output of a job from a byte on, or its last bytes, and then as it is written; iterate over it. With ``input`` it
        also writes to the job; ``steal`` takes that over from another caller.
        """
        return JobOutput(self, job, start, tail=tail, on_lost=on_lost, timeout=timeout, input=input, steal=steal)


class JobOutput(_calls.JobOutput):
    __doc__ = _calls.JobOutput.__doc__

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.pieces()

    async def _leave(self, call: _calls.Call) -> None:
        try:
            await super()._leave(call)
        except asyncio.CancelledError:
            # asyncio.run cancels at its end what closes the generator of a loop that was left.
            await super()._leave(call)
            raise


def _ended() -> Lost:
    return Lost("exec-unavailable", "the command was ended with its block")


class Input:
    """The standard input of a command."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._has_ended = False

    async def write(self, data: core.Buffer) -> None:
        """Sends all of it, as fast as the command reads. Raises BrokenPipeError if it no longer reads."""
        work, left = self._work, memoryview(bytes(data))
        state = work.call.state
        while left:
            while state.credit <= 0 and not work.is_deaf():
                work.changed.clear()
                await work.changed.wait()
            if work.is_deaf() or self._has_ended:
                raise BrokenPipeError("the command does not read standard input") from work.error()
            count = min(len(left), state.credit, core.PIECE_BYTES)
            await work.call.send(state.input(left[:count]))
            left = left[count:]

    async def close(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._work.send(self._work.call.state.end_of(0))


class _Output(asyncio.ReadTransport):
    """The source of an asyncio.StreamReader, which is told to wait when nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = asyncio.StreamReader(limit=_HELD_BYTES)
        self.reader.set_transport(self)
        self.is_discarded = False
        self._may_feed = asyncio.Event()
        self._may_feed.set()

    def pause_reading(self) -> None:
        self._may_feed.clear()

    def resume_reading(self) -> None:
        self._may_feed.set()

    async def feed(self, data: bytes) -> None:
        if self.is_discarded:
            self.reader.set_exception(_ended())
        else:
            self.reader.feed_data(data)
            await self._may_feed.wait()


class Process(_calls.Running):
    """
    A running command of the peer; see vproxy.Popen. ``stdout`` and ``stderr`` are asyncio.StreamReader; with a terminal,
    ``stderr`` is None. Its block ends it, and raises its failure if nothing else was raised.
    """

    def __init__(self, call: _calls.Call, asked: core.Json, is_merged: bool = False) -> None:
        super().__init__(call, asked)
        out, err = _Output(), None if is_merged or "terminal" in asked else _Output()
        #: When its timeout ends it, on the clock of the loop; None without one.
        self._due = asyncio.get_running_loop().time() + asked["timeoutMs"] / 1000 if "timeoutMs" in asked else None
        self._work = _Work(call, {1: out, **({2: out} if is_merged else {2: err} if err is not None else {})})
        self.stdin = Input(self._work)
        self.stdout, self.stderr = out.reader, None if err is None else err.reader

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(self, kind: type | None, *_rest: object) -> None:
        task, hears = self._work.task, False
        try:
            if kind is None and self._work.is_ending:
                self._work.discard()
                # Its result follows the end of its output; if its timeout is over, even a late one is waited for.
                is_due = self._due is not None and self._due - core.END_S < asyncio.get_running_loop().time()
                await asyncio.wait({task}, timeout=core.GRACE_S if is_due else core.END_S)
        finally:
            hears = task.done() and not task.cancelled()
            self._work.abandon()
        await asyncio.wait({task})
        if kind is None and hears and not self._is_told:
            self.poll()

    def __del__(self) -> None:
        work = self.__dict__.get("_work")
        if work is None or not work.call.connection.is_own() or work.task.done() or work.loop.is_closed():
            return
        work.loop.call_soon_threadsafe(work.abandon)
        warnings.warn(f"the command {self.args} was forgotten while it ran, and is ended", ResourceWarning, source=self)

    def poll(self) -> int | None:
        """The return code; None while it runs. Raises as wait."""
        return self._result(self._work.error()) if self._work.task.done() else None

    async def wait(self) -> int:
        """Waits for its end, and for its output to be read. Raises as vproxy.Popen.wait."""
        await asyncio.wait({self._work.task})
        return self._result(self._work.error())

    async def communicate(self, input: core.Buffer | None = None) -> tuple[bytes, bytes | None]:
        """Sends input, reads all output, and waits. Raises as wait."""

        async def feed() -> None:
            with suppress(BrokenPipeError):
                await self.stdin.write(input or b"")
            await self.stdin.close()

        if self.stderr is None:
            _, out = await asyncio.gather(feed(), self.stdout.read())
            err = None
        else:
            _, out, err = await asyncio.gather(feed(), self.stdout.read(), self.stderr.read())
        await self.wait()
        return out, err

    def _send(self, record: bytes) -> None:
        self._work.send(record)


class _Work:
    """The task of a Process, which it does not keep from being forgotten."""

    def __init__(self, call: _calls.Call, outputs: dict[int, _Output]) -> None:
        self.call = call
        #: Those that have not ended.
        self.outputs = outputs
        #: Whether an output has ended; those of a command that ends follow each other.
        self.is_ending = False
        self.changed = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.task = self.loop.create_task(self._receive())
        self.task.add_done_callback(self._over)

    def abandon(self) -> None:
        self.task.cancel()
        self.call.connection.close()

    def discard(self) -> None:
        """Reads on to the end, though nobody reads the output."""
        for each in self.outputs.values():
            each.is_discarded = True
            each.resume_reading()

    def send(self, record: bytes) -> None:
        if not self.task.done():
            self.call.write(record)

    def is_deaf(self) -> bool:
        return self.call.state.input_over or self.task.done()

    def error(self) -> BaseException | None:
        """Why its result is not known; None if it is, or may be later."""
        if self.task.done() and self.task.cancelled():
            return _ended()
        return self.task.exception() if self.task.done() else None

    async def _receive(self) -> None:
        state = self.call.state
        while state.end is None:
            output = state.receive(await self.call.receive())
            self.changed.set()
            for number, piece in output:
                if number in self.outputs and piece:
                    await self.outputs[number].feed(piece)
                elif number in self.outputs:
                    each = self.outputs.pop(number)
                    self.is_ending = True
                    if each not in self.outputs.values():
                        each.reader.feed_eof()
        await self.call.finish()

    def _over(self, task: asyncio.Task[None]) -> None:
        """Readers and writers see the end of the task when they see that of their stream."""
        self.error()  # or the loop would log what nobody asked for
        for each in self.outputs.values():
            if task.cancelled():
                each.reader.set_exception(_ended())
            each.reader.feed_eof()
        self.outputs.clear()
        self.call.connection.close()
        self.changed.set()


class _Connection(_calls.Connection):
    def __init__(self, connected: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(connected)
        self.reader = reader
        self.writer = writer
        writer.transport.set_write_buffer_limits(core.TAKEN_BYTES)
        self._timeout: float | None = None
        self._is_late = False

    def set_timeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self._timed(self.writer.drain())

    def end_input(self) -> None:
        self.writer.write_eof()

    async def head(self) -> bytes:
        try:
            return await self._timed(self.reader.readuntil(core.HEAD_END))
        except (EOFError, asyncio.LimitOverrunError) as error:
            raise ConnectionError("it ended the connection without an answer") from error

    async def receive(self) -> bytes:
        return await self._timed(self.reader.read(_READ_BYTES))

    async def _timed(self, work: Awaitable[T]) -> T:
        """Closes the connection when it is late: asyncio.wait_for swallows cancellations before Python 3.12."""
        timer = None
        if self._timeout is not None:
            timer = asyncio.get_running_loop().call_later(self._timeout, self._give_up)
        try:
            result = await work
        except (OSError, EOFError):
            if self._is_late:
                raise TimeoutError("no answer in time") from None
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if self._is_late:
            raise TimeoutError("no answer in time")
        return result

    def _give_up(self) -> None:
        self._is_late = True
        self.close()

    def close(self) -> None:
        self.hang_up()
        self.writer.transport.abort()
