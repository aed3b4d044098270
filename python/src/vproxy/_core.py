"""What the synchronous and the asynchronous front share: messages as bytes, without any input or output."""

from __future__ import annotations

import json
import math
import operator
import os
import re
import reprlib
import signal
import struct
import subprocess
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Mapping, NamedTuple, Optional, Sequence, Tuple, TypeVar, Union
from urllib.parse import urlencode

from ._errors import Lost, TimedOut, VproxyError, failure

if TYPE_CHECKING:
    from .types import ControlEvent

T = TypeVar("T")
Json = Dict[str, Any]
Buffer = Union[bytes, bytearray, memoryview]
Word = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Environment = Union[Mapping[str, Word], Mapping[bytes, Word], Mapping[Union[str, bytes], Word]]
Words = Union[Word, Sequence[Word]]
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

#: How long a copy that is cancelled may take to remove what has arrived.
COPY_END_S = 5.0

#: How long a job that is left may take to get what was written before.
LEAVE_S = 5.0

#: How much of a file is sent at a time: who takes less within a timeout is silent.
TAKEN_BYTES = 1 << 14

#: A longer timeout is none: poll(2) counts its milliseconds in 31 bits.
FOREVER_S = 2_147_483

# Arguments: what is wrong with them is said before anything is sent.


def word(value: Word, what: str) -> str:
    """A word as subprocess takes it, as text. Raises TypeError, and ValueError if it is not UTF-8 or has a NUL."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{what} must be str, bytes or os.PathLike, not {type(value).__name__}")
    given = os.fspath(value)
    try:
        text = given if isinstance(given, str) else given.decode()
        text.encode()
    except UnicodeError as error:
        raise ValueError(f"{what} is not UTF-8: {reprlib.repr(given)}") from error
    if "\0" in text:
        raise ValueError(f"{what} has a NUL: {reprlib.repr(given)}")
    return text


def whole(value: int, what: str, least: int, most: int) -> int:
    """A number within limits. Raises TypeError and ValueError."""
    number = operator.index(value)
    if not least <= number <= most:
        raise ValueError(f"{what} out of range: {number} ({least} to {most})")
    return number


def milliseconds(seconds: float | None, what: str, least: int = 0) -> int | None:
    """A time for a runner; None if it is none, or infinite. Raises TypeError and ValueError."""
    if seconds is None or seconds == math.inf:
        return None
    if not 0 <= seconds <= _MAX_MILLISECONDS / 1000:
        raise ValueError(f"{what} out of range: {seconds} s (0 to {_MAX_MILLISECONDS // 1000})")
    return max(least, round(seconds * 1000))


def deadline(seconds: float | None) -> float | None:
    """When ``seconds`` are over; None: never. Raises TypeError, and ValueError for what is not a number."""
    if seconds is not None and math.isnan(seconds):
        raise ValueError("a timeout is not a number")
    return None if seconds is None or seconds > FOREVER_S else time.monotonic() + seconds


def left(end: float | None) -> float | None:
    """The seconds until a deadline, at least 0."""
    return None if end is None else max(0.0, end - time.monotonic())


def to_json(value: object) -> bytes:
    """Raises ValueError for what is not UTF-8, and not a number."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


_MAX_MILLISECONDS = (1 << 31) - 1
MAX_INTEGER = (1 << 53) - 1

# Requests to the control socket (docs/control.md).

HEAD_END = b"\r\n\r\n"
MAX_HEAD_BYTES = 16 << 10


def request(method: str, path: str, query: Json, body: Json | None = None) -> bytes:
    """A request; values that are None are left out. In HTTP/1.0 the answer ends with the connection."""
    lines = [f"{method} {_target(path, query)} HTTP/1.0", "Host: vproxy"]
    content = b""
    if body is not None:
        content = to_json({key: value for key, value in body.items() if value is not None})
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


