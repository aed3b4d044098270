"""
Every call, once, over a connection whose coroutines either wait in a loop (vproxy.aio) or block (the synchronous front,
which runs the coroutines to their end in one step).
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import closing, contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, AsyncContextManager, AsyncIterator, Callable, Iterator, Sequence, TypeVar
from urllib.parse import quote

from . import _core as core
from ._errors import Lost, OutputLimitExceeded, Refused, TimedOut, VproxyError
from ._places import choose_socket

if TYPE_CHECKING:
    from . import types

T = TypeVar("T")

#: The pause after a loss, in seconds, until a session or a job is asked for again.
_AGAIN_S = 0.5

#: The pauses after a command for which the peer had no room, in seconds, and after a full queue of the control socket.
_ROOM_S = (0.05, 1.0)
_QUEUE_S = 0.01

#: A command that starts within so many seconds did not have to wait.
_SOON_S = 1.0
# Between two looks for questions.
_LOOK_S = 0.5

#: The longest that one request waits for a session, in seconds.
_WAIT_S = 3600


class Connection:
    """A connection to a control socket. A forked child's copy ends nothing, and keeps nothing open that is closed here."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._owner = os.getpid()

    def is_own(self) -> bool:
        return self._owner == os.getpid()

    def hang_up(self) -> None:
        """Ends the connection, whose descriptor remains."""
        if self.is_own():
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        raise NotImplementedError

    def set_timeout(self, seconds: float | None) -> None:
        """Sets how long ``send``, ``head`` and ``receive`` wait before they raise TimeoutError."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    async def send(self, data: bytes) -> None:
        """Writes, and waits until most of it has been sent."""
        raise NotImplementedError

    def end_input(self) -> None:
        """Ends what is sent, after all of it."""
        raise NotImplementedError

    async def head(self) -> bytes:
        """Reads up to an empty line, and no more."""
        raise NotImplementedError

    async def receive(self) -> bytes:
        """Waits for more; empty at EOF."""
        raise NotImplementedError


class Vproxy:
    """A vproxy process of this machine; see vproxy.Vproxy."""

    def __init__(self, path: str | os.PathLike[str] | None = None, *, name: str | None = None) -> None:
        self.path = choose_socket(path, name)

    def __repr__(self) -> str:
        return f"Vproxy({self.path!r})"

    async def _joined(self, connected: socket.socket) -> Connection:
        """Takes a socket over."""
        raise NotImplementedError

    def _turn(self, label: str | None, seconds: float | None, service: str = "exec") -> AsyncContextManager[object]:
        """Is entered while a call uses a service of a channel. Raises TimeoutError if it is not its turn in time."""
        raise NotImplementedError

    async def _pause(self, seconds: float) -> None:
        raise NotImplementedError

    async def _program(self, words: list[str], env: dict[str, str], errors: IO[bytes], hear: Callable[[bytes], None]) -> int:
        """Runs a program on this machine, and passes on its output in pieces; returns its status."""
        raise NotImplementedError

    async def _connect(self, seconds: float | None) -> Connection:
        """Tries again while the process is too busy to accept, which a socket with a timeout cannot wait for."""
        end = core.deadline(seconds)
        near = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            near.setblocking(False)
            while True:
                try:
                    near.connect(self.path)
                    return await self._joined(near)
                except BlockingIOError:
                    if core.left(end) == 0:
                        raise TimeoutError("it accepts nothing") from None
                await self._pause(_QUEUE_S)
        except BaseException:
            near.close()
            raise

    async def open(self, sent: bytes, timeout: float | None) -> tuple[Any, dict[str, str]]:
        """Sends a request; returns its connection, and the headers of the answer. Raises the failure that it reports."""
        with self._naming():
            connection = await self._connect(timeout)
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
        except VproxyError:
            raise
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

    async def status(self) -> types.ControlStatus:
        """The process, and all channels."""
        value: types.ControlStatus = await self.ask("GET", "/v1/status")
        return value

    async def channels(self) -> list[types.ChannelStatus]:
        return list(await self.ask("GET", "/v1/channels"))

    async def events(
        self, since: str | float | None = None, *, follow: bool = True, timeout: float | None = None
    ) -> AsyncIterator[types.ControlEvent]:
        """
        Yields events, the past ones that are not older than ``since`` (seconds, or a time such as "10m"; None: all
        that are kept) first. Without ``follow``, ends with these; otherwise raises Lost when the process has gone, and
        TimedOut after ``timeout`` seconds without an event.
        """
        events = core.Events(since)
        connection, _ = await self.open(core.request("GET", "/v1/events", {"follow": follow}), timeout)
        with closing(connection):
            while True:
                with self._naming():
                    data = await connection.receive()
                if not data:
                    break
                for event in events.feed(data):
                    yield event
        if follow or events.lines:
            raise Lost("control-unavailable", f"the process on {self.path} has gone")


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

    def __init__(self, process: Vproxy, label: str | None, defaults: core.Json) -> None:
        self.process = process
        self.label = label
        #: As ``core.defaults`` returns it.
        self.defaults = defaults

    def __repr__(self) -> str:
        return f"Channel({self.process!r}, {self.label!r})"

    async def run(
        self, argv: Sequence[core.Word], *, input: str | core.Buffer | None = None, timeout: float | None = None,
        check: bool = False, text: bool = False, encoding: str | None = None, errors: str | None = None,
        stderr: int | None = None, cwd: core.Word | None = None, env: core.Environment | None = None, user: str | None = None,
        kill_after: float | None = None, max_output: int | None = None,
    ) -> core.Completed:  # fmt: skip
        """
        Runs a command to its end, as subprocess.run does with capture_output; ``env`` is added to the environment
        there, and ``stderr=subprocess.STDOUT`` merges both outputs, in order of arrival. While the peer has no room
        for another command, waits for its turn. After ``timeout`` seconds the peer ends it, with SIGKILL ``kill_after``
        seconds later, and this raises subprocess.TimeoutExpired; beyond ``max_output`` bytes OutputLimitExceeded. Raises
        Refused if the command is denied or not found, and Lost if its result will never be known.
        """
        form, is_merged = core.as_text(text, encoding, errors), core.is_merged(stderr)
        data = form.encoded(input)
        if max_output is not None:
            core.whole(max_output, "max_output", 0, core.MAX_INTEGER)
        end = core.deadline(timeout)
        asked = core.command(argv, cwd=cwd, env=env, user=user, shell=False, has_input=len(data) > 0, kill_after=kill_after)
        pause, longest = _ROOM_S
        while True:
            output = {1: bytearray(), 2: bytearray()}
            if is_merged:
                output[2] = output[1]
            try:
                async with self.process._turn(self.label, core.left(end)):
                    left = core.left(end)
                    if left == 0:
                        raise TimeoutError
                    timed = {**asked, **core.timing(left), "wait": True}
                    result = await self._run(timed, data, output, max_output, end)
            except (VproxyError, TimeoutError) as error:
                if isinstance(error, VproxyError) and error.code != "too-many-streams":
                    raise
                if core.left(end) == 0:
                    out, err = bytes(output[1]), None if is_merged else bytes(output[2])
                    raise subprocess.TimeoutExpired(asked["argv"], timeout or 0, out, err) from error
            else:
                break
            await self.process._pause(min(pause, core.left(end) or pause))
            pause = min(pause * 2, longest)
        out, err = bytes(output[1]), None if is_merged else bytes(output[2])
        return core.completed(result, asked, timeout, out, err, form, check)

    async def _run(
        self, asked: core.Json, data: core.Buffer, output: dict[int, bytearray], max_output: int | None, end: float | None
    ) -> core.End | None:
        soon = time.monotonic() + _SOON_S
        call: Call | None = None
        try:
            call = await self.call(asked, core.left(end))
            call.state.wait()
            call.deadline, call.soon = end, soon
            call.source = io.BytesIO(data).read if data else None
            room = max_output
            async for number, piece in call.outputs():
                if number not in output:
                    continue
                output[number] += piece if room is None else piece[:room]
                if room is not None:
                    room -= len(piece)
                    if room < 0:
                        err = None if output[1] is output[2] else bytes(output[2])
                        raise OutputLimitExceeded(asked["argv"], max_output or 0, bytes(output[1]), err)
            return call.state.end
        except TimedOut as error:
            # A command that had to wait is not given more time than its caller has.
            raise TimeoutError(str(error)) if core.left(end) == 0 and (call is None or call.deadline == end) else error
        finally:
            if call is not None:
                call.connection.close()

    async def call(self, asked: core.Json, timeout: float | None = None) -> Call:
        """Starts what ``core.command`` described; waits up to ``timeout`` seconds for the peer to accept it."""
        env = {**self.defaults.get("env", {}), **asked.get("env", {})}
        return await self._exec(core.ExecCall.start({**self.defaults, **asked, **({"env": env} if env else {})}), timeout)

    async def _exec(self, first: bytes, timeout: float | None = None, reopened: bool = False) -> Call:
        return Call(self.process, *await self._open("exec", timeout, attached=True, reopened=reopened), first)

    async def _open(self, service: str, timeout: float | None, **how: bool) -> tuple[Any, dict[str, str]]:
        try:
            return await self.process.open(core.connect_request(service, self.label, **how), timeout)
        except VproxyError as error:
            if error.code not in ("unknown-service", "denied"):
                raise
            what, option = ("commands", "exec") if service == "exec" else ("copies", "copy")
            message = f"the peer does not allow {what}; start vproxy there with --allow-{option}"
            raise Refused(error.code, message) from error

    async def start(
        self, argv: Sequence[core.Word], *, tag: str | None = None, keep: int | None = None, timeout: float | None = None,
        cwd: core.Word | None = None, env: core.Environment | None = None, user: str | None = None,
        kill_after: float | None = None, tty: core.Terminal = False, input: bool | None = None, unique: bool = False,
    ) -> str:  # fmt: skip
        """
        Starts a command that outlives its caller, and returns its id. The peer keeps the last ``keep`` bytes of its output,
        by default 1 MiB. With ``tty`` it has a terminal, and may be the login shell, as in ``popen``; with ``input``, or by
        default with ``tty``, ``attach`` can write to it. Raises as ``run``, but does not wait for its turn:
        ``too-many-streams`` if the peer has no room for it; and with ``unique`` ``job-exists`` if a job with its tag runs.
        """
        has_input = bool(tty) if input is None else input
        asked = core.command(
            argv, cwd=cwd, env=env, user=user, tty=tty, shell=bool(tty), has_input=has_input, timeout=timeout,
            kill_after=kill_after,
        )  # fmt: skip
        call = await self.call({**asked, "detach": core.detachment(tag, keep, unique)})
        with closing(call.connection):
            while call.state.pid is None:
                call.state.receive(await call.receive())
            if call.state.job is None:
                raise VproxyError("protocol-error", "the vproxy of the peer knows no jobs")
            await call.finish()
        return call.state.job

    async def jobs(self) -> list[types.Job]:
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

    async def stop_job(self, job: str, *, kill_after: float | None = None) -> int:
        """
        Ends a job with SIGTERM, then SIGKILL after ``kill_after`` seconds, by default 5; returns its return code, also if it
        had ended. Raises Refused.
        """
        limit = core.milliseconds(kill_after, "kill_after")
        call = await self._exec(core.job_request(core.STOP, id=job, **({} if limit is None else {"killAfterMs": limit})))
        with closing(call.connection):
            async for _ in call.outputs():
                pass
        assert call.state.end is not None
        return call.state.end.returncode

    async def egress_allow(
        self, name: str, *destinations: str, seconds: float | None = None, ask: float | None = None
    ) -> types.EgressStatus:
        """
        Lets the peer reach more destinations, such as "pypi.org:443", for a time; by default until ``egress_reset``. With ``ask``,
        others wait that many seconds for an answer to ``egress_questions``, until the reset.
        """
        return await self._change_egress("allow", name, destinations=list(destinations), forS=seconds, askS=ask)

    async def egress_block(self, name: str) -> types.EgressStatus:
        """Denies everything, and resets what is open, until ``egress_reset``."""
        return await self._change_egress("block", name)

    async def egress_reset(self, name: str) -> types.EgressStatus:
        """Restores the rules of the configuration."""
        return await self._change_egress("reset", name)

    async def egress_rules(self, name: str) -> types.EgressStatus:
        """The rules in effect, and what was changed."""
        for egress in await self._own("/v1/egress"):
            if egress["name"] == name:
                return egress  # type: ignore[no-any-return]
        raise Refused("not-found", f"no egress {name!r}")

    async def egress_test(self, name: str, destination: str) -> types.EgressTest:
        """Whether the peer may reach a destination, such as "pypi.org:443", and why; connects to nothing."""
        body = {"name": name, "channel": self.label, "destination": destination}
        test: types.EgressTest = await self.process.ask("POST", "/v1/egress/test", body=body)
        return test

    async def egress_questions(self) -> AsyncIterator[Question]:
        """The destinations that wait for an answer, each once, as they come, without an end; ``allow`` or ``deny`` them."""
        known: set[str] = set()
        while True:
            asked = await self._own("/v1/egress/questions")
            for each in asked:
                if each["id"] not in known:
                    yield Question(self, each)
            known = {each["id"] for each in asked}
            await self.process._pause(_LOOK_S)

    async def _change_egress(self, change: str, name: str, **more: Any) -> types.EgressStatus:
        body = {"name": name, "channel": self.label, **more}
        status: types.EgressStatus = await self.process.ask("POST", f"/v1/egress/{change}", body=body)
        return status

    async def stream(self, service: str, timeout: float | None = None) -> Any:
        """Opens a stream; returns its connection."""
        asked = core.connect_request(core.word(service, "a service"), self.label)
        connection, _ = await self.process.open(asked, timeout)
        connection.set_timeout(None)
        return connection

    async def copy_to(
        self, source: core.Words, target: core.Word, *, resume: bool = False, progress: core.Progress = None
    ) -> core.Json:
        """
        Copies files or folders of this machine to the peer's, by the installed vproxy, or $VPROXY. ``progress`` gets how far
        it is, at most ten times a second, and then what is returned: what ``vproxy copy --json --progress`` prints. A copy that is
        cancelled leaves nothing, unless with ``resume``, or if the channel or this process is lost.
        """
        return await self._copy("to", source, target, resume, progress)

    async def copy_from(
        self, source: core.Words, target: core.Word, *, resume: bool = False, progress: core.Progress = None
    ) -> core.Json:
        """Copies files or folders of the peer's machine to this one, likewise."""
        return await self._copy("from", source, target, resume, progress)

    async def _copy(
        self, way: str, source: core.Words, target: core.Word, resume: bool, progress: core.Progress
    ) -> core.Json:
        label = await self._known_label()
        words = core.copy_command(way, source, target, label, resume=resume, progress=progress is not None)
        last: core.Json = {}
        lines = core.Lines()

        def hear(data: bytes) -> None:
            for told in lines.feed(data):
                if "progress" not in told:
                    last.update(told)
                if progress is not None:
                    progress(told.get("progress", dict(last)))

        with tempfile.TemporaryFile() as errors:
            env = {**os.environ, "VPROXY_SOCKET": self.process.path}
            status = await self.process._program(words, env, errors, hear)
            errors.seek(0)
            if status != 0:
                raise core.copy_failure(status, errors.read(core.MAX_ANSWER_BYTES))
        return last

    async def _known_label(self) -> str:
        if self.label is not None:
            return self.label
        channels = await self.process.channels()
        if len(channels) == 1:
            return str(channels[0]["label"])
        raise Refused("bad-argument", f"there are {len(channels)} channels; name one")

    async def wait(self, service: str | None = None, *, timeout: float | None = 60) -> None:
        """
        Waits for a session, in which the peer offers the service, also while the process restarts. Raises TimedOut after
        ``timeout`` seconds.
        """
        end = core.deadline(timeout)
        while True:
            left = min(core.left(end) or 0, _WAIT_S) if end is not None else _WAIT_S
            query = {"service": service, "channel": self.label, "timeout": round(left, 3)}
            try:
                await self.process.ask("GET", "/v1/wait", query=query, timeout=left + core.GRACE_S)
                return
            except (Lost, TimedOut) as error:
                left = _AGAIN_S if end is None else core.left(end) or 0
                if left == 0:
                    raise TimedOut(error.code, f"timed out after {timeout:g} s: {error}") from error
            await self.process._pause(min(left, _AGAIN_S))

    async def wait_booted(self, *, timeout: float | None = 60) -> types.BootStatus:
        """
        Waits until the peer's machine has booted, or failed to: see the ``verdict``. Raises TimedOut after ``timeout`` seconds, and
        Refused if the peer does not tell.
        """
        end = core.deadline(timeout)
        why = "no answer"
        while True:
            try:
                await self.wait(timeout=core.left(end))
                query, patience = {"channel": self.label}, max(core.left(end) or 0, _AGAIN_S) if end is not None else None
                status: types.BootStatus = await self.process.ask("GET", "/v1/boot", query=query, timeout=patience)
                if status["verdict"] != "booting":
                    return status
                why = "; ".join(status["remarks"])
            except (Lost, TimedOut) as error:
                why = str(error.__cause__ if isinstance(error.__cause__, VproxyError) else error)
            if core.left(end) == 0:
                raise TimedOut("not-booted", f"not booted after {timeout:g} s: {why}")
            await self.process._pause(_AGAIN_S if end is None else min(core.left(end) or 0, _AGAIN_S))

    async def ping(self) -> float:
        """Measures the round trip to the peer, in seconds."""
        answer: types.PingAnswer = await self.process.ask("POST", "/v1/ping", body={"channel": self.label})
        return answer["roundTripMs"] / 1000

    async def freeze(self, *paths: str, seconds: int = 10) -> Frozen:
        """
        Freezes the file systems at these mount points, or all that can be frozen. They thaw with the block of ``with``, by
        ``thaw``, or by themselves after ``seconds``, 1 to 60.
        """
        body = {"channel": self.label, "paths": list(paths), "forS": seconds}
        return Frozen(self, await self.process.ask("POST", "/v1/freeze", body=body))

    async def add_forward(self, direction: types.Direction, spec: str) -> types.ForwardStatus:
        """Adds a forward, "outgoing" as ``-o`` or "incoming" as ``-i``; its ``endpoint`` has the port that the system chose."""
        body = {"channel": self.label, "direction": direction, "spec": spec}
        added: types.ForwardStatus = await self.process.ask("POST", "/v1/forwards", body=body)
        return added

    async def remove_forward(self, id: str, *, drain: bool = True) -> None:
        """Removes a forward; waits for its streams to end, or resets them."""
        query = {"mode": "drain" if drain else "now"}
        await self.process.ask("DELETE", f"/v1/forwards/{quote(id, safe='')}", query=query)

    async def info(self) -> types.MachineInfo:
        """Information that the peer's machine reports about itself, and its clock offset."""
        info: types.MachineInfo = await self.process.ask("GET", "/v1/info", query={"channel": self.label})
        return info

    async def services(self) -> list[types.ServiceStatus]:
        """The services that either side offers."""
        return await self._own("/v1/services")

    async def ports(self) -> list[types.PortStatus]:
        """The ports that either side announces."""
        return await self._own("/v1/ports")

    async def _own(self, path: str) -> list[Any]:
        label = await self._known_label()
        rows = [row for row in await self.process.ask("GET", path) if row["channel"] == label]
        if not rows:
            # Nothing, or no such channel: then it is refused.
            await self.process.ask("GET", f"/v1/channels/{quote(label, safe='')}")
        return rows


