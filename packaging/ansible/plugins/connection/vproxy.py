# MIT License, which is compatible with the GNU General Public License v3.0
"""Runs tasks in a guest through vproxy: each command and each file transfer is a command of the peer's service `exec`."""

DOCUMENTATION = r"""
name: vproxy
short_description: Run tasks in a virtual machine through vproxy, without a network
description:
  - Runs commands and copies files at the other end of a channel of vproxy, such as the virtio-serial port of a virtual
    machine. The machine needs no network, no sshd and no key, but a C(vproxy) that was started with C(--allow-exec).
  - The C(vproxy) on the control node must already be running, and this user must be allowed to open its control socket.
version_added: 0.1.0
author:
  - the vproxy authors !UNKNOWN
requirements:
  - vproxy on the control node, and in the guest with C(--allow-exec)
  - Python in the guest, as for any connection, except for C(raw) and C(script)
extends_documentation_fragment:
  - connection_pipelining
notes:
  - Files are transferred as the input and output of commands, so C(--allow-copy) is not needed, and files belong to the
    user who runs the tasks.
  - Each output of a command is limited to 64 MiB; a command that writes more is killed, and its task fails.
  - A host is unreachable if no C(vproxy) answers here, the channel has no session, the peer does not allow commands, or
    the result of a command is unknown. Any other result is the status of the command.
options:
  remote_addr:
    description: The label of the channel. A channel without a label has C(default).
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: ansible_vproxy_label
  process:
    description:
      - The running C(vproxy) here, by its C(--name) or its process ID.
      - By default the only one running here or, of several, the only one that has the channel.
    type: str
    ini:
      - section: vproxy
        key: process
    vars:
      - name: ansible_vproxy_process
  socket:
    description: The path of its control socket. Not used if I(process) is set.
    type: path
    env:
      - name: VPROXY_SOCKET
    ini:
      - section: vproxy
        key: socket
    vars:
      - name: ansible_vproxy_socket
  remote_user:
    description:
      - The user who runs the commands. For any user but its own, the C(vproxy) of the guest must run as root.
      - By default the user of the C(vproxy) of the guest.
    type: str
    ini:
      - section: defaults
        key: remote_user
    env:
      - name: ANSIBLE_REMOTE_USER
    cli:
      - name: user
    keyword:
      - name: remote_user
    vars:
      - name: ansible_user
      - name: ansible_vproxy_user
  connection_timeout:
    description:
      - How long to wait for a session with the guest, and for the prompt of C(sudo) etc., in seconds.
    type: int
    default: 10
    ini:
      - section: defaults
        key: timeout
      - section: vproxy
        key: connection_timeout
    env:
      - name: ANSIBLE_TIMEOUT
      - name: ANSIBLE_VPROXY_CONNECTION_TIMEOUT
    cli:
      - name: timeout
    vars:
      - name: ansible_vproxy_connection_timeout
  use_tty:
    description:
      - Whether commands that are not pipelined have a terminal when they are run as another user (C(become)).
      - A become plugin that needs a terminal, such as C(community.general.machinectl), always gets it.
    type: bool
    default: false
    ini:
      - section: vproxy
        key: use_tty
    vars:
      - name: ansible_vproxy_use_tty
"""

EXAMPLES = r"""
# inventory.yml: vm1 and vm2 are the labels of the channels
all:
  vars:
    ansible_connection: vproxy.vproxy.vproxy
    ansible_pipelining: true
  hosts:
    vm1:
    web:
      ansible_host: vm2
      ansible_user: root
"""

import io
import os
import secrets
import stat
from contextlib import contextmanager

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_bytes, to_native, to_text
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

from ansible_collections.vproxy.vproxy.plugins.plugin_utils.vproxy import Lost, Vproxy, VproxyError, control_sockets
from ansible_collections.vproxy.vproxy.plugins.plugin_utils.vproxy import _core as core
from ansible_collections.vproxy.vproxy.plugins.plugin_utils.vproxy._sync import each

display = Display()

# The maximum length of a program argument, 128 KiB including the NUL (MAX_ARG_STRLEN of Linux).
MAX_WORD_BYTES = 131_071

STDOUT = 1
STDERR = 2

# A terminal in which sudo etc. may ask for a password.
TERMINAL = (80, 24)

# How long each of several processes may take to report whether it has a channel, in seconds.
LOOK_S = 2

# How much longer than requested an answer of the control socket may take, in seconds.
GRACE_S = 5

# Limits on each output of a command, and on what sudo etc. writes before it.
MAX_OUTPUT_BYTES = 64 << 20
MAX_PROMPT_BYTES = 65_536

# Limit on the errors shown of a command that copies a file.
MAX_ERROR_BYTES = 4096

