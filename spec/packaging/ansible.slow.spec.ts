/** The Ansible collection (packaging/ansible) with Debian's ansible-core, through real processes that act as host and guests. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connectControl } from '../../lib/control/client/client.js';
import { Ansible, type AnsibleVariables, PLAYBOOKS, PYTHON } from '../helpers/ansible.js';
import { PROJECT_ROOT, sha256, temporaryFolder } from '../helpers/files.js';
import { hasNeed } from '../helpers/needs.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import {
  ESTABLISHED,
  isRunning,
  spawnControlled,
  spawnVproxy,
  TAKING_CONTROL,
  type VproxyProcess,
} from '../helpers/vproxy-process.js';

const TEST_MS = 300_000;
/** Serial: each test keeps a processor busy. */
const ansibleTest = serialTestWith('ansible');

const installFolder = mkdtempSync(join(tmpdir(), 'vproxy-ansible-'));
/** Installed once for all tests, which are skipped if the machine lacks it. */
let ansible: Ansible;
test.before(() => {
  if (hasNeed('ansible')) ansible = Ansible.install(installFolder);
});
test.after.always(() => rmSync(installFolder, { recursive: true, force: true }));

/** The side behind a channel: its arguments, by default `--allow-exec`, and `SpawnOptions.launcher`. */
interface GuestSetup {
  readonly args?: readonly string[];
  readonly launcher?: readonly string[];
}

/** A host with a channel for each label, and a session with each guest; null: nothing is behind that channel. */
async function startWorld(t: ExecutionContext, setups: Readonly<Record<string, GuestSetup | null>>) {
  const folder = temporaryFolder(t);
  const path = (label: string): string => join(folder, `channel-${label}`);
  const channels = Object.keys(setups).flatMap((label) => ['-c', `${label}=unix-listen:${path(label)}`]);
  const { socket } = await spawnControlled(t, channels);
  const guests = new Map<string, VproxyProcess>();
  for (const [label, setup] of Object.entries(setups)) {
    if (setup === null) continue;
    const { args = ['--allow-exec'], launcher = [] } = setup;
    guests.set(label, spawnVproxy(t, ['-c', `unix-connect:${path(label)}`, ...args], { launcher }));
  }
  await Promise.all([...guests.values()].map((guest) => guest.waitForLine(ESTABLISHED)));
  const always = { ansible_vproxy_socket: socket, ansible_remote_tmp: join(folder, 'remote') };
  /** Makes an inventory of the hosts behind this process. Default: the guest `vm1`. */
  const inventory = (
    variables: AnsibleVariables = {},
    hosts: Readonly<Record<string, AnsibleVariables>> = { vm1: {} },
  ) => ansible.writeInventory(hosts, { ...always, ...variables });
  return { folder, socket, guests, inventory };
}

const readJson = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));

ansibleTest('the collection has all that it needs, the version of the package, and documented options', async (t) => {
  const list = execFileSync('tar', ['tf', ansible.archive], { encoding: 'utf8' }).trim().split('\n');
  const plugins = [
    'connection/vproxy.py',
    'inventory/vproxy.py',
    ...['__init__', '_calls', '_core', '_errors', '_files', '_places', '_sync'].map(
      (name) => `plugin_utils/vproxy/${name}.py`,
    ),
  ];
  t.deepEqual(list.filter((name) => !name.endsWith('/')).sort(), [
    ...['FILES.json', 'MANIFEST.json', 'README.md', 'changelogs/changelog.yaml', 'meta/runtime.yml'],
    ...plugins.map((name) => `plugins/${name}`),
  ]);
  const manifest = readJson(join(ansible.collection, 'MANIFEST.json')) as { collection_info: { version: string } };
  const { version } = readJson(join(PROJECT_ROOT, 'package.json')) as { version: string };
  t.is(manifest.collection_info.version, version);

  const { text } = await ansible.run('ansible-doc', ['--json', '-t', 'connection', 'vproxy.vproxy.vproxy']);
  const documented = JSON.parse(text) as Record<string, { doc: { options: Record<string, { vars?: unknown[] }> } }>;
  const options = documented['vproxy.vproxy.vproxy']?.doc.options ?? {};
  const names = 'connection_timeout pipelining process remote_addr remote_user socket use_tty';
  t.is(Object.keys(options).sort().join(' '), names);
  for (const [name, { vars }] of Object.entries(options)) t.truthy(vars?.length, `no variable sets ${name}`);
});