class Lines:
    """Lines of JSON, in pieces."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The values that are complete now. Raises VproxyError for anything else."""
        at = len(self._pending)
        self._pending += data
        end = self._pending.rfind(b"\n", at) + 1
        if end == 0 and len(self._pending) <= MAX_ANSWER_BYTES:
            return []
        try:
            values = [json.loads(line) for line in bytes(self._pending[:end]).splitlines()]
        except BAD_JSON as error:
            raise VproxyError("protocol-error", "vproxy wrote a line that is not JSON") from error
        if end == 0:
            raise VproxyError("protocol-error", f"vproxy wrote a line of more than {MAX_ANSWER_BYTES} bytes")
        del self._pending[:end]
        return values

    def __bool__(self) -> bool:
        """Whether a line is incomplete."""
        return bool(self._pending)


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
        self.lines = Lines()

    def feed(self, data: bytes) -> list[ControlEvent]:
        events: list[ControlEvent] = self.lines.feed(data)
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

_MAX_JOB_REQUEST_BYTES = 4096
_MAX_TAG_BYTES = 64
_MAX_KEEP_BYTES = 16 << 20

#: The most arguments and variables together.
_MAX_WORDS = 65_520

#: The most bytes of standard input in a record.
PIECE_BYTES = 65_536

#: Why a stream was reset before its command ran.
_NOT_RUN = ("unknown-service", "denied", "too-many-streams")

#: The return code of a command that was killed by a signal unknown to this system.
_UNKNOWN_SIGNAL = -255


def command(
    argv: Sequence[Word], *, cwd: Word | None = None, env: Environment | None = None, user: str | None = None,
    tty: Terminal = False, term: str = "xterm-256color", has_input: bool = True, timeout: float | None = None,
    kill_after: float | None = None, shell: bool = True,
) -> Json:  # fmt: skip
    """
    A request to run a command; ``tty`` may be columns and rows, times are in seconds, and ``shell`` allows no words. Raises TypeError and ValueError for
    what no runner accepts.
    """
    if isinstance(argv, (str, bytes)):
        raise TypeError('argv must be a list of words, such as ["sh", "-c", "…"]')
    asked: Json = {"argv": [word(each, "a word of argv") for each in argv], "hasInput": has_input}
    if not asked["argv"] and not shell:
        raise ValueError("argv is empty")
    asked["cwd"] = None if cwd is None else word(cwd, "cwd")
    asked["user"] = None if user is None else word(user, "user")
    asked["env"] = None if env is None else dict(_variable(*pair) for pair in env.items())
    asked["timeoutMs"] = milliseconds(timeout, "timeout", 1)
    asked["killAfterMs"] = milliseconds(kill_after, "kill_after")
    if tty:
        columns, rows = (80, 24) if tty is True else tty
        size = {"columns": whole(columns, "columns", 1, 65_535), "rows": whole(rows, "rows", 1, 65_535)}
        asked["terminal"] = {**size, "term": word(term, "term")}
    count = len(asked["argv"]) + len(asked["env"] or {})
    if count > _MAX_WORDS:
        raise ValueError(f"too many arguments and variables: {count} (max {_MAX_WORDS})")
    return {key: value for key, value in asked.items() if value is not None}


def defaults(env: Environment | None, user: str | None, cwd: Word | None) -> Json:
    """What the commands of a channel have unless a call says otherwise. Raises as ``command``."""
    asked = command([], cwd=cwd, env=env, user=user)
    return {key: asked[key] for key in ("env", "user", "cwd") if key in asked}


def _variable(name: Word, value: Word) -> tuple[str, str]:
    key = word(name, "the name of a variable")
    if not key or "=" in key:
        raise ValueError(f"not the name of a variable: {reprlib.repr(key)}")
    return key, word(value, f"the value of {key}")


def detachment(tag: str | None, keep: int | None, unique: bool) -> Json:
    """How ``start`` starts a job."""
    text = None if tag is None else word(tag, "tag")
    if text is not None and len(text.encode()) > _MAX_TAG_BYTES:
        raise ValueError(f"tag too long: {len(text.encode())} bytes (max {_MAX_TAG_BYTES})")
    how: Json = {"tag": text, "keepBytes": None if keep is None else whole(keep, "keep", 0, _MAX_KEEP_BYTES)}
    return {**how, "unique": True} if unique else how