# A file is private until it is complete.
PUT_SCRIPT = 'umask 077 && cat >"$1" && chmod "$2" "$1"'
FETCH_SCRIPT = 'exec cat <"$1"'


class Connection(ConnectionBase):
    """The connection to one host: nothing is kept open between commands."""

    transport = 'vproxy.vproxy.vproxy'
    has_pipelining = True
    has_tty = True

    # The control socket, once found.
    _path = None

    @property
    def _label(self):
        return self.get_option('remote_addr')

    def _connect(self):
        if not self._connected:
            self._find_session(self.get_option('connection_timeout'))
            self._connected = True
        return self

    def _find_session(self, timeout):
        try:
            self._path = find_socket(self.get_option('socket'), self.get_option('process'), self._label)
            query = {'channel': self._label, 'timeout': timeout}
            Vproxy(self._path).ask('GET', '/v1/wait', query=query, timeout=timeout + GRACE_S)
        except VproxyError as error:
            raise self._unreachable(error) from error

    def transport_test(self, connect_timeout):
        """For wait_for_connection: fails if there is no session within `connect_timeout` seconds."""
        self._find_session(connect_timeout)

    def reset(self):
        """Makes the next command look for the process and the session again."""
        self.close()

    def close(self):
        self._connected = False

    def exec_command(self, cmd, in_data=None, sudoable=True):
        """Runs a command line with the configured shell; returns its status, its output and its errors as bytes."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        self._connect()
        line = to_text(cmd, errors='surrogate_or_strict')
        display.vvv(f'EXEC {line}', host=self._label)
        become = self.become if sudoable and is_escalated(line, self.become) else None
        has_terminal = become is not None and not in_data and (self.get_option('use_tty') or become.require_tty)
        escalation = None if become is None else Escalation(become, self._play_context)
        outputs = {STDOUT: bytearray(), STDERR: bytearray()}

        def feed(given):
            given.add(io.BytesIO(to_bytes(in_data or b'', errors='surrogate_or_strict')))
            # In a terminal, EOF is a key that some programs would read themselves.
            given.is_complete = not has_terminal

        with self._run([self._play_context.executable, '-c', line], has_terminal) as (call, given):
            if escalation is None:
                feed(given)
            else:
                call.connection.set_timeout(self.get_option('connection_timeout'))
            for kind, data in each(call.outputs()):
                if escalation is None or escalation.is_over:
                    outputs[kind] += data
                    if len(outputs[kind]) > MAX_OUTPUT_BYTES:
                        raise AnsibleError(f'command killed: more than {MAX_OUTPUT_BYTES} bytes of output')
                    continue
                given.add(io.BytesIO(escalation.hear(kind, data)))
                if escalation.is_over:
                    call.connection.set_timeout(None)
                    feed(given)
        heard = {} if escalation is None else escalation.heard
        return (status_of(call), *(bytes(heard.get(kind, b'') + outputs[kind]) for kind in (STDOUT, STDERR)))

    def put_file(self, in_path, out_path):
        """Copies a file of this machine to the guest, with its permissions."""
        super().put_file(in_path, out_path)
        self._connect()
        display.vvv(f'PUT {in_path} TO {out_path}', host=self._label)
        source = to_bytes(in_path, errors='surrogate_or_strict')
        if not os.path.exists(source):
            raise AnsibleFileNotFound(f'file not found: {to_native(in_path)}')
        with open(source, 'rb') as file:
            mode = format(stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o777, 'o')
            self._transfer(PUT_SCRIPT, [out_path, mode], f'cannot write {to_native(out_path)}', source=file)

    def fetch_file(self, in_path, out_path):
        """Copies a file of the guest to this machine; an existing file is replaced only when the copy is complete."""
        super().fetch_file(in_path, out_path)
        self._connect()
        display.vvv(f'FETCH {in_path} TO {out_path}', host=self._label)
        target = to_bytes(out_path, errors='surrogate_or_strict')
        # Other users who may write to the folder cannot guess the name or create it first.
        part = os.path.join(os.path.dirname(target), b'.vproxy-part-' + secrets.token_hex(8).encode())
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(part, flags, 0o666), 'wb') as file:
                self._transfer(FETCH_SCRIPT, [in_path], f'cannot read {to_native(in_path)}', target=file)
            os.replace(part, target)
        except OSError as error:
            raise AnsibleError(f'cannot write {to_native(out_path)}: {error.strerror}') from error
        finally:
            if os.path.lexists(part):
                os.unlink(part)

    def _transfer(self, script, arguments, failure, source=None, target=None):
        """Runs a shell script whose input or output is a local file."""
        words = [to_text(word, errors='surrogate_or_strict') for word in arguments]
        errors = b''
        with self._run(['/bin/sh', '-c', script, 'sh', *words]) as (call, given):
            if source is not None:
                given.add(source)
            given.is_complete = True
            for kind, data in each(call.outputs()):
                if kind == STDERR:
                    errors = (errors + data)[:MAX_ERROR_BYTES]
                elif target is not None:
                    target.write(data)
        status = status_of(call)
        if status != 0:
            raise AnsibleError(f'{failure}: {to_native(errors).strip() or f"status {status}"}')

    @contextmanager
    def _run(self, argv, has_terminal=False):
        """A command that has ended when the block ends, and its input. If it cannot be run, the host is unreachable."""
        for word in argv:
            check_word(word)
        timeout = self.get_option('connection_timeout')
        try:
            tty = TERMINAL if has_terminal else False
            asked = core.command(argv, user=self.get_option('remote_user'), tty=tty, term='dumb')
            call = Vproxy(self._path).channel(self._label).call(asked, timeout + GRACE_S)
            given = Input()
            call.source = given.read
            try:
                yield call, given
            finally:
                call.connection.close()
        except VproxyError as error:
            if error.code == 'stalled':
                raise AnsibleError(f'Timeout ({timeout}s) waiting for privilege escalation prompt') from error
            raise self._unreachable(error) from error

    def _unreachable(self, error):
        # The next task looks for it again.
        self._connected = False
        reason = str(error).replace('the peer does not', f'the peer of "{self._label}" does not')
        return AnsibleConnectionFailure(f'{reason} ({error.code})')


def find_socket(path, name, label):
    """
    Returns the path of the control socket: that of the process `name`, else `path`, else the only one here, else the
    only one whose process has the channel `label`. Fails with `control-unavailable`.
    """
    if name or path:
        return Vproxy(None if name else path, name=name).path
    paths = control_sockets()
    if len(paths) > 1:
        paths = [each for each in paths if has_channel(each, label)]
    if len(paths) == 1:
        return paths[0]
    what = 'several vproxy here have' if paths else 'no vproxy here has'
    raise Lost('control-unavailable', f'{what} the channel "{label}"')


def has_channel(path, label):
    try:
        return any(channel['label'] == label for channel in Vproxy(path).ask('GET', '/v1/channels', timeout=LOOK_S))
    except (VproxyError, *core.BAD_JSON):
        return False


def status_of(call):
    """The exit status, 128 + n if killed by signal n, as in shells."""
    status = call.state.end.returncode
    return status if status >= 0 else min(255, 128 - status)


def check_word(word):
    """Raises an error for an argument that no command can have."""
    try:
        count = len(core.word(word, 'a command or a path').encode())
    except ValueError as error:
        raise AnsibleError(str(error)) from error
    if count > MAX_WORD_BYTES:
        raise AnsibleError(f'command too long: {count} bytes (max {MAX_WORD_BYTES})')


def is_escalated(line, become):
    """Whether a command line was made by a become plugin."""
    return bool(become and become.success and become.success in line)


class Input:
    """The standard input of a command: files, one after the other."""

    def __init__(self):
        self._files = []
        # Whether it ends after them.
        self.is_complete = False

    def add(self, file):
        self._files.append(file)

    def read(self, count):
        """Up to so many bytes; none at the end, and None if there are none yet."""
        while self._files:
            data = self._files[0].read(count)
            if data:
                return data
            del self._files[0]
        return b'' if self.is_complete else None


class Escalation:
    """The dialogue with sudo, su etc., before the command itself gets its input and output."""

    def __init__(self, become, play_context):
        self._become = become
        self._password = become.get_option('become_pass', playcontext=play_context)
        self._has_answered = False
        # The output so far, without answered prompts.
        self.heard = {STDOUT: b'', STDERR: b''}
        self.is_over = False

    def hear(self, kind, data):
        """Takes more output; returns the answer to it. Raises an error if the password is wrong or missing."""
        become = self._become
        self.heard[kind] += data
        text = self.heard[kind]
        if len(text) > MAX_PROMPT_BYTES:
            raise AnsibleError(f'{become.name} wrote more than {MAX_PROMPT_BYTES} bytes without running the command')
        if become.check_success(text):
            self.is_over = True
            return b''
        if become.check_incorrect_password(text):
            raise AnsibleError(f'Incorrect {become.name} password')
        if become.check_missing_password(text):
            raise AnsibleError(f'Missing {become.name} password')
        if not become.check_password_prompt(text):
            return b''
        if self._has_answered:
            raise AnsibleError(f'Incorrect {become.name} password')
        if not self._password:
            raise AnsibleError(f'Missing {become.name} password')
        self._has_answered = True
        self.heard[kind] = b''
        return to_bytes(self._password, errors='surrogate_or_strict') + b'\n'
