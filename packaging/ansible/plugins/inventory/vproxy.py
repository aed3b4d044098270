# MIT License, which is compatible with the GNU General Public License v3.0
"""Lists the guests at the other end of the channels of the running vproxies of this machine."""

DOCUMENTATION = r"""
name: vproxy
short_description: The virtual machines at the channels of running vproxies
description:
  - Makes a host of each channel of the C(vproxy) processes that run on the control node, for the connection plugin of this
    collection. The name of the file must end with C(vproxy.yml) or C(vproxy.yaml).
  - A host has the name of its channel's label. The host of a channel without a label has the name of the process, which is
    that of its control socket, without C(.sock). A label that several processes use follows that name and a hyphen.
  - All hosts are in the group C(vproxy), whose variable C(ansible_connection) selects the connection plugin; other groups
    and hosts may override it. A host is also in C(vproxy_state_STATE), and in C(vproxy_group_GROUP) if a group of channels,
    such as a folder of sockets, created its channel.
  - Each host has the variables C(vproxy_label), C(vproxy_process), C(vproxy_state), C(vproxy_group), C(vproxy_address) and
    C(vproxy_peer), which has C(name), C(agent) and C(services) as the guest tells them, or is null without a session.
version_added: 0.1.0
author:
  - the vproxy authors !UNKNOWN
requirements:
  - vproxy on the control node, and in the guests with C(--allow-exec)
extends_documentation_fragment:
  - constructed
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [vproxy.vproxy.vproxy]
  sockets:
    description:
      - The paths of the control sockets of the processes, each of which must answer.
      - By default those of all processes of this user, or of root, that answer.
    type: list
    elements: path
    env:
      - name: VPROXY_SOCKET
  states:
    description: The states of the channels to list; C(all) stands for all of them.
    type: list
    elements: str
    choices: [all, opening, waiting, backing-off, auth-failed, established, suspended, draining, failed]
    default: [established]
  hostname:
    description:
      - What names a host. C(peer) is the C(--name) of the guest's C(vproxy), if it has one.
      - The guest chooses that name. If it is also a label, C(localhost), or the name of another host, or has characters
        other than letters, digits, dots, hyphens and underscores, the host has the name of the label instead.
    type: str
    choices: [label, peer]
    default: label
"""

EXAMPLES = r"""
# guests.vproxy.yml: all guests with a session, by the labels of their channels
plugin: vproxy.vproxy.vproxy

# Two processes, also with the channels that have no session
plugin: vproxy.vproxy.vproxy
sockets: [/run/vproxy/host.sock, /run/vproxy/lab.sock]
states: [all]

# Groups such as offers_ssh by the services of each guest, and ssh through its service "ssh" where it has one
plugin: vproxy.vproxy.vproxy
strict: true
keyed_groups:
  - key: vproxy_peer.services
    prefix: offers
groups:
  web: vproxy_label.startswith('web')
compose:
  ansible_connection: "'ssh' if 'ssh' in vproxy_peer.services else 'vproxy.vproxy.vproxy'"
  ansible_ssh_common_args: "'-o ProxyCommand=\"vproxy connect ' ~ vproxy_label ~ '/ssh\"'"
"""

import os
import re
from collections import Counter

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.vproxy.vproxy.plugins.plugin_utils.vproxy import Lost, Vproxy, VproxyError, control_folder, control_sockets
from ansible_collections.vproxy.vproxy.plugins.plugin_utils.vproxy._core import BAD_JSON

# How long a process may take to answer, in seconds.
ANSWER_S = 10

# The label of a channel that was given none.
NO_LABEL = 'default'

NAME = re.compile(r'[A-Za-z0-9._-]{1,64}')

# Text in which no template or expression can be that does anything.
PLAIN = re.compile(r'[A-Za-z0-9 ._:/@,=-]*')

GROUP = 'vproxy'
CONNECTION = 'vproxy.vproxy.vproxy'