class Question:
    """A destination that waits for an answer: ``told`` is what ``vproxy egress asked --json`` prints."""

    def __init__(self, channel: Channel, told: types.EgressQuestion) -> None:
        self._channel = channel
        self.told = told

    def __repr__(self) -> str:
        return f"Question({self.told['destination']!r})"

    @property
    def destination(self) -> str:
        """``HOST:PORT``."""
        return self.told["destination"]

    async def allow(self, seconds: float | None = None) -> types.EgressStatus:
        """Allows it for a time, by default until ``egress_reset``. Raises Refused with ``not-found`` if the question is over."""
        return await self._answer(True, seconds)

    async def deny(self, seconds: float | None = None) -> types.EgressStatus:
        """Denies it, likewise."""
        return await self._answer(False, seconds)

    async def _answer(self, is_allowed: bool, seconds: float | None) -> types.EgressStatus:
        body = {"id": self.told["id"], "channel": self.told["channel"], "isAllowed": is_allowed, "forS": seconds}
        status: types.EgressStatus = await self._channel.process.ask("POST", "/v1/egress/answer", body=body)
        return status


class Frozen:
    """Frozen file systems of a machine; ``paths`` are their mount points."""

    def __init__(self, channel: Channel, told: types.FrozenAnswer) -> None:
        self._channel = channel
        self.paths = told["paths"]
        self._is_thawed = False

    async def thaw(self) -> types.ThawedAnswer:
        """Thaws them now; the answer says whether they were still frozen."""
        body = {"channel": self._channel.label}
        thawed: types.ThawedAnswer = await self._channel.process.ask("POST", "/v1/thaw", body=body)
        self._is_thawed = True
        return thawed

    async def __aenter__(self) -> Frozen:
        return self

    async def __aexit__(self, kind: type | None, *_rest: object) -> None:
        if self._is_thawed:
            return
        try:
            thawed = await self.thaw()
        except VproxyError:
            if kind is None:
                raise
        else:
            if kind is None and thawed["cause"] == "time":
                raise VproxyError("freeze-failed", f"{', '.join(self.paths)}: thawed by itself before the block ended")