ansibleTest('the inventory plugin makes hosts of channels; a guest cannot take a name or be evaluated', async (t) => {
  t.timeout(TEST_MS);
  const { socket, folder } = await startWorld(t, {
    vm1: { args: ['--allow-exec', '--name', 'web'] },
    vm2: { args: ['--name', 'vm1'] },
    vm3: { args: ['--name', '{{ 1 + 1 }}'] },
    vm4: null,
  });
  const path = join(folder, 'guests.vproxy.yml');
  const list = (settings: object) => {
    writeFileSync(path, JSON.stringify({ plugin: 'vproxy.vproxy.vproxy', sockets: [socket], ...settings }));
    return ansible.run('ansible-inventory', ['-i', path, '--list']);
  };
  for (const [settings, hosts] of [
    [{}, ['vm1', 'vm2', 'vm3']],
    [{ states: ['waiting'] }, ['vm4']],
    [{ states: ['all'], hostname: 'peer' }, ['vm2', 'vm3', 'vm4', 'web']],
  ] as const) {
    const { vproxy } = JSON.parse((await list(settings)).text) as { vproxy: { hosts: string[] } };
    t.deepEqual(vproxy.hosts.sort(), hosts);
  }
  const { text } = await list({ keyed_groups: [{ key: 'vproxy_peer.services', prefix: 'offers' }] });
  t.regex(text, /"__ansible_unsafe": "\{\{ 1 \+ 1 \}\}"[^]*"offers_exec": \{\s+"hosts": \[\s+"vm1"\s+\]/);
  t.regex((await ansible.run('ansible', ['vm1', '-i', path, '-m', 'raw', '-a', 'echo hello'])).text, /^hello$/m);
  t.regex((await list({ sockets: ['/nowhere'] })).text, /no\s+vproxy answers on \/nowhere/);
});

for (const pipelining of [true, false]) {
  ansibleTest(`a play of twenty tasks, ${pipelining ? 'with' : 'without'} pipelining`, async (t) => {
    t.timeout(TEST_MS);
    const { inventory, folder, guests } = await startWorld(t, { vm1: {} });
    const [here, work] = [join(folder, 'here'), join(folder, 'work')];
    for (const path of [here, work]) mkdirSync(path);
    const binary = randomBytes(300_000);
    writeFileSync(join(here, 'binary'), binary);
    const variables = { here, work, sha256: sha256(binary) };
    const hosts = inventory({ ansible_pipelining: pipelining });
    const { code, text } = await ansible.play(hosts, 'twenty-tasks.yml', variables);
    t.is(code, 0, text);
    t.regex(text, /vm1 +: ok=20 .* unreachable=0 +failed=0 +skipped=0 /);
    t.deepEqual(readFileSync(join(here, 'vm1/binary')), binary);
    t.is(readFileSync(join(work, 'motd'), 'utf8'), 'Welcome to vm1.\n');
    // A module is a file in the guest only if it is not pipelined.
    const isSent = guests.get('vm1')?.lines.some((line) => line.includes('AnsiballZ_ping.py'));
    t.is(isSent, !pipelining);
  });
}

ansibleTest('any bytes of input and output, and files with their modes', async (t) => {
  t.timeout(TEST_MS);
  const { socket, folder } = await startWorld(t, { vm1: {} });
  const script = join(PLAYBOOKS, 'connection.py');
  const { code, text } = await ansible.run(PYTHON, [script, socket, 'vm1', folder]);
  t.is(code, 0, text);
});

ansibleTest('unusable hosts are unreachable, and a status is always that of the command', async (t) => {
  t.timeout(TEST_MS);
  const { inventory } = await startWorld(t, {
    vm1: {},
    'no-session': null,
    'not-allowed': { args: [] },
    'not-listed': { args: ['--allow-exec=/usr/bin/uname'] },
  });
  const vm1 = { ansible_host: 'vm1' };
  const unreachable: Readonly<Record<string, readonly [AnsibleVariables, message: RegExp]>> = {
    'no-process': [
      { ...vm1, ansible_vproxy_socket: '/nowhere' },
      /^no vproxy answers on \/nowhere: .*No such file.* \(control-unavailable\)$/,
    ],
    'no-channel': [{}, /no-channel.* \(not-found\)$/],
    'no-session': [{ ansible_vproxy_connection_timeout: 1 }, /no-session.* \(no-session\)$/],
    'not-allowed': [{}, /^the peer of "not-allowed" does not allow commands; start vproxy there with --allow-exec/],
    'not-listed': [{}, /^\/bin\/sh: not an allowed program \(command-denied\)$/],
    'no-user': [{ ...vm1, ansible_user: 'no-such-user' }, /^unknown user "no-such-user" \(command-failed\)$/],
  };
  const statuses = [0, 1, 69, 124, 125, 126, 127, 255];
  const hosts = Object.fromEntries([
    ...statuses.map((status) => [`status-${status}`, { ...vm1, status }]),
    ...Object.entries(unreachable).map(([host, [variables]]) => [host, variables]),
  ]) as Record<string, AnsibleVariables>;
  const results = await ansible.task(inventory({}, hosts), 'raw', 'exit {{ status | default(0) }}');
  for (const rc of statuses) {
    const { [`status-${rc}`]: result } = Object.fromEntries(results);
    t.deepEqual([result?.unreachable, result?.rc], [undefined, rc]);
  }
  for (const [host, [, message]] of Object.entries(unreachable)) {
    t.true(results.get(host)?.unreachable, host);
    t.regex(results.get(host)?.msg ?? '', message);
  }
});

ansibleTest('a cancelled task ends its command, and one that is cut off makes the host unreachable', async (t) => {
  t.timeout(TEST_MS);
  const { socket, inventory, guests, folder } = await startWorld(t, { vm1: {} });
  const hosts = inventory();
  const pidFile = join(folder, 'pid');
  const script = `echo $$ >${pidFile}; exec sleep 1000`;
  const started = () => eventually(() => Number(readFileSync(pidFile, 'utf8')), { timeoutMs: 60_000 });

  const words = ['all', '-i', hosts, '--task-timeout', '15', '-m', 'raw', '-a', script];
  const givenUp = ansible.run('ansible', words);
  const command = await started();
  t.regex((await givenUp).text, /FAILED[^]*in the expected time frame \(15\)/);
  await eventually(() => !isRunning(command));

  rmSync(pidFile);
  const cutOff = ansible.task(hosts, 'raw', script);
  await started();
  // The first output of the command, which shows that it runs.
  const hasSaid = async () => (await connectControl(socket).streams()).some(({ receivedBytes }) => receivedBytes > 0);
  await eventually(hasSaid);
  guests.get('vm1')?.kill('SIGKILL');
  const { unreachable, msg } = (await cutOff).get('vm1') ?? {};
  t.true(unreachable);
  t.regex(msg ?? '', /^the result of the command is unknown: .* \(exec-unavailable\)$/);
});

/** A record of the service `exec`. */
function record(kind: number, payload: string): Buffer {
  const header = Buffer.from([kind, 0, 0, 0, 0]);
  header.writeUInt32BE(payload.length, 1);
  return Buffer.concat([header, Buffer.from(payload)]);
}

/** A control socket that answers every command with these bytes and EOF. */
async function listenWith(t: ExecutionContext, path: string, answer: Buffer): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (request) => {
      if (!request.toString().startsWith('GET /v1/connect?')) socket.end('HTTP/1.1 200 OK\r\n\r\n{}');
      else socket.end(Buffer.concat([Buffer.from('HTTP/1.1 101 -\r\nVproxy-End: /v1/connect/1\r\n\r\n'), answer]));
    });
  });
  t.teardown(() => server.close());
  server.listen(path);
  await once(server, 'listening');
}