class Completed(subprocess.CompletedProcess[Any]):
    """What ``run`` returns: as subprocess.run, and what the command used."""

    #: The time of processors that it used, with the processes that it waited for. None: the peer does not tell.
    cpu_seconds: float | None = None
    #: The most memory that one of its processes had resident. None: likewise, or less than vproxy there has.
    peak_bytes: int | None = None


class End(NamedTuple):
    """How a command ended: its status, or minus the number of the signal that killed it, as in subprocess."""

    returncode: int
    timed_out: bool
    cpu_seconds: float | None
    peak_bytes: int | None


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
        self._waits = False
        #: Whether the command no longer reads standard input.
        self.input_over = False

    def wait(self) -> None:
        """The START asks the runner to wait for room: input has credit only once the command has started."""
        self.credit, self._waits = 0, True

    @staticmethod
    def start(asked: Json) -> bytes:
        return _asking(_START, asked, _MAX_PAYLOAD_BYTES)

    def input(self, data: Buffer) -> bytes:
        """A record of standard input: at most ``credit`` and ``PIECE_BYTES``."""
        self.credit -= len(data)
        return self.typed(data)

    @staticmethod
    def typed(data: Buffer) -> bytes:
        """Likewise, for who counts the credit."""
        return _record(_STDIN, bytes(data))

    @staticmethod
    def end_of(stream: int) -> bytes:
        """Ends standard input (0), or says that output (1) or error (2) is no longer read."""
        return _record(_EOF, bytes([stream]))

    @staticmethod
    def signal(number: int) -> bytes:
        known = whole(number, "signal", 1, 31) in signal.valid_signals()
        return _record(_SIGNAL, (signal.Signals(number).name if known else f"SIG{number}").encode())

    @staticmethod
    def resize(columns: int, rows: int) -> bytes:
        """Nothing for a size below 1, which a window has while it is hidden."""
        if min(whole(columns, "columns", -MAX_INTEGER, 65_535), whole(rows, "rows", -MAX_INTEGER, 65_535)) < 1:
            return b""
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
                self.credit += _FIRST_CREDIT_BYTES if self._waits else 0
            elif reason is None:
                used = told.get("usage") or {}
                peak = used.get("peakBytes")
                usage = (float(used["cpuMs"]) / 1000 if used else None, None if peak is None else int(peak))
                self.end = End(_returncode(told["status"], told["signal"]), told.get("timedOut") is True, *usage)
        except BAD_JSON as error:
            raise VproxyError("protocol-error", "the peer sent no valid result of the command") from error
        if reason is not None:
            raise reason

    def lost(self, reason: VproxyError | None) -> VproxyError:
        """The error for a stream that ended before the command did."""
        if self.pid is None and reason is not None and reason.code in _NOT_RUN:
            return reason
        what = "it is unknown whether the command ran" if self.pid is None else "the result of the command is unknown"
        return Lost("exec-unavailable", f"{what}: {reason or 'the peer ended the stream'}")


def job_request(kind: int, **fields: object) -> bytes:
    """A LIST, ATTACH or STOP. Raises TypeError and ValueError."""
    if not fields:
        return _record(kind, b"")
    fields["id"] = word(fields["id"], "the id of a job")  # type: ignore[arg-type]
    for name in fields.keys() - {"id", "input", "steal"}:
        whole(fields[name], name, 0, MAX_INTEGER)  # type: ignore[arg-type]
    return _asking(kind, fields, _MAX_JOB_REQUEST_BYTES)


def about_jobs(payload: bytes, name: str, kind: type[T]) -> T:
    """A field of what the peer said about jobs."""
    try:
        value = json.loads(payload)[name]
    except BAD_JSON:
        value = None
    if type(value) is not kind:
        raise VproxyError("protocol-error", f"the peer sent no valid {name}")
    return value