class Call:
    """A running command: its output is read in the order in which it comes, while standard input is sent."""

    def __init__(self, process: Vproxy, connection: Connection, headers: dict[str, str], first: bytes) -> None:
        self.connection = connection
        self.state = core.ExecCall()
        self._process = process
        self._end_path = headers.get("vproxy-end", "")
        #: Reads standard input: up to so many bytes, none at its end, and None if there are none yet.
        self.source: Callable[[int], bytes | None] | None = None
        #: When to give up: a while later for a command that has started soon, since its runner ends it and reports that.
        self.deadline: float | None = None
        self.soon = 0.0
        self._is_lost = False
        connection.set_timeout(None)
        self.write(first)

    def lost(self, reason: VproxyError | None) -> VproxyError:
        """The error for a stream that ended too early."""
        return self.state.lost(reason)

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
            received = await self.receive()
            was_running = self.state.pid is not None
            output = self.state.receive(received)
            if self.deadline is not None and self.state.pid is not None and not was_running and time.monotonic() < self.soon:
                self.deadline += core.GRACE_S
            for each in output:
                yield each
        await self.finish()

    def write(self, record: bytes) -> None:
        """Sends a record. Why it failed is found when reading."""
        with suppress(OSError):
            self.connection.write(record)

    async def send(self, *pieces: bytes) -> None:
        """Likewise, in pieces, and waits until most of each has been sent. Raises TimedOut."""
        try:
            for piece in pieces:
                await self.connection.send(piece)
        except TimeoutError as error:
            raise TimedOut("stalled", "the peer takes nothing") from error
        except OSError:
            pass

    async def receive(self) -> bytes:
        """Waits for more. Raises TimedOut, and Lost at the end of the stream."""
        data = b""
        try:
            if self.deadline is not None:
                self.connection.set_timeout(core.left(self.deadline))
            data = await self.connection.receive()
        except TimeoutError as error:
            raise TimedOut("stalled", "the peer did not answer in time") from error
        except OSError:
            pass
        if not data:
            reason = await self._end_reason()
            raise self.lost(reason) from reason
        return data

    def lose(self) -> None:
        """Loses the stream, to which nothing more may be sent."""
        self._is_lost = True
        self.connection.hang_up()

    async def _end_reason(self) -> VproxyError | None:
        if self._is_lost:
            return Lost("cancelled", "what was being sent was interrupted")
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
    The output of a job, in pieces, to its end. When the channel or the process is lost, it calls ``on_lost`` with the reason,
    and continues once they are back; it raises the reason after ``timeout`` seconds without them. Raises
    Refused if there is no such job, and with ``input`` also if the job has none, or another caller writes to it.
    """

    def __init__(
        self, channel: Channel, job: str, start: int = 0, *, tail: int | None = None,
        on_lost: Callable[[VproxyError], object] | None = None, timeout: float | None = None,
        input: bool = False, steal: bool = False,
    ) -> None:  # fmt: skip
        self._channel, self._job, self._tail = channel, job, tail
        self._input: core.Json = {**({"input": True} if input else {}), **({"steal": True} if steal else {})}
        # Guards what is sent, in any thread.
        self._lock = threading.Lock()
        self._call: Call | None = None
        self._unsent = bytearray()
        self._has_closed = self._is_end_sent = False
        self._size = b""
        #: Credit that is used.
        self._used = 0
        self._on_lost, self._timeout = on_lost, timeout
        #: The number of the next byte.
        self.position = start
        #: How many bytes were no longer kept when they were to be read.
        self.dropped = 0
        #: How the job ended; None before.
        self.end: core.End | None = None
        core.deadline(timeout)
        self._request()

    def _request(self) -> bytes:
        place = {"from": self.position} if self._tail is None else {"tail": self._tail}
        return core.job_request(core.ATTACH, id=self._job, **place, **self._input)

    @property
    def unsent(self) -> int:
        """How many bytes that were written the job has no room for yet."""
        return len(self._unsent)

    def write(self, data: core.Buffer) -> None:
        """
        Writes to the job, which gets it while its output is read. Does not wait for the job: the rest is kept here. After a loss,
        what was sent may have come or not. Raises BrokenPipeError after ``close_input``, and once the job has ended.
        """
        if self._has_closed or self.end is not None:
            raise BrokenPipeError("the input of the job has ended")
        with self._lock:
            self._unsent += self._own(data)
        self._flush()

    def close_input(self) -> None:
        """Ends the input of the job for good, after what was written."""
        self._has_closed = bool(self._own(True))
        self._flush()

    def resize(self, columns: int, rows: int) -> None:
        """Changes the size of its terminal, now and after a loss; ignores a size below 1."""
        self._size = self._own(core.ExecCall.resize(columns, rows)) or self._size
        self._send(self._size)

    def send_signal(self, number: int) -> None:
        """Signals its process group; no effect while it is lost."""
        self._send(self._own(core.ExecCall.signal(number)))

    def _own(self, value: T) -> T:
        if not self._input:
            raise io.UnsupportedOperation("attach to the job with input=True")
        return value

    def _send(self, record: bytes) -> None:
        with self._lock:
            if self._call is not None:
                self._call.write(record)

    def _flush(self, _most: int = 0) -> None:
        with self._lock:
            call = self._call
            if call is None:
                return
            try:
                while self._unsent and self._used < call.state.credit:
                    piece = self._unsent[: min(call.state.credit - self._used, core.PIECE_BYTES)]
                    del self._unsent[: len(piece)]
                    self._used += len(piece)
                    call.connection.write(call.state.typed(piece))
                if self._has_closed and not self._unsent and not self._is_end_sent:
                    self._is_end_sent = True
                    call.connection.write(call.state.end_of(0))
            except BaseException as error:
                self._call = None
                # Reading finds out why the stream ended, or was left.
                if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                    return
                # That of a signal handler may come within a record, which the next one would continue.
                call.lose()
                raise

    @contextmanager
    def _joined(self, call: Call) -> Iterator[None]:
        """Writes to this call once it has credit."""
        if self._input:
            with self._lock:
                self._call, self._used, self._is_end_sent = call, 0, False
                call.state.credit, call.source = 0, self._flush
                call.write(self._size)
        try:
            yield
        finally:
            call.connection.hang_up()  # which ends a write that has the lock, and waits in another thread
            with self._lock:
                self._call = None

    async def _leave(self, call: Call) -> None:
        """Sends what was written before, then an end, and waits until the peer has it all; not for long."""
        end = core.deadline(core.LEAVE_S)
        call.connection.set_timeout(core.LEAVE_S)
        # A write in another thread may wait, without that timeout.
        if not self._lock.acquire(timeout=core.LEAVE_S):
            return
        self._lock.release()
        try:
            while call.state.end is None and core.left(end) != 0:
                self._flush()
                with self._lock:
                    if self._call is call and not self._unsent:
                        self._call = None
                        call.connection.end_input()
                call.connection.set_timeout(core.left(end))
                data = await call.connection.receive()
                if not data:
                    return
                call.state.receive(data)
        except (OSError, VproxyError) as error:
            # That of a signal handler has come earlier.
            if isinstance(error, TimeoutError) and core.left(end) != 0:
                raise

    async def pieces(self) -> AsyncIterator[bytes]:
        was_open = False
        end: float | None = None
        while self.end is None:
            try:
                call = await self._channel._exec(self._request(), core.left(end), reopened=True)
                was_open = True
                with closing(call.connection), self._joined(call):
                    try:
                        async for number, piece in call.outputs():
                            end = None
                            if number == core.ABOUT_JOBS:
                                start = core.about_jobs(piece, "from", int)
                                self.dropped += start - self.position if self._tail is None else 0
                                self.position, self._tail = start, None
                                self._input.pop("steal", None)
                            else:
                                self.position += len(piece)
                                yield piece
                    except VproxyError:
                        raise
                    except BaseException:
                        if self._input:
                            await self._leave(call)
                        raise
                self.end = call.state.end
            except (Lost, TimedOut) as error:
                if not was_open:
                    raise
                # A peer that ended the stream itself would do so again.
                if error.code == "exec-unavailable" and not isinstance(error.__cause__, (Lost, TimedOut)):
                    raise Lost(error.code, "the peer ended the output of the job without a result") from error
                if self._on_lost is not None:
                    self._on_lost(error)
                end = core.deadline(self._timeout) if end is None else end
                if core.left(end) == 0:
                    raise
                await self._channel.process._pause(min(_AGAIN_S, core.left(end) or _AGAIN_S))


class Running:
    """What Popen and Process have in common."""

    def __init__(self, call: Call, asked: core.Json) -> None:
        self.args: list[str] = asked["argv"]
        self.returncode: int | None = None
        self._asked = asked
        self._call = call
        #: Whether the program has seen how its command ended.
        self._is_told = False

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
        """Changes the size of its terminal; ignores a size below 1."""
        self._send(self._call.state.resize(columns, rows))

    def _send(self, record: bytes) -> None:
        self._call.write(record)

    def _check_own(self) -> None:
        if not self._call.connection.is_own():
            raise Lost("exec-unavailable", "the command belongs to the process that this one was forked from")

    def _result(self, error: BaseException | None) -> int:
        """The return code of a command that has ended; raises its failure."""
        self._is_told = True
        if error is not None:
            raise error
        self.returncode = core.returncode(self._call.state.end, self._asked)
        return self.returncode
