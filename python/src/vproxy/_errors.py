"""The failures that vproxy names, and those that subprocess has no class for."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import Sequence


class VproxyError(Exception):
    """A failure. ``code`` is one of docs/errors.md of vproxy, or a newer one that the peer sent."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, str(self))


class Refused(VproxyError):
    """The other side denies it, or does not have it: a retry fails until someone changes something."""


class CommandNotFound(Refused, FileNotFoundError):
    """The peer has no such command."""

    errno = errno.ENOENT


class FileError(VproxyError, OSError):
    """About a path of the peer; also FileNotFoundError, PermissionError and so on, by ``errno``. Its code is that name: ENOENT."""

    def __init__(self, code: str, message: str, filename: str) -> None:
        super().__init__(code, message)
        self.errno, self.strerror, self.filename = getattr(errno, code), message, filename

    def __reduce__(self) -> tuple[object, ...]:
        return file_error, (self.code, self.strerror, os.fsencode(self.filename))


_SYSTEM_ERRORS = FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError
_FILE_ERRORS = {each: type(each.__name__, (FileError, each), {}) for each in _SYSTEM_ERRORS}


def file_error(code: str, message: str, path: bytes) -> FileError:
    """Returns the error about a path; EIO for an error that this system does not have."""
    code = code if code in errno.errorcode.values() else "EIO"
    kind: type[FileError] = _FILE_ERRORS.get(type(OSError(getattr(errno, code), "")), FileError)
    return kind(code, message, os.fsdecode(path))


class Lost(VproxyError, ConnectionError):
    """No session, process, channel or room, or it was lost: a retry may succeed later."""


class TimedOut(VproxyError, TimeoutError):
    """The other side did not answer, or did not read, in time."""


class OutputLimitExceeded(subprocess.SubprocessError):
    """A command exceeded ``max_output``, and was ended; ``stdout`` and ``stderr`` contain its output so far, as bytes."""

    def __init__(self, cmd: Sequence[str], limit: int, stdout: bytes | None, stderr: bytes | None) -> None:
        super().__init__(cmd, limit, stdout, stderr)
        self.cmd, self.limit, self.stdout, self.stderr = cmd, limit, stdout, stderr

    def __str__(self) -> str:
        return f"Command {self.cmd!r} wrote more than {self.limit} bytes"


_CODES: dict[type[VproxyError], str] = {
    TimedOut: "connect-timeout open-timeout stalled storage-timeout not-booted",
    CommandNotFound: "command-not-found",
    Refused: "auth-failed bad-argument channel-denied channel-ended channel-lost channel-unusable command-denied command-failed"
    " connect-refused copy-refused denied freeze-failed input-taken job-exists not-found unknown-service version-mismatch",
    Lost: "channel-busy channel-closed channel-displaced channel-failed channel-missing channel-refused channel-silent"
    " connect-failed control-unavailable desync exec-unavailable no-session peer-restarted resume-expired resume-refused"
    " shutdown storage-unavailable too-many-streams",
}
_KINDS = {code: kind for kind, codes in _CODES.items() for code in codes.split()}


def failure(code: object, message: object) -> VproxyError:
    """Returns the error for a code: one of the classes above, where one fits."""
    return _KINDS.get(str(code), VproxyError)(str(code), str(message))