ansibleTest('a guest that sends no valid result of a command is unreachable', async (t) => {
  t.timeout(TEST_MS);
  const folder = temporaryFolder(t);
  const [STDOUT, EXIT] = [17, 20];
  const exit = (value: unknown): Buffer => record(EXIT, JSON.stringify(value));
  const tooLong = Buffer.from([STDOUT, 0xff, 0xff, 0xff, 0xff]);
  const [unavailable, wrong] = ['exec-unavailable', 'protocol-error'];
  const answers: Readonly<Record<string, readonly [Buffer, outcome: string | number]>> = {
    nothing: [Buffer.alloc(0), unavailable],
    'half-a-record': [record(STDOUT, 'out').subarray(0, 6), unavailable],
    'too-long': [tooLong, wrong],
    'no-json': [record(EXIT, '{'), wrong],
    'no-object': [exit([]), wrong],
    deep: [record(EXIT, '['.repeat(200_000)), wrong],
    'deep-and-short': [record(EXIT, '['.repeat(60_000)), wrong],
    'no-number': [record(EXIT, '{"status":1e400,"signal":null,"error":null}'), wrong],
    'negative-number': [exit({ status: -1, signal: null, error: null }), wrong],
    'deep-signal': [record(EXIT, `{"status":null,"signal":${'['.repeat(900)}${']'.repeat(900)},"error":null}`), 255],
    'no-status': [exit({ status: {}, signal: null, error: null }), wrong],
    'no-error': [exit({ status: null, signal: null, error: 'x' }), wrong],
    good: [Buffer.concat([record(99, 'of a newer one'), exit({ status: null, signal: 'SIGTERM', error: null })]), 143],
  };
  const hosts: Record<string, AnsibleVariables> = {};
  for (const [name, [answer]] of Object.entries(answers)) {
    const ansible_vproxy_socket = join(folder, name);
    await listenWith(t, ansible_vproxy_socket, answer);
    hosts[name] = { ansible_vproxy_socket };
  }
  const results = await ansible.task(ansible.writeInventory(hosts, {}), 'raw', 'true');
  for (const [host, [, outcome]] of Object.entries(answers)) {
    const { unreachable, msg = '', rc } = results.get(host) ?? {};
    t.is(unreachable === true ? /\((\S+)\)$/.exec(msg)?.[1] : rc, outcome, host);
  }
});