def _asking(kind: int, fields: Json, most: int) -> bytes:
    payload = to_json(fields)
    if len(payload) > most:
        raise ValueError(f"{'command' if kind == _START else 'request'} too long: {len(payload)} bytes (max {most})")
    return _record(kind, payload)


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


def returncode(end: End | None, asked: Json) -> int:
    """The return code of a command. Raises subprocess.TimeoutExpired if its time was over."""
    assert end is not None
    if end.timed_out:
        raise subprocess.TimeoutExpired(asked["argv"], asked.get("timeoutMs", 0) / 1000)
    return end.returncode


def timing(timeout: float | None) -> Json:
    """The part of a request that says how long a command may run."""
    limit = milliseconds(timeout, "timeout", 1)
    return {} if limit is None else {"timeoutMs": limit}


def completed(
    end: End | None, asked: Json, timeout: float | None, out: bytes, err: bytes | None, form: Text, check: bool
) -> Completed:
    """The result as subprocess.run returns it, or raises it."""
    assert end is not None
    if end.timed_out:
        raise subprocess.TimeoutExpired(asked["argv"], timeout or 0, out, err)
    err_text = None if err is None else form.decoded(err)
    done = Completed(asked["argv"], end.returncode, form.decoded(out), err_text)
    done.cpu_seconds, done.peak_bytes = end.cpu_seconds, end.peak_bytes
    if check:
        done.check_returncode()
    return done


class Text(NamedTuple):
    """How bytes become text; without an encoding they remain bytes."""

    encoding: str | None
    errors: str

    def encoded(self, data: str | Buffer | None) -> Buffer:
        if isinstance(data, str):
            return data.encode(self.encoding or "utf-8", self.errors)
        return b"" if data is None else bytes(memoryview(data))

    def decoded(self, data: bytes) -> Any:
        """As subprocess, with one kind of line end."""
        if self.encoding is None:
            return data
        return data.decode(self.encoding, self.errors).replace("\r\n", "\n").replace("\r", "\n")


def as_text(text: bool, encoding: str | None, errors: str | None) -> Text:
    """Raises LookupError for an unknown encoding."""
    encoding = encoding or ("utf-8" if text or errors else None)
    "".encode(encoding or "utf-8")
    return Text(encoding, errors or "strict")


def is_merged(stderr: int | None) -> bool:
    """Whether both outputs are one. Raises ValueError."""
    if stderr not in (None, subprocess.PIPE, subprocess.STDOUT):
        raise ValueError("stderr must be subprocess.PIPE or subprocess.STDOUT")
    return stderr == subprocess.STDOUT


# Copies, by the installed program.

_COPY_CODES = {64: "bad-argument", 69: "no-session", 73: "copy-refused", 74: "copy-failed", 77: "denied"}


def copy_command(
    way: str, sources: Words, target: Word, label: str, *, resume: bool, progress: bool
) -> list[str]:
    """The command line of a copy ``to`` or ``from`` the machine at a channel. Raises TypeError and ValueError."""
    given = [sources] if isinstance(sources, (str, bytes, os.PathLike)) else sources
    near, far = [word(each, "a path") for each in given], [word(target, "a path")]
    near, far = (near, far) if way == "to" else (far, near)
    near = [f"./{path}" if re.match("[^/.].*:|-", path, re.DOTALL) else path for path in near]
    far = [f"{label}:{path}" for path in far]
    words = near + far if way == "to" else far + near
    flags = ["--json", "--resume" if resume else "--discard", *["--progress"] * progress]
    return [os.environ.get("VPROXY", "vproxy"), "copy", *flags, *words]


def copy_failure(status: int, errors: bytes) -> VproxyError:
    """The error of a copy that failed."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line]
    message = lines[-1] if lines else f"vproxy ended with status {status}"
    return failure(_COPY_CODES.get(status, "copy-failed"), re.sub("^vproxy: (error: )?", "", message))


def no_program(error: OSError) -> VproxyError:
    """The error of a copy whose program is missing."""
    return VproxyError("copy-failed", f"copies need the program vproxy: {error}")