class InventoryModule(BaseInventoryPlugin, Constructable):
    """The inventory source of a file `*vproxy.yml`."""

    NAME = 'vproxy.vproxy.vproxy'

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith(('vproxy.yml', 'vproxy.yaml'))

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        by_peer = self.get_option('hostname') == 'peer'
        hosts = self._read_hosts(self.get_option('states'))
        self.inventory.add_group(GROUP)
        self.inventory.set_variable(GROUP, 'ansible_connection', CONNECTION)
        for name, variables in name_hosts(hosts, by_peer, self.inventory.hosts).items():
            self._add(name, variables)

    def _read_hosts(self, states):
        """Returns the variables of a host for each channel in one of these states."""
        given = self.get_option('sockets')
        hosts = []
        try:
            for path in dict.fromkeys(given or known_sockets()):
                try:
                    status = Vproxy(path).ask('GET', '/v1/status', timeout=ANSWER_S)
                    hosts += [describe(path, channel) for channel in status['channels']]
                except VproxyError as error:
                    if given:
                        raise
                    # A socket that a process has left behind, or that of another user.
                    self.display.vvv(f'{path}: {error}')
                except BAD_JSON as error:
                    raise AnsibleParserError(f'{path}: not the status of a vproxy: {error!r}') from error
        except VproxyError as error:
            raise AnsibleParserError(f'{error} ({error.code})') from error
        return [host for host in hosts if 'all' in states or host['vproxy_state'] in states]

    def _add(self, name, variables):
        self.inventory.add_host(name, group=GROUP)
        for key, value in variables.items():
            self.inventory.set_variable(name, key, value)
        for kind in ('state', 'group'):
            value = variables[f'vproxy_{kind}']
            if value is not None:
                group = self.inventory.add_group(self._sanitize_group_name(f'{GROUP}_{kind}_{value}'))
                self.inventory.add_child(group, name)
        strict = self.get_option('strict')
        self._set_composite_vars(self.get_option('compose'), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option('groups'), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option('keyed_groups'), variables, name, strict=strict)


def known_sockets():
    """Returns the paths of all control sockets of this user. Fails with `control-unavailable` if there are none."""
    paths = control_sockets()
    if not paths:
        raise Lost('control-unavailable', f'no running vproxy has a control socket in {control_folder()}')
    return paths


def describe(path, channel):
    """Returns the variables of the host at a channel. Raises an error of BAD_JSON if they are not what vproxy says."""
    peer = channel['session'] and channel['session']['peer']
    return {
        'ansible_vproxy_label': known_name(channel['label']),
        'ansible_vproxy_socket': path,
        'vproxy_label': known_name(channel['label']),
        'vproxy_process': re.sub(r'[^A-Za-z0-9._-]', '_', os.path.basename(path).removesuffix('.sock')),
        'vproxy_state': known_name(channel['state']),
        'vproxy_group': channel['group'] and known_name(channel['group']),
        'vproxy_address': defused(channel['address']),
        'vproxy_peer': peer and {key: defused(peer[key]) for key in ('name', 'agent', 'services')},
    }


def known_name(text):
    if not NAME.fullmatch(text):
        raise ValueError(text)
    return text


def defused(value):
    """Text of a guest or an operator, marked so that Ansible does not evaluate it as a template."""
    if isinstance(value, list):
        return [defused(each) for each in value]
    return value if isinstance(value, str) and PLAIN.fullmatch(value) else wrap_var(value)


def name_hosts(hosts, by_peer, others):
    """Returns the hosts by their names in the inventory. `others`: names that are taken, which no guest gets by its own name."""
    own = [host['vproxy_process' if host['vproxy_label'] == NO_LABEL else 'vproxy_label'] for host in hosts]
    used = Counter(own)
    own = [
        f'{host["vproxy_process"]}-{host["vproxy_label"]}' if used[name] > 1 else name for host, name in zip(hosts, own)
    ]
    claimed = Counter((host['vproxy_peer'] or {}).get('name') for host in hosts) if by_peer else {}
    taken = {'localhost', GROUP, *others, *own}
    named = {}
    for host, name in zip(hosts, own):
        claim = (host['vproxy_peer'] or {}).get('name') or ''
        if claimed.get(claim) == 1 and claim not in taken and NAME.fullmatch(claim) and claim[0].isalnum():
            name = claim
        if name in named:
            sockets = f'{named[name]["ansible_vproxy_socket"]} and {host["ansible_vproxy_socket"]}'
            raise AnsibleParserError(f'two channels would have the name {name}, of {sockets}')
        named[name] = host
    return named
