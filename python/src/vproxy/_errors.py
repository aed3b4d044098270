"""The failures that vproxy names."""

from __future__ import annotations


class VproxyError(Exception):
    """A failure. ``code`` is one of docs/errors.md of vproxy, or a newer one that the peer sent."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, str(self))


class Refused(VproxyError):
    """The other side does not allow it, or does not have it: trying again fails until someone changes something."""


class Lost(VproxyError):
    """There is no session, no process, or no channel, or it went away: the same attempt may succeed later."""


class TimedOut(VproxyError):
    """The other side did not answer, or not take anything, in time."""


_CODES = {
    TimedOut: "connect-timeout open-timeout stalled storage-timeout not-booted",
    Refused: "auth-failed bad-argument command-denied command-failed command-not-found connect-refused copy-refused"
    " denied freeze-failed not-found unknown-service version-mismatch",
    Lost: "channel-closed channel-silent control-unavailable desync exec-unavailable no-session peer-restarted"
    " resume-expired resume-refused shutdown storage-unavailable",
}
_KINDS = {code: kind for kind, codes in _CODES.items() for code in codes.split()}


def failure(code: object, message: object) -> VproxyError:
    """Returns the error for a code: one of the classes above, where one fits."""
    return _KINDS.get(str(code), VproxyError)(str(code), str(message))
