"""
The same for asyncio: ``Vproxy``, ``Channel`` and ``Process``, whose methods have the names of the synchronous ones.

    async with await Vproxy().channel("vm1").popen(["make"]) as process:
        async for line in process.stdout: ...
"""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any, AsyncIterator, Awaitable, Callable, Mapping, Sequence, TypeVar

from . import _calls
from . import _core as core

__all__ = ["Channel", "JobOutput", "Process", "Vproxy"]

_READ_BYTES = 1 << 16

#: The most unread output of a stream, in bytes: the command waits beyond twice that. Also that of a line.
_HELD_BYTES = 1 << 17

#: How many commands ``run`` runs at a time: their runner refuses more than 256 of all callers.
_AT_A_TIME = 128

#: The pause after a connection that the process had no room for, in seconds.
_RETRY_S = 0.01

T = TypeVar("T")


class Vproxy(_calls.Vproxy):
    """A vproxy process of this machine; see vproxy.Vproxy."""

    _turns: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None

    def channel(self, label: str | None = None) -> Channel:
        return Channel(self, label)

    def _turn(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = loop, asyncio.Semaphore(_AT_A_TIME)
        return self._turns[1]

    async def _connect(self) -> _calls.Connection:
        while True:
            try:
                return _Connection(*await asyncio.open_unix_connection(self.path, limit=_HELD_BYTES))
            except BlockingIOError:
                await asyncio.sleep(_RETRY_S)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _program(self, words: list[str], env: dict[str, str], hear: Callable[[bytes], None]) -> tuple[int, bytes]:
        none, pipe = subprocess.DEVNULL, subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*words, stdin=none, stdout=pipe, stderr=pipe, env=env)
        assert child.stdout is not None and child.stderr is not None
        errors = asyncio.ensure_future(child.stderr.read())
        try:
            async for line in child.stdout:
                hear(line)
            return await child.wait(), await errors
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()


class Channel(_calls.Channel):
    """A channel, and the machine at its other end; see vproxy.Channel."""

    async def popen(
        self, argv: Sequence[str], *, tty: core.Terminal = False, timeout: float | None = None, cwd: str | None = None,
        env: Mapping[str, str] | None = None, user: str | None = None,
    ) -> Process:  # fmt: skip
        asked = core.command(argv, cwd=cwd, env=env, user=user, tty=tty, timeout=timeout)
        return Process(await self.call(asked), asked)

    async def connect(self, service: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects to a service of the peer; returns the streams of asyncio."""
        connection: _Connection = await self.stream(service)
        return connection.reader, connection.writer


    def attach(self, job: str, start: int = 0, *, tail: int | None = None) -> JobOutput:
        """Reads the output of a job from a byte on, or its last bytes, and then as it is written; iterate over it."""
        return JobOutput(self, job, start, tail)


class JobOutput(_calls.JobOutput):
    __doc__ = _calls.JobOutput.__doc__

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.pieces()


class Input:
    """The standard input of a command."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._has_ended = False

    async def write(self, data: core.Buffer) -> None:
        """Sends all of it, as fast as the command reads. Raises BrokenPipeError if it no longer reads."""
        process, left = self._process, memoryview(bytes(data))
        call = process._call
        while left:
            while call.state.credit <= 0 and not process._is_deaf():
                process._changed.clear()
                await process._changed.wait()
            if process._is_deaf() or self._has_ended:
                raise BrokenPipeError("the command does not read standard input")
            count = min(len(left), call.state.credit, core.PIECE_BYTES)
            await call.send(call.state.input(left[:count]))
            left = left[count:]

    async def close(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._process._send(self._process._call.state.end_of(0))


class _Output(asyncio.ReadTransport):
    """The source of an asyncio.StreamReader, which is told to wait when nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = asyncio.StreamReader(limit=_HELD_BYTES)
        self.reader.set_transport(self)
        self._may_feed = asyncio.Event()
        self._may_feed.set()

    def pause_reading(self) -> None:
        self._may_feed.clear()

    def resume_reading(self) -> None:
        self._may_feed.set()

    async def feed(self, data: bytes) -> None:
        self.reader.feed_data(data)
        await self._may_feed.wait()


class Process(_calls.Running):
    """
    A running command of the peer; see vproxy.Popen. ``stdout`` and ``stderr`` are asyncio.StreamReader; with a terminal,
    ``stderr`` is None. It is ended with its block.
    """

    def __init__(self, call: _calls.Call, asked: core.Json) -> None:
        super().__init__(call, asked)
        self.stdin = Input(self)
        self._outputs = {number: _Output() for number in ((1,) if "terminal" in asked else (1, 2))}
        self.stdout = self._outputs[1].reader
        self.stderr = self._outputs[2].reader if 2 in self._outputs else None
        self._changed = asyncio.Event()
        self._receiving = asyncio.ensure_future(self._receive())

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._receiving.cancel()
        await asyncio.gather(self._receiving, return_exceptions=True)
        self._call.connection.close()

    async def wait(self) -> int:
        """Waits for its end, and for its output to be read. Raises as vproxy.Popen.wait."""
        await asyncio.shield(self._receiving)
        return self._result()

    def _is_deaf(self) -> bool:
        return self._call.state.input_over or self._receiving.done()

    async def _receive(self) -> None:
        state = self._call.state
        open_outputs = dict(self._outputs)
        try:
            while state.end is None:
                output = state.receive(await self._call.receive())
                self._changed.set()
                for number, piece in output:
                    if number in open_outputs and piece:
                        await open_outputs[number].feed(piece)
                    elif number in open_outputs:
                        open_outputs.pop(number).reader.feed_eof()
            await self._call.finish()
        finally:
            for each in open_outputs.values():
                each.reader.feed_eof()
            self._call.connection.close()
            # When this task is done.
            asyncio.get_running_loop().call_soon(self._changed.set)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._timeout: float | None = None

    def set_timeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self._timed(self.writer.drain())

    async def head(self) -> bytes:
        try:
            return await self._timed(self.reader.readuntil(core.HEAD_END))
        except (EOFError, asyncio.LimitOverrunError) as error:
            raise ConnectionError("it ended the connection without an answer") from error

    async def receive(self) -> bytes:
        return await self._timed(self.reader.read(_READ_BYTES))

    async def _timed(self, work: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(work, self._timeout)
        except asyncio.TimeoutError as error:
            raise TimeoutError(str(error)) from error

    def close(self) -> None:
        self.writer.close()
