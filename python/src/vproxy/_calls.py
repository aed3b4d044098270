"""
Every call, once, over a connection whose coroutines either wait in a loop (vproxy.aio) or block (the synchronous front,
which runs the coroutines to their end in one step).
"""

from __future__ import annotations

import io
import json
import os
import subprocess
from contextlib import closing, contextmanager, suppress
from typing import Any, AsyncContextManager, AsyncIterator, Callable, Iterator, Mapping, Protocol, Sequence

from . import _core as core
from ._errors import Lost, Refused, TimedOut, VproxyError
from ._places import choose_socket


#: The pause until a job whose channel was lost is read again, in seconds.
_AGAIN_S = 0.5


class Connection(Protocol):
    """A connection to a control socket."""

    def set_timeout(self, seconds: float | None) -> None:
        """Sets how long ``send``, ``head`` and ``receive`` wait before they raise TimeoutError."""

    def write(self, data: bytes) -> None: ...

    async def send(self, data: bytes) -> None:
        """Writes, and waits until most of it has gone."""

    async def head(self) -> bytes:
        """Reads up to an empty line, and no more."""

    async def receive(self) -> bytes:
        """Waits for more; none at the end."""

    def close(self) -> None: ...


class Vproxy:
    """A vproxy process of this machine; see vproxy.Vproxy."""

    def __init__(self, path: str | None = None, *, name: str | None = None) -> None:
        self.path = choose_socket(path, name)

    def __repr__(self) -> str:
        return f"Vproxy({self.path!r})"

    async def _connect(self) -> Connection:
        raise NotImplementedError

    def _turn(self) -> AsyncContextManager[object]:
        """Is entered while ``run`` runs a command."""
        raise NotImplementedError

    async def _pause(self, seconds: float) -> None:
        raise NotImplementedError

    async def _program(self, words: list[str], env: dict[str, str], hear: Callable[[bytes], None]) -> tuple[int, bytes]:
        """Runs a program of this machine, line by line; returns its status and its errors."""
        raise NotImplementedError

    async def open(self, sent: bytes, timeout: float | None) -> tuple[Any, dict[str, str]]:
        """Sends a request; returns its connection, and the headers of the answer. Raises the failure that it reports."""
        with self._naming():
            connection = await self._connect()
            try:
                connection.set_timeout(timeout)
                await connection.send(sent)
                status, headers = core.parse_head(await connection.head())
                if status >= 300:
                    core.parse_answer(status, await _rest(connection))
                return connection, headers
            except BaseException:
                connection.close()
                raise

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Names the control socket in errors of the system."""
        try:
            yield
        except OSError as error:
            raise core.unreachable(self.path, error) from error

    async def ask(
        self, method: str, path: str, *, query: core.Json = {}, body: core.Json | None = None, timeout: float | None = None
    ) -> Any:
        """
        Makes any request of docs/control.md, and returns the value of the answer. Raises what the answer reports, and
        TimedOut after ``timeout`` silent seconds.
        """
        connection, _ = await self.open(core.request(method, path, query, body), timeout)
        with closing(connection), self._naming():
            return core.parse_answer(200, await _rest(connection))

    async def status(self) -> core.Json:
        """The process, and all channels."""
        return dict(await self.ask("GET", "/v1/status"))

    async def channels(self) -> list[core.Json]:
        return list(await self.ask("GET", "/v1/channels"))

    async def events(self, since: str | float | None = None, *, follow: bool = True) -> AsyncIterator[core.Json]:
        """
        Yields events, the past ones that are not older than ``since`` (seconds, or a time such as "10m"; None: all
        that are kept) first. Without ``follow``, ends with these.
        """
        events = core.Events(since)
        connection, _ = await self.open(core.request("GET", "/v1/events", {"follow": follow}), None)
        with closing(connection), self._naming():
            while True:
                data = await connection.receive()
                if not data:
                    return
                for event in events.feed(data):
                    yield event


async def _rest(connection: Connection) -> bytes:
    content = bytearray()
    while len(content) <= core.MAX_ANSWER_BYTES:
        piece = await connection.receive()
        if not piece:
            break
        content += piece
    return bytes(content)


class Channel:
    """A channel, and the machine at its other end; see vproxy.Channel."""

    def __init__(self, process: Vproxy, label: str | None) -> None:
        self.process = process
        self.label = label

    def __repr__(self) -> str:
        return f"Channel({self.process!r}, {self.label!r})"

    async def run(
        self, argv: Sequence[str], *, input: str | core.Buffer | None = None, timeout: float | None = None,
        check: bool = False, text: bool = False, encoding: str | None = None, cwd: str | None = None,
        env: Mapping[str, str] | None = None, user: str | None = None,
    ) -> subprocess.CompletedProcess[Any]:  # fmt: skip
        """
        Runs a command to its end, as subprocess.run does with capture_output; ``env`` is added to the environment
        there. After ``timeout`` seconds the peer ends it, and this raises subprocess.TimeoutExpired. Raises Refused if
        the command is not allowed or not there, and Lost if its result will never be known.
        """
        encoding = encoding or ("utf-8" if text else None)
        data = input.encode(encoding or "utf-8") if isinstance(input, str) else bytes(input or b"")
        asked = core.command(argv, cwd=cwd, env=env, user=user, has_input=bool(data), timeout=timeout)
        output = {1: bytearray(), 2: bytearray()}
        async with self.process._turn():
            call = await self.call(asked, core.patience(asked))
            with closing(call.connection):
                call.connection.set_timeout(core.patience(asked))
                call.source = io.BytesIO(data).read if data else None
                async for number, piece in call.outputs():
                    if number in output:
                        output[number] += piece
        return core.completed(call.state.end, asked, map(bytes, output.values()), encoding, check)

    async def call(self, asked: core.Json, timeout: float | None = None) -> Call:
        """Starts what ``core.command`` described; waits up to ``timeout`` seconds for the peer to accept it."""
        return await self._exec(core.ExecCall.start(asked), timeout)

    async def _exec(self, first: bytes, timeout: float | None = None, reopened: bool = False) -> Call:
        connect = core.connect_request("exec", self.label, attached=True, reopened=reopened)
        try:
            opened = await self.process.open(connect, timeout)
        except VproxyError as error:
            if error.code not in ("unknown-service", "denied"):
                raise
            message = "the peer does not allow commands; start vproxy there with --allow-exec"
            raise Refused(error.code, message) from error
        return Call(self.process, *opened, first)

    async def start(
        self, argv: Sequence[str], *, tag: str | None = None, keep: int | None = None, timeout: float | None = None,
        cwd: str | None = None, env: Mapping[str, str] | None = None, user: str | None = None,
    ) -> str:  # fmt: skip
        """
        Starts a command that outlives its caller, and returns its id. The peer keeps the last ``keep`` bytes of its output,
        by default 1 MiB. Raises as ``run``.
        """
        asked = core.command(argv, cwd=cwd, env=env, user=user, has_input=False, timeout=timeout)
        call = await self.call({**asked, "detach": {"tag": tag, "keepBytes": keep}})
        with closing(call.connection):
            while call.state.pid is None:
                call.state.receive(await call.receive())
            if call.state.job is None:
                raise VproxyError("protocol-error", "the vproxy of the peer knows no jobs")
            await call.finish()
        return call.state.job

    async def jobs(self) -> list[core.Json]:
        """
        The commands that ``start`` started: those that run, and for an hour those that have ended. Raises TimedOut if the
        peer is silent for 10 s.
        """
        call = await self._exec(core.job_request(core.LIST), core.GRACE_S)
        with closing(call.connection):
            call.connection.set_timeout(core.GRACE_S)
            while True:
                for _, payload in call.state.receive(await call.receive()):
                    await call.finish()
                    return core.about_jobs(payload, "jobs", list)

    async def stop_job(self, job: str) -> int:
        """Ends a job with SIGTERM, then SIGKILL; returns its return code, also if it had ended. Raises Refused."""
        call = await self._exec(core.job_request(core.STOP, id=job))
        with closing(call.connection):
            async for _ in call.outputs():
                pass
        assert call.state.end is not None
        return call.state.end.returncode

    async def egress_allow(self, name: str, *destinations: str, seconds: float | None = None) -> core.Json:
        """Lets the peer reach more destinations, such as "pypi.org:443", for a time; by default until ``egress_reset``."""
        return await self._change_egress("allow", name, destinations=list(destinations), forS=seconds)

    async def egress_block(self, name: str) -> core.Json:
        """Denies everything, and resets what is open, until ``egress_reset``."""
        return await self._change_egress("block", name)

    async def egress_reset(self, name: str) -> core.Json:
        """Goes back to the rules of the configuration."""
        return await self._change_egress("reset", name)

    async def _change_egress(self, change: str, name: str, **more: Any) -> core.Json:
        body = {"name": name, "channel": self.label, **more}
        return dict(await self.process.ask("POST", f"/v1/egress/{change}", body=body))

    async def stream(self, service: str, timeout: float | None = None) -> Any:
        """Opens a stream; returns its connection."""
        connection, _ = await self.process.open(core.connect_request(service, self.label), timeout)
        connection.set_timeout(None)
        return connection

    async def copy_to(
        self, source: core.Words, target: str, *, resume: bool = False, progress: core.Progress = None
    ) -> core.Json:
        """
        Copies files or folders of this machine to the peer's, by the installed vproxy, or $VPROXY. ``progress`` gets what
        ``vproxy copy --json`` prints. Returns the last of that.
        """
        return await self._copy("to", source, target, resume, progress)

    async def copy_from(
        self, source: core.Words, target: str, *, resume: bool = False, progress: core.Progress = None
    ) -> core.Json:
        """Copies files or folders of the peer's machine to this one, likewise."""
        return await self._copy("from", source, target, resume, progress)

    async def _copy(self, way: str, source: core.Words, target: str, resume: bool, progress: core.Progress) -> core.Json:
        words = core.copy_command(way, source, target, await self._known_label(), resume)
        last: core.Json = {}

        def hear(line: bytes) -> None:
            last.update(json.loads(line))
            if progress is not None:
                progress(dict(last))

        try:
            status, errors = await self.process._program(words, {**os.environ, "VPROXY_SOCKET": self.process.path}, hear)
        except OSError as error:
            raise VproxyError("copy-failed", f"copies need the program vproxy: {error}") from error
        if status != 0:
            raise core.copy_failure(status, errors)
        return last

    async def _known_label(self) -> str:
        if self.label is not None:
            return self.label
        channels = await self.process.channels()
        if len(channels) == 1:
            return str(channels[0]["label"])
        raise Refused("bad-argument", f"there are {len(channels)} channels; name one")

    async def wait(self, service: str | None = None, *, timeout: float = 60) -> None:
        """Waits for a session, in which the peer offers the service. Raises TimedOut after ``timeout`` seconds."""
        query = {"service": service, "channel": self.label, "timeout": timeout}
        try:
            await self.process.ask("GET", "/v1/wait", query=query)
        except Lost as error:
            if error.code != "no-session":
                raise
            raise TimedOut(error.code, f"timed out after {timeout:g} s: {error}") from error

    async def info(self) -> core.Json:
        """What the peer's machine tells about itself, and how far its clock is off."""
        return dict(await self.process.ask("GET", "/v1/info", query={"channel": self.label}))

    async def services(self) -> list[core.Json]:
        """The services that either side offers."""
        return await self._own("/v1/services")

    async def ports(self) -> list[core.Json]:
        """The ports that either side announces."""
        return await self._own("/v1/ports")

    async def _own(self, path: str) -> list[core.Json]:
        label = await self._known_label()
        return [row for row in await self.process.ask("GET", path) if row["channel"] == label]


