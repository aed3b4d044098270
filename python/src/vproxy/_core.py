"""What the synchronous and the asynchronous front share: messages as bytes, without any input or output."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import time
from datetime import datetime, timezone
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Optional, Sequence, Tuple, TypeVar, Union
from urllib.parse import urlencode

from ._errors import Lost, TimedOut, VproxyError, failure

T = TypeVar("T")
Json = Dict[str, Any]
Buffer = Union[bytes, bytearray, memoryview]
Words = Union[str, Sequence[str]]
Progress = Optional[Callable[[Json], None]]
Terminal = Union[bool, Tuple[int, int]]

#: Raised when parsing unexpected JSON and using it, also for values that are nested too deep, or infinite.
BAD_JSON = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError)

#: A longer answer is not from vproxy: thousands of channels take a few megabytes.
MAX_ANSWER_BYTES = 16 << 20

#: How long the peer may take to end a stream after its command, in seconds: one closed earlier is logged as cancelled.
END_S = 0.5

#: How much longer than a timeout to wait for the report of the peer, which ends the command, in seconds.
GRACE_S = 10.0

#: How long a request for the reason of an end may take, in seconds.
REASON_S = 2.0

# Requests to the control socket (docs/control.md).

HEAD_END = b"\r\n\r\n"
MAX_HEAD_BYTES = 16 << 10


def request(method: str, path: str, query: Json, body: Json | None = None) -> bytes:
    """A request; values that are None are left out. In HTTP/1.0 the answer ends with the connection."""
    lines = [f"{method} {_target(path, query)} HTTP/1.0", "Host: vproxy"]
    content = b""
    if body is not None:
        content = json.dumps({key: value for key, value in body.items() if value is not None}).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join(lines).encode() + HEAD_END + content


def connect_request(service: str, channel: str | None, *, attached: bool = False, reopened: bool = False) -> bytes:
    """
    A request for a stream to a service. ``attached``: closing the connection resets the stream; ``reopened``: an upgrade
    may reset it.
    """
    query = {"service": service, "channel": channel, "attached": attached, "reopened": reopened}
    target = _target("/v1/connect", query)
    return f"GET {target} HTTP/1.1\r\nHost: vproxy\r\nConnection: Upgrade\r\nUpgrade: vproxy-stream".encode() + HEAD_END


def _target(path: str, query: Json) -> str:
    given = {key: json.dumps(value) if isinstance(value, bool) else value for key, value in query.items()}
    pairs = urlencode({key: value for key, value in given.items() if value is not None})
    return f"{path}?{pairs}" if pairs else path


def parse_head(data: bytes) -> tuple[int, dict[str, str]]:
    """The status of an answer, and its headers by their names in lower case. Raises Lost for anything else."""
    first, *lines = data.decode("latin-1").split("\r\n")
    status = re.match(r"HTTP/1\.[01] (\d{3})(?: |$)", first)
    if status is None:
        raise Lost("control-unavailable", "not a vproxy: it does not speak HTTP")
    return int(status[1]), {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def reported(value: Any) -> VproxyError | None:
    """The error in a JSON value; None if there was none. Raises one of BAD_JSON."""
    error = value["error"]
    return None if error is None else failure(error["code"], error["message"])


def parse_answer(status: int, body: bytes) -> Any:
    """The value of an answer. Raises the error that it reports."""
    try:
        value = json.loads(body) if body else None
        if status < 300:
            return value
        error = reported(value) or Lost("control-unavailable", "no reason")
    except BAD_JSON as reason:
        raise Lost("control-unavailable", f"not an answer of vproxy: status {status}") from reason
    raise error


def unreachable(path: str, error: object) -> VproxyError:
    """The error for a control socket that cannot be used, or does not answer."""
    if isinstance(error, TimeoutError):
        return TimedOut("open-timeout", f"no answer on {path} in time")
    code = "denied" if isinstance(error, PermissionError) else "control-unavailable"
    return failure(code, f"no vproxy answers on {path}: {error}")


class Events:
    """The answer of /v1/events, in pieces; ``since`` is in seconds, or a time such as ``10m``; None stands for all."""

    def __init__(self, since: str | float | None) -> None:
        age = since
        if isinstance(age, str):
            found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", age)
            if found is None:
                raise ValueError(f'since: "{age}" is not a time such as 90, 10m or 2h')
            age = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]
        self._oldest = None if age is None else time.time() - age
        self._pending = b""

    def feed(self, data: bytes) -> list[Json]:
        *lines, self._pending = (self._pending + data).split(b"\n")
        events: list[Json] = [json.loads(line) for line in lines]
        return [event for event in events if self._oldest is None or _seconds_of(event["time"]) >= self._oldest]


def _seconds_of(moment: str) -> float:
    return datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()


# Records of the service exec (docs/protocol.md).

_START, _STDIN, _RESIZE, _SIGNAL, _EOF = 1, 2, 3, 4, 5
_STARTED, _STDOUT, _STDERR, _CREDIT, _EXIT = 16, 17, 18, 19, 20
LIST, ATTACH, STOP = 6, 7, 8
_JOBS, _FROM = 21, 22

#: The number, among the pieces of output, of JSON about jobs.
ABOUT_JOBS = 0

_HEADER = struct.Struct(">BI")
_MAX_PAYLOAD_BYTES = 1 << 20
_FIRST_CREDIT_BYTES = 262_144

#: The most bytes of standard input in a record.
PIECE_BYTES = 65_536

#: The return code of a command that was killed by a signal unknown to this system.
_UNKNOWN_SIGNAL = -255


def command(
    argv: Sequence[str], *, cwd: str | None = None, env: Mapping[str, str] | None = None, user: str | None = None,
    tty: Terminal = False, term: str = "xterm-256color", has_input: bool = True, timeout: float | None = None,
) -> Json:  # fmt: skip
    """A request to run a command; ``tty`` may be columns and rows, and ``timeout`` is in seconds."""
    if isinstance(argv, (str, bytes)):
        raise TypeError('argv must be a list of words, such as ["sh", "-c", "…"]')
    asked: Json = {"argv": list(argv), "hasInput": has_input, "cwd": cwd, "user": user}
    asked["env"] = None if env is None else dict(env)
    asked["timeoutMs"] = None if timeout is None else max(1, round(timeout * 1000))
    if tty:
        columns, rows = (80, 24) if tty is True else tty
        asked["terminal"] = {"columns": columns, "rows": rows, "term": term}
    return {key: value for key, value in asked.items() if value is not None}


def patience(asked: Json) -> float | None:
    """How long a command with a timeout may be silent, in seconds, until its peer is given up."""
    return asked["timeoutMs"] / 1000 + GRACE_S if "timeoutMs" in asked else None


class End(NamedTuple):
    """How a command ended: its status, or minus the number of the signal that killed it, as in subprocess."""

    returncode: int
    timed_out: bool


class ExecCall:
    """The protocol on a stream of exec. Give it what was received; it returns the output, and makes what is sent."""

    def __init__(self) -> None:
        self._received = bytearray()
        #: The bytes of standard input that may be sent now.
        self.credit = _FIRST_CREDIT_BYTES
        self.pid: int | None = None
        #: The id of a command that outlives its caller.
        self.job: str | None = None
        self.end: End | None = None
        #: Whether the command no longer reads standard input.
        self.input_over = False

    @staticmethod
    def start(asked: Json) -> bytes:
        return _record(_START, json.dumps(asked).encode())

    def input(self, data: Buffer) -> bytes:
        """A record of standard input: at most ``credit`` and ``PIECE_BYTES``."""
        self.credit -= len(data)
        return _record(_STDIN, bytes(data))

    @staticmethod
    def end_of(stream: int) -> bytes:
        """Ends standard input (0), or says that output (1) or error (2) is no longer read."""
        return _record(_EOF, bytes([stream]))

    @staticmethod
    def signal(number: int) -> bytes:
        known = number in signal.valid_signals()
        return _record(_SIGNAL, (signal.Signals(number).name if known else f"SIG{number}").encode())

    @staticmethod
    def resize(columns: int, rows: int) -> bytes:
        return _record(_RESIZE, struct.pack(">HH", columns, rows))

    def receive(self, data: bytes) -> list[tuple[int, bytes]]:
        """
        Returns the output, as pairs of 1 or 2 and bytes, where none mean its end, or of ABOUT_JOBS and JSON. Raises why the
        command did not run.
        """
        self._received += data
        output: list[tuple[int, bytes]] = []
        at = 0
        while len(self._received) - at >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._received, at)
            if length > _MAX_PAYLOAD_BYTES:
                raise VproxyError("protocol-error", f"a record of {length} bytes exceeds {_MAX_PAYLOAD_BYTES}")
            if len(self._received) - at - _HEADER.size < length:
                break
            payload = bytes(self._received[at + _HEADER.size : at + _HEADER.size + length])
            at += _HEADER.size + length
            if kind in (_STDOUT, _STDERR) and payload:
                output.append((kind - _STDOUT + 1, payload))
            elif kind in (_JOBS, _FROM):
                output.append((ABOUT_JOBS, payload))
            elif kind == _CREDIT:
                self.credit += int.from_bytes(payload, "big")
            elif kind == _EOF and payload == b"\0":
                self.input_over = True
            elif kind == _EOF and payload in (b"\1", b"\2"):
                output.append((payload[0], b""))
            elif kind in (_STARTED, _EXIT):
                self._take_report(kind, payload)
        del self._received[:at]
        return output

    def _take_report(self, kind: int, payload: bytes) -> None:
        try:
            told = json.loads(payload)
            reason = None if kind == _STARTED else reported(told)
            if kind == _STARTED:
                self.pid, self.job = int(told["pid"]), told.get("job")
            elif reason is None:
                self.end = End(_returncode(told["status"], told["signal"]), told.get("timedOut") is True)
        except BAD_JSON as error:
            raise VproxyError("protocol-error", "the peer sent no valid result of the command") from error
        if reason is not None:
            raise reason

    def lost(self, reason: VproxyError | None) -> VproxyError:
        """The error for a stream that ended before the command did."""
        if self.pid is None and reason is not None and reason.code in ("unknown-service", "denied"):
            return reason
        what = "it is unknown whether the command ran" if self.pid is None else "the result of the command is unknown"
        return Lost("exec-unavailable", f"{what}: {reason or 'the peer ended the stream'}")


def job_request(kind: int, **fields: object) -> bytes:
    """A LIST, ATTACH or STOP."""
    return _record(kind, json.dumps(fields).encode() if fields else b"")


def about_jobs(payload: bytes, name: str, kind: type[T]) -> T:
    """A field of what the peer said about jobs."""
    try:
        value = json.loads(payload)[name]
    except BAD_JSON:
        value = None
    if type(value) is not kind:
        raise VproxyError("protocol-error", f"the peer sent no valid {name}")
    return value


def _record(kind: int, payload: bytes) -> bytes:
    return _HEADER.pack(kind, len(payload)) + payload


def _returncode(status: object, name: object) -> int:
    if status is None:
        name = name if isinstance(name, str) else ""
        known = signal.Signals.__members__.get(name)
        number = re.fullmatch(r"SIG(\d{1,3})", name)
        return -known if known is not None else -int(number[1]) if number else _UNKNOWN_SIGNAL
    if type(status) is int and 0 <= status <= 255:
        return status
    raise ValueError("no status")


def returncode(end: End | None, asked: Json, *output: Any) -> int:
    """The return code of a command. Raises subprocess.TimeoutExpired if its time was over."""
    assert end is not None
    if end.timed_out:
        raise subprocess.TimeoutExpired(asked["argv"], asked.get("timeoutMs", 0) / 1000, *output)
    return end.returncode


def completed(
    end: End | None, asked: Json, output: Iterable[bytes], encoding: str | None, check: bool
) -> subprocess.CompletedProcess[Any]:
    """The result as subprocess.run returns it, or raises it."""
    out, err = (each if encoding is None else each.decode(encoding) for each in output)
    done = subprocess.CompletedProcess(asked["argv"], returncode(end, asked, out, err), out, err)
    if check:
        done.check_returncode()
    return done


# Copies, by the installed program.

_COPY_CODES = {64: "bad-argument", 69: "no-session", 73: "copy-refused", 74: "copy-failed", 77: "denied"}


def copy_command(way: str, sources: Words, target: str, label: str, resume: bool) -> list[str]:
    """The command line of a copy ``to`` or ``from`` the machine at a channel."""
    listed = [sources] if isinstance(sources, str) else list(sources)
    near, far = (listed, [target]) if way == "to" else ([target], listed)
    near = [f"./{path}" if ":" in path and not path.startswith(("/", ".")) else path for path in near]
    far = [f"{label}:{path}" for path in far]
    words = near + far if way == "to" else far + near
    return [os.environ.get("VPROXY", "vproxy"), "copy", "--json", *["--resume"] * resume, *words]


def copy_failure(status: int, errors: bytes) -> VproxyError:
    """The error of a copy that failed."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line]
    message = lines[-1] if lines else f"vproxy ended with status {status}"
    return failure(_COPY_CODES.get(status, "copy-failed"), re.sub("^vproxy: (error: )?", "", message))
