"""
The control socket of a vproxy on this machine: finding it, requests to it, and streams to services of a peer
(docs/control.md of vproxy).
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from urllib.parse import urlencode

# A longer answer is not from vproxy: thousands of channels take a few megabytes.
MAX_ANSWER_BYTES = 16 << 20

# Raised when parsing unexpected JSON and accessing it, also for values that are nested too deep, or infinite.
BAD_JSON = (ValueError, LookupError, TypeError, RecursionError, OverflowError)

# How long each of several processes may take to report whether it has a channel, in seconds.
LOOK_S = 2

# The socket of the storage broker is in the same folder.
NO_CONTROL_SOCKETS = {'storage.sock'}


class VproxyError(Exception):
    """A failure reported by vproxy. `code` is one of docs/errors.md of vproxy."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def control_folder():
    """Returns the folder of the sockets: /run/vproxy for root, else $XDG_RUNTIME_DIR/vproxy. None if that is not set."""
    if os.geteuid() == 0:
        return '/run/vproxy'
    runtime = os.environ.get('XDG_RUNTIME_DIR', '')
    return f'{runtime}/vproxy' if runtime.startswith('/') else None


def find_socket(path, name, label):
    """
    Returns the path of the control socket: that of the process `name`, else `path`, else the only one here, else the
    only one whose process has the channel `label`. Fails with `control-unavailable`.
    """
    if path and not name:
        return path
    if name:
        return f'{_folder()}/{name}.sock'
    paths = control_sockets()
    if len(paths) > 1:
        paths = [each for each in paths if _has_channel(each, label)]
    if len(paths) == 1:
        return paths[0]
    what = 'several vproxy here have' if paths else 'no vproxy here has'
    raise VproxyError('control-unavailable', f'{what} the channel "{label}"')


def control_sockets():
    """Returns the paths of all control sockets of this user. Fails with `control-unavailable` if there are none."""
    folder = _folder()
    try:
        names = sorted(entry for entry in os.listdir(folder) if entry.endswith('.sock'))
    except OSError:
        names = []
    paths = [f'{folder}/{entry}' for entry in names if entry not in NO_CONTROL_SOCKETS]
    if not paths:
        raise VproxyError('control-unavailable', f'no running vproxy has a control socket in {folder}')
    return paths


def _folder():
    folder = control_folder()
    if folder is None:
        raise VproxyError('control-unavailable', 'XDG_RUNTIME_DIR is not set; set the path of the socket')
    return folder


def _has_channel(path, label):
    try:
        return any(channel['label'] == label for channel in ask(path, '/v1/channels', {}, LOOK_S))
    except (VproxyError, *BAD_JSON):
        return False


def ask(path, route, query, timeout):
    """Returns the JSON answer to a GET request. `timeout` is in seconds. Fails with the code of the answer."""
    # In HTTP/1.0 the answer ends with the connection.
    connection, reader = _request(path, f'{route}?{urlencode(query)}', 'HTTP/1.0', timeout)
    with connection, reader:
        return _answer(path, reader)


def _request(path, target, version, timeout, headers=''):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
        connection.sendall(f'GET {target} {version}\r\nHost: vproxy\r\n{headers}\r\n'.encode())
        return connection, connection.makefile('rb', 1 << 17)
    except OSError as error:
        connection.close()
        raise _unavailable(path, error) from error


def _head(path, reader):
    try:
        line = reader.readline(1024).split()
        if len(line) < 2 or not line[0].startswith(b'HTTP/1.'):
            raise VproxyError('control-unavailable', f'{path}: not answered by vproxy, or it has exited')
        return int(line[1]), http.client.parse_headers(reader)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unavailable(path, error) from error


def _answer(path, reader):
    status, _headers = _head(path, reader)
    try:
        value = json.loads(reader.read(MAX_ANSWER_BYTES))
        if status == 200:
            return value
        raise VproxyError(str(value['error']['code']), str(value['error']['message']))
    except (OSError, *BAD_JSON) as error:
        raise _unavailable(path, error) from error


def _unavailable(path, error):
    return VproxyError('control-unavailable', f'no vproxy answers on {path}: {error}')


class ServiceStream:
    """
    A stream to a service of the peer. Closing it, or the end of this process, resets it unless the peer has ended it
    before. Reading and sending fail with OSError.
    """

    def __init__(self, path, service, label, timeout):
        """Waits up to `timeout` seconds for the peer to accept it. Fails with the code of the answer."""
        target = '/v1/connect?' + urlencode({'service': service, 'channel': label, 'attached': 'true'})
        upgrade = 'Connection: Upgrade\r\nUpgrade: vproxy-stream\r\n'
        self._path = path
        self._socket, self._reader = _request(path, target, 'HTTP/1.1', timeout, upgrade)
        try:
            status, headers = _head(path, self._reader)
            if status != 101:
                raise self._refusal()
            self._end_route = headers['Vproxy-End']
            self.set_timeout(None)
        except BaseException:
            self.close()
            raise

    def _refusal(self):
        try:
            error = json.loads(self._reader.read(MAX_ANSWER_BYTES))['error']
            return VproxyError(str(error['code']), str(error['message']))
        except (OSError, *BAD_JSON) as error:
            return _unavailable(self._path, error)

    def set_timeout(self, timeout):
        """Sets how long a read or a write may take, in seconds; None: no limit."""
        self._socket.settimeout(timeout)

    def send(self, data):
        """Sends all of it."""
        self._socket.sendall(data)

    def read(self, count):
        """Reads exactly `count` bytes; fewer at the end of the stream."""
        return self._reader.read(count)

    def end_reason(self):
        """Returns why the stream ended, as a VproxyError; None if it ended normally."""
        try:
            error = ask(self._path, self._end_route, {}, LOOK_S)['error']
            return None if error is None else VproxyError(str(error['code']), str(error['message']))
        except VproxyError as error:
            return error
        except BAD_JSON as error:
            return _unavailable(self._path, error)

    def close(self):
        """Cancels the stream if it has not ended."""
        self._reader.close()
        self._socket.close()
