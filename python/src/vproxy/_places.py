"""Where the control sockets of this user are."""

from __future__ import annotations

import os
import re

from ._errors import Lost

# The socket of the storage broker is in the same folder.
_NO_CONTROL_SOCKETS = {"storage.sock"}


def control_folder() -> str | None:
    """Returns /run/vproxy for root, otherwise $XDG_RUNTIME_DIR/vproxy; None if that is not set."""
    if os.geteuid() == 0:
        return "/run/vproxy"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return f"{runtime}/vproxy" if runtime.startswith("/") else None


def control_sockets() -> list[str]:
    """Returns the paths of all control sockets of this user."""
    folder = control_folder()
    try:
        names = sorted(os.listdir(folder)) if folder else []
    except OSError:
        names = []
    return [f"{folder}/{name}" for name in names if name.endswith(".sock") and name not in _NO_CONTROL_SOCKETS]


def choose_socket(path: str | os.PathLike[str] | None, name: str | None) -> str:
    """
    Returns the path of a control socket, as the commands of vproxy choose it: the given one, that of the process
    ``name``, that of $VPROXY_SOCKET, or the only one. Raises Lost, TypeError and ValueError.
    """
    given = None if path is None else os.fsdecode(path)
    if given is None and name is not None:
        given = f"{control_folder() or '/run/vproxy'}/{name}.sock"
    # Options may follow the path in $VPROXY_CONTROL, and a comma in it is doubled.
    [control, *_] = re.findall("^(?:[^,]|,,)*", os.environ.get("VPROXY_CONTROL", ""))
    given = given or os.environ.get("VPROXY_SOCKET") or control.replace(",,", ",")
    if "\0" in given:
        raise ValueError(f"the path of a control socket has a NUL: {given!r}")
    if given:
        return given
    paths = control_sockets()
    if len(paths) == 1:
        return paths[0]
    what = "several vproxy processes run here; name one" if paths else "no vproxy with a control socket runs here"
    raise Lost("control-unavailable", what)