class Call:
    """A running command: its output is read in the order in which it comes, while standard input is sent."""

    def __init__(self, process: Vproxy, connection: Connection, headers: dict[str, str], first: bytes) -> None:
        self.connection = connection
        self.state = core.ExecCall()
        self._process = process
        self._end_path = headers.get("vproxy-end", "")
        #: Reads standard input: up to so many bytes, none at its end, and None if there are none yet.
        self.source: Callable[[int], bytes | None] | None = None
        connection.set_timeout(None)
        self.write(first)

    async def outputs(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yields the output as pairs of 1 or 2 and bytes, to the end of the command. Raises as Channel.run."""
        while self.state.end is None:
            while self.source is not None and self.state.credit > 0 and not self.state.input_over:
                piece = self.source(min(self.state.credit, core.PIECE_BYTES))
                if piece is None:
                    break
                if not piece:
                    self.source = None
                await self.send(self.state.input(piece) if piece else self.state.end_of(0))
            for each in self.state.receive(await self.receive()):
                yield each
        await self.finish()

    def write(self, record: bytes) -> None:
        """Sends a record. Why it failed is found when reading."""
        with suppress(OSError):
            self.connection.write(record)

    async def send(self, record: bytes) -> None:
        """Likewise, and waits until most of it has gone. Raises TimedOut."""
        try:
            await self.connection.send(record)
        except TimeoutError as error:
            raise TimedOut("stalled", "the peer takes nothing") from error
        except OSError:
            pass

    async def receive(self) -> bytes:
        """Waits for more, for ``state.receive``. Raises TimedOut, and Lost at the end of the stream."""
        data = b""
        try:
            data = await self.connection.receive()
        except TimeoutError as error:
            raise TimedOut("stalled", "the peer did not answer in time") from error
        except OSError:
            pass
        if not data:
            reason = await self._end_reason()
            raise self.state.lost(reason) from reason
        return data

    async def _end_reason(self) -> VproxyError | None:
        try:
            return core.reported(await self._process.ask("GET", self._end_path, timeout=core.REASON_S))
        except VproxyError as error:
            # The process has gone; its successor does not know the stream.
            return Lost("control-unavailable", str(error))
        except core.BAD_JSON:
            return None

    async def finish(self) -> None:
        """Waits a moment for the end of the stream after that of its command."""
        self.connection.set_timeout(core.END_S)
        with suppress(OSError):
            await self.connection.receive()


class JobOutput:
    """
    The output of a job, in pieces, to its end. When the channel or the process is lost, it continues where it was once they
    are back. Raises Refused if there is no such job.
    """

    def __init__(self, channel: Channel, job: str, start: int, tail: int | None) -> None:
        self._channel, self._job, self._tail = channel, job, tail
        #: The number of the next byte.
        self.position = start
        #: How many bytes were no longer kept when it was their turn.
        self.dropped = 0
        #: How the job ended; None before.
        self.end: core.End | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        was_open = False
        while self.end is None:
            place = {"from": self.position} if self._tail is None else {"tail": self._tail}
            try:
                call = await self._channel._exec(core.job_request(core.ATTACH, id=self._job, **place), reopened=True)
                was_open = True
                with closing(call.connection):
                    async for number, piece in call.outputs():
                        if number == core.ABOUT_JOBS:
                            start = core.about_jobs(piece, "from", int)
                            self.dropped += start - self.position if self._tail is None else 0
                            self.position, self._tail = start, None
                        else:
                            self.position += len(piece)
                            yield piece
                self.end = call.state.end
            except Lost as error:
                if not was_open:
                    raise
                # A peer that ended the stream itself would do so again.
                if error.code == "exec-unavailable" and not isinstance(error.__cause__, Lost):
                    raise Lost(error.code, "the peer ended the output of the job without a result") from error
                await self._channel.process._pause(_AGAIN_S)


class Running:
    """What Popen and Process have in common."""

    def __init__(self, call: Call, asked: core.Json) -> None:
        self.args: list[str] = asked["argv"]
        self.returncode: int | None = None
        self._asked = asked
        self._call = call

    @property
    def pid(self) -> int | None:
        """Its process id there; None until it is known."""
        return self._call.state.pid

    def send_signal(self, number: int) -> None:
        """Signals its process group."""
        self._send(self._call.state.signal(number))

    def terminate(self) -> None:
        self.send_signal(15)

    def kill(self) -> None:
        self.send_signal(9)

    def resize(self, columns: int, rows: int) -> None:
        """Changes the size of its terminal."""
        self._send(self._call.state.resize(columns, rows))

    def _send(self, record: bytes) -> None:
        self._call.write(record)

    def _result(self) -> int:
        self.returncode = core.returncode(self._call.state.end, self._asked)
        return self.returncode