ansibleTest('of several processes the one is taken that has the channel, unless one is named', async (t) => {
  t.timeout(TEST_MS);
  const folder = temporaryFolder(t);
  const start = async (name: string, ...labels: readonly string[]): Promise<void> => {
    const channels = labels.flatMap((label) => ['-c', `${label}=unix-listen:${join(folder, `${name}-${label}`)}`]);
    await spawnVproxy(t, [...channels, '--control', join(folder, `${name}.sock`)]).waitForLine(TAKING_CONTROL);
  };
  await Promise.all([start('one', 'vm1', 'both'), start('two', 'vm2', 'both')]);
  const script = [
    'import socket, sys',
    'from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder',
    '_AnsibleCollectionFinder(paths=[sys.argv[2]])._install()',
    'from ansible_collections.vproxy.vproxy.plugins.connection.vproxy import VproxyError, find_socket',
    'from ansible_collections.vproxy.vproxy.plugins.plugin_utils.vproxy import _places',
    '_places.control_folder = lambda: sys.argv[1]',
    '# A socket that a process has left behind.',
    'socket.socket(socket.AF_UNIX).bind(sys.argv[1] + "/old.sock")',
    'for name, label in [(None, "vm1"), (None, "vm2"), ("two", "both"), (None, "both"), (None, "vm9")]:',
    '    try: print(find_socket(None, name, label))',
    '    except VproxyError as error: print(error)',
  ].join('\n');
  const { text } = await ansible.run(PYTHON, [
    '-W',
    'ignore',
    '-c',
    script,
    folder,
    join(ansible.collection, '../../..'),
  ]);
  t.deepEqual(text.trim().split('\n'), [
    join(folder, 'one.sock'),
    join(folder, 'two.sock'),
    join(folder, 'two.sock'),
    'several vproxy here have the channel "both"',
    'no vproxy here has the channel "vm9"',
  ]);
});

/** The words that start a guest with its own accounts: `operator` may use sudo with a password, and root has one for su. */
function ownAccounts(t: ExecutionContext): readonly string[] {
  const folder = temporaryFolder(t);
  chmodSync(folder, 0o755);
  const home = join(folder, 'home');
  mkdirSync(home);
  chmodSync(home, 0o777);
  const hash = (password: string) => execFileSync('openssl', ['passwd', '-6', password], { encoding: 'utf8' }).trim();
  const files: Readonly<Record<string, readonly string[]>> = {
    passwd: ['root:x:0:0::/root:/bin/sh', `operator:x:4711:4711::${home}:/bin/sh`, 'nobody:x:65534:65534::/:/bin/sh'],
    group: ['root:x:0:', 'operator:x:4711:', 'nogroup:x:65534:'],
    shadow: [
      `root:${hash('of root')}:19000:0:99999:7:::`,
      `operator:${hash('of operator')}:19000:0:99999:7:::`,
      'nobody:*:19000::::::',
    ],
    sudoers: [
      'Defaults timestamp_timeout=0, !syslog, lecture=never',
      'root ALL=(ALL) NOPASSWD: ALL',
      'operator ALL=(ALL) ALL',
    ],
  };
  for (const [name, lines] of Object.entries(files)) writeFileSync(join(folder, name), `${lines.join('\n')}\n`);
  for (const name of ['shadow', 'sudoers']) chmodSync(join(folder, name), 0o440);
  const mounts = Object.keys(files).map((name) => `mount --bind "$1/${name}" /etc/${name}`);
  return ['unshare', '--mount', 'sh', '-ec', [...mounts, 'shift', 'exec "$@"'].join('\n'), 'sh', folder];
}

const rootTest = serialTestWith('ansible', 'root', 'sudo', 'openssl');

rootTest('another user by sudo and su, with a password and without, with a terminal and without', async (t) => {
  t.timeout(TEST_MS);
  const { inventory } = await startWorld(t, { vm1: { launcher: ownAccounts(t) } });
  const operator = { ansible_user: 'operator' };
  const sudo = { ...operator, ansible_become_password: 'of operator' };
  const su = { ...operator, ansible_become_method: 'su', ansible_become_password: 'of root' };
  const nobody = { ansible_user: 'root', ansible_become_user: 'nobody' };
  const hosts = {
    operator: { ...operator, ansible_become: false },
    'root-by-sudo': sudo,
    'root-by-sudo-pipelined': { ...sudo, ansible_pipelining: true },
    'root-by-sudo-terminal': { ...sudo, ansible_vproxy_use_tty: true },
    'root-by-su': su,
    'root-by-su-terminal': { ...su, ansible_vproxy_use_tty: true },
    'nobody-by-sudo': { ...nobody, ansible_pipelining: true },
    'nobody-by-su': { ...nobody, ansible_become_method: 'su' },
    'sudo-wrong': { ...sudo, ansible_become_password: 'wrong' },
    'sudo-missing': operator,
    'su-wrong': { ...su, ansible_become_password: 'wrong' },
    'su-missing': { ...su, ansible_become_password: null },
  };
  const variables = {
    ansible_host: 'vm1',
    ansible_become: true,
    ansible_remote_tmp: '/tmp/.ansible-${USER}/tmp',
    ansible_vproxy_connection_timeout: 60,
  };
  const path = inventory(variables, hosts);
  const modules = await ansible.task(path, 'command', 'id -un');
  const raw = await ansible.task(path, 'raw', 'id -un; test ! -t 0 || echo terminal');

  for (const host of Object.keys(hosts)) {
    const [first = '', second] = host.split('-');
    const [module = {}, { stdout, msg, unreachable } = {}] = [modules.get(host), raw.get(host)];
    if (second === 'wrong' || second === 'missing') {
      const expected = `${second === 'wrong' ? 'Incorrect' : 'Missing'} ${first} password`;
      t.deepEqual({ msg, unreachable }, { msg: expected, unreachable: undefined }, host);
      t.is(module.msg, expected, host);
    } else {
      t.is(module.stdout, first, `${host}: ${module.msg}`);
      t.is(stdout, host.endsWith('terminal') ? `${first}\r\nterminal\r\n` : `${first}\n`, host);
    }
  }
});
