/** Sockets, processes, users and memory of a machine, from a /proc made by the spec, and from this machine's own. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import net from 'node:net';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { isOwnGroup } from '../../../lib/system/accounts.js';
import { availableMemory } from '../../../lib/system/proc/available-memory.js';
import { ListeningPorts } from '../../../lib/system/proc/listening-ports.js';
import { LocalUsers } from '../../../lib/system/proc/local-users.js';
import { findHolder, processExists } from '../../../lib/system/proc/proc.js';
import { findAddressOwner, findSockets } from '../../../lib/system/proc/proc-net.js';
import { usageOfSessions } from '../../../lib/system/proc/session-usage.js';
import { deferred } from '../../../lib/util/concurrency.js';
import { temporaryFolder } from '../../helpers/files.js';
import { localServer, localSocket } from '../../helpers/proxies.js';
import { within } from '../../helpers/time.js';

/** A folder with these files. */
function folderOf(t: ExecutionContext, files: Readonly<Record<string, string>>): string {
  const root = temporaryFolder(t);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return root;
}

/** In a /proc, a process with sockets of these inodes. */
function makeProcess(procPath: string, pid: number, name: string, inodes: readonly number[]): void {
  const folder = join(procPath, String(pid));
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, 'fd'), { recursive: true });
  writeFileSync(join(folder, 'comm'), `${name}\n`);
  for (const [fd, inode] of inodes.entries()) symlinkSync(`socket:[${inode}]`, join(folder, 'fd', String(fd)));
}

// The words of an address are in the byte order of the machine.
const isLittle = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
const words = (hex: string): string =>
  isLittle ? Buffer.from(hex, 'hex').swap32().toString('hex').toUpperCase() : hex.toUpperCase();
const [LOCAL, ANY, OTHER] = [words('7f000001'), words('00000000'), words('0a000005')];
const six = (start: string, end: string): string => words(start.padEnd(32 - end.length, '0') + end);
const [LOCAL6, ANY6, OTHER6] = [six('', '01'), six('', '00'), six('20010db8', '05')];
const [LINK6, MAPPED6] = [six('fe80', '05'), six('', 'ffff7f000001')];

const HEADER = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';

/** A line of a table, for a listener unless another state is given. */
function line(address: string, port: number, inode: number, { state = '0A', remote = '00000000:0000' } = {}): string {
  const local = `${address}:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return `   0: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000  7        0 ${inode} 1 0000 100 0 0 10 0\n`;
}

/** A /proc with these tables. */
const procOf = (t: ExecutionContext, tcp: string, tcp6 = ''): string =>
  folderOf(t, { 'net/tcp': HEADER + tcp, 'net/tcp6': HEADER + tcp6 });

/** Another process, `taker`, that listens on a TCP port and on a path. */
async function takerOf(t: ExecutionContext) {
  const path = join(temporaryFolder(t), 'a b.sock');
  const program = `process.title = 'taker'; const { createServer } = require('node:net');
    createServer().listen(${JSON.stringify(path)}, () => {
      const server = createServer().listen(0, '127.0.0.1', () => console.log(server.address().port));
    });`;
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [first] = (await within(30_000, 'another process', once(child.stdout, 'data'))) as [Buffer];
  return { child, path, port: Number(String(first)) };
}

test('another process that owns an address, or blocks it, is named, and found as a listener, until it exits', async (t) => {
  const { child, path, port } = await takerOf(t);
  const { port: ownPort } = await localServer(t, () => undefined);
  const taker = `process ${child.pid} (taker)`;
  for (const host of ['127.0.0.1', '0.0.0.0', '::', 'localhost'])
    t.is(await findAddressOwner({ host, port }), taker, host);
  t.is(await findAddressOwner({ host: '127.0.0.2', port }), null);
  t.is(await findAddressOwner({ path }), taker);
  t.is(await findAddressOwner({ path: `${path}x` }), null);
  t.is(await findAddressOwner({ host: '127.0.0.1', port: ownPort }), 'this process');
  const ports = new ListeningPorts();
  const look = () => ports.look((number) => number === port || number === ownPort);
  t.deepEqual(await look(), [{ port, host: '127.0.0.1', program: 'taker' }]);
  child.kill();
  await once(child, 'exit');
  t.deepEqual(await look(), []);
});

test('the owner of an address according to /proc: its process, or its user; IPv6, and IPv4-mapped', async (t) => {
  const procPath = procOf(t, line(LOCAL, 8080, 42), line(OTHER6, 1, 1) + line(MAPPED6, 2, 2));
  makeProcess(procPath, 100, 'other', [43, 1]);
  // Its name cannot forge a line.
  makeProcess(procPath, 200, 'a\n\u001b[2J', [2]);
  const find = (host: string, port: number, limitMs?: number) =>
    findAddressOwner({ host, port }, { procPath, ...(limitMs !== undefined && { limitMs }) });
  t.is(await find('127.0.0.1', 8080), 'a process of user 7', 'whose descriptors cannot be seen');
  t.is(await find('2001:DB8::5', 1), 'process 100 (other)');
  t.is(await find('2001:DB8::5', 1, 0), 'a process of user 7', 'without time to look');
  t.is(await find('127.0.0.1', 2), 'process 200 (a\\n\\x1b[2J)');
  t.is(await find('2001:db8::2', 1), null);
  t.is(await findAddressOwner({ host: '127.0.0.1', port: 1 }, { procPath: temporaryFolder(t) }), null);
  t.is(await findAddressOwner({ path: '/x' }, { procPath: '/nowhere' }), null);
});

test('an owner that one reading of the table lacks is found by the next', async (t) => {
  const procPath = procOf(t, '');
  makeProcess(procPath, 100, 'x', [42]);
  const table = join(procPath, 'net/tcp');
  rmSync(table);
  execFileSync('mkfifo', [table]);
  const owner = findAddressOwner({ host: '127.0.0.1', port: 8080 }, { procPath });
  const first = await open(table, 'w');
  writeFileSync(`${table}.next`, HEADER + line(LOCAL, 8080, 42));
  renameSync(`${table}.next`, table);
  await first.writeFile(HEADER);
  await first.close();
  t.is(await owner, 'process 100 (x)');
});

test('this process is found without time to search, even in a long table', async (t) => {
  const others = Array.from({ length: 2000 }, (_, index) => line(LOCAL, 1024 + index, index + 100));
  const procPath = procOf(t, others.join('') + line(LOCAL, 8080, 42));
  makeProcess(procPath, process.pid, 'vproxy', [42]);
  t.is(await findAddressOwner({ host: '127.0.0.1', port: 8080 }, { procPath, limitMs: 0 }), 'this process');
});

test('a connection from the same port is not a listener, which is found on a busy machine, too', async (t) => {
  const closed = Array.from({ length: 30_000 }, (_, index) => line(LOCAL, 1024 + index, 0, { state: '06' }));
  const connected = line(LOCAL, 60_001, 42, { state: '01', remote: `${LOCAL}:0016` });
  const procPath = procOf(t, closed.join('') + connected);
  makeProcess(procPath, 100, 'x', [42]);
  t.is(await findAddressOwner({ host: '127.0.0.1', port: 60_001 }, { procPath }), null);
  const found = (await findSockets(procPath, () => false)).filter(({ state }) => state === 'connected');
  const ports = found.map(({ address, remote }) => [address?.port, remote]);
  t.deepEqual(ports, [[60_001, { host: '127.0.0.1', port: 22 }]]);
});

// ---- listeners ----------------------------------------------------------------------------------------------------

const all = (): boolean => true;

test('each port with a listener is listed once, with the address to dial and its program', async (t) => {
  const procPath = procOf(
    t,
    line(ANY, 8080, 1) + line(OTHER, 3000, 2) + line(LOCAL, 3000, 3) + line(OTHER, 3001, 4),
    line(ANY6, 8080, 5) +
      line(LOCAL6, 4000, 6) +
      line(ANY6, 4001, 7) +
      line(OTHER6, 4002, 8) +
      line(LINK6, 4003, 9) +
      line(MAPPED6, 4004, 10),
  );
  makeProcess(procPath, 100, 'node', [77, 3, 7]);
  makeProcess(procPath, 200, 'nginx', [1, 5]);
  const ports = new ListeningPorts({ procPath, pid: 1, hasLoopback6: () => true });
  t.deepEqual(await ports.look(all), [
    { port: 3000, host: '127.0.0.1', program: 'node' },
    { port: 3001, host: '10.0.0.5', program: null },
    { port: 4000, host: '::1', program: null },
    { port: 4001, host: '::1', program: 'node' },
    { port: 4002, host: '2001:db8::5', program: null },
    { port: 4004, host: '127.0.0.1', program: null },
    { port: 8080, host: '127.0.0.1', program: 'nginx' },
  ]);
  const without = new ListeningPorts({ procPath, pid: 1, hasLoopback6: () => false });
  t.like((await without.look((port) => port === 4001))[0], { host: '127.0.0.1' });
  const none = new ListeningPorts({ procPath: join(procPath, 'none'), pid: 1 });
  t.deepEqual(await none.look(all), []);
});

test('only wanted ports are listed, and none that this process listens on itself', async (t) => {
  const procPath = procOf(t, [3000, 3001, 3002].map((port) => line(LOCAL, port, port)).join(''));
  makeProcess(procPath, 100, 'vproxy', [3001]);
  makeProcess(procPath, 200, 'node', [3000, 3002]);
  const ports = new ListeningPorts({ procPath, pid: 100 });
  const found = async () => (await ports.look((port) => port !== 3002)).map(({ port }) => port);
  t.deepEqual(await found(), [3000]);
  t.deepEqual(await found(), [3000], 'what is known is not forgotten');
});

test('the holder of a listener is looked up once; a new listener on its port is looked up again', async (t) => {
  const procPath = procOf(t, line(LOCAL, 3000, 1));
  makeProcess(procPath, 100, 'first', [1]);
  const ports = new ListeningPorts({ procPath, pid: 1 });
  const name = async () => (await ports.look(all))[0]?.program;
  t.is(await name(), 'first');
  makeProcess(procPath, 100, 'renamed', [1]);
  t.is(await name(), 'first');
  writeFileSync(join(procPath, 'net/tcp'), HEADER + line(LOCAL, 3000, 2));
  makeProcess(procPath, 100, 'second', [2]);
  t.is(await name(), 'second');
});

test('of known ports only whether they still have a listener is looked at', async (t) => {
  const procPath = procOf(t, line(LOCAL, 3000, 1) + line(LOCAL, 3001, 2));
  makeProcess(procPath, 100, 'first', [1, 2]);
  const ports = new ListeningPorts({ procPath, pid: 1 });
  const first = await ports.look(all);
  writeFileSync(join(procPath, 'net/tcp'), HEADER + line(LOCAL, 3001, 3) + line(LOCAL, 3002, 4));
  t.deepEqual(await ports.look(all, true), first.slice(1));
});

test('connections are not listeners, and reading a table stops at the first of them', async (t) => {
  const connections = Array.from({ length: 2000 }, (_, index) => line(LOCAL, 2000 + index, 0, { state: '01' }));
  // Unlike any kernel's table: whatever comes after the connections is not read.
  const procPath = procOf(t, [line(LOCAL, 3000, 1), ...connections, line(LOCAL, 3001, 2)].join(''));
  const found = await new ListeningPorts({ procPath, pid: 1 }).look(all);
  t.is(found.map(({ port }) => port).join(), '3000');
});

// ---- users of connections -----------------------------------------------------------------------------------------

/** The accepted sides of connections to a port at `host`. */
async function accepted(t: ExecutionContext, host: string, count = 1): Promise<net.Socket[]> {
  const sockets: net.Socket[] = [];
  const isThere = deferred();
  const server = await localServer(
    t,
    (socket) => {
      if (sockets.push(socket) === count) isThere.resolve();
    },
    { host, port: 0 },
    { pauseOnConnect: true },
  );
  for (let opened = 0; opened < count; opened += 1)
    localSocket(t, { port: server.port, host: host === '::' ? '127.0.0.1' : host });
  await isThere.promise;
  return sockets;
}

for (const host of ['127.0.0.1', '::1', '::']) {
  test(`connections of this user to ${host} are recognized, however many come at once`, async (t) => {
    const users = new LocalUsers('/proc', 60_000);
    const sockets = await accepted(t, host, 50);
    const found = await Promise.all(sockets.map((socket) => users.userOf(socket)));
    t.deepEqual(new Set(found), new Set([String(process.getuid?.())]));
  });
}

test('an unlisted connection, and one from another machine, has no user', async (t) => {
  const procPath = procOf(t, '');
  const [socket] = (await accepted(t, '127.0.0.1')) as [net.Socket];
  t.is(await new LocalUsers(procPath).userOf(socket), null);
  t.is(await new LocalUsers(join(procPath, 'none')).userOf(socket), null);
  const elsewhere = { remoteAddress: '192.0.2.1', remotePort: 1, localPort: 2 };
  t.is(await new LocalUsers().userOf(elsewhere), null);
});

// ---- memory and accounts ------------------------------------------------------------------------------------------

const MEMORY: Readonly<Record<string, readonly [files: Readonly<Record<string, string>>, bytes: number, by: string]>> =
  {
    'without a limit, the machine’s available memory counts': [
      {
        'proc/self/cgroup': '0::/a\n',
        'sys/fs/cgroup/a/memory.max': 'max\n',
        'sys/fs/cgroup/a/memory.current': '1000\n',
      },
      5_120_000,
      'this machine',
    ],
    'the strictest control group counts, without page cache': [
      {
        'proc/self/cgroup': '0::/a/b.service\n',
        'sys/fs/cgroup/a/memory.max': '2000000\n',
        'sys/fs/cgroup/a/memory.current': '1500000\n',
        'sys/fs/cgroup/a/memory.stat': 'anon 1\ninactive_file 100000\nactive_file 10000\n',
        'sys/fs/cgroup/a/b.service/memory.max': 'max\n',
        'sys/fs/cgroup/a/b.service/memory.high': '1900000\n',
        'sys/fs/cgroup/a/b.service/memory.current': '1000000\n',
      },
      610_000,
      'the control group /a',
    ],
    'control groups v1 count, also where a container sees only its own': [
      {
        'proc/self/cgroup': '5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/\n',
        'sys/fs/cgroup/memory/memory.limit_in_bytes': '3000000\n',
        'sys/fs/cgroup/memory/memory.usage_in_bytes': '2900000\n',
        'sys/fs/cgroup/memory/memory.stat': 'inactive_file 7\ntotal_inactive_file 50000\n',
      },
      150_000,
      'the control group /',
    ],
    'a group beyond its limit leaves nothing': [
      { 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/memory.max': '10\n', 'sys/fs/cgroup/memory.current': '20\n' },
      0,
      'the control group /',
    ],
  };

for (const [name, [files, bytes, boundBy]] of Object.entries(MEMORY)) {
  test(`memory: ${name}`, (t) => {
    const root = folderOf(t, { 'proc/meminfo': 'MemTotal:  9000 kB\nMemAvailable:  5000 kB\n', ...files });
    t.deepEqual(availableMemory(root), { bytes, boundBy });
  });
}

test('a system that does not report its memory gives null', (t) => {
  t.is(availableMemory('/nowhere'), null);
  t.true((availableMemory()?.bytes ?? 0) > 0);
});

test('a group is a user’s own if no other account, known or not, is a member', (t) => {
  const users = ['root:x:0:0::/root:/bin/sh', 'one:x:1000:50::/home/one:/bin/sh'];
  const [member, owner] = ['two:x:1001:51::/home/two:/bin/sh', 'two:x:1001:50::/home/two:/bin/sh'];
  for (const [groups, accounts, expected] of [
    ['one:x:50:', [], true],
    ['one:x:50:one,root', [], true],
    ['one:x:50:one,two', [member], false],
    ['one:x:50:\nother:x:50:two', [member], false],
    ['one:x:50:', [owner], false],
    ['one:x:50:somebody', [], false],
    ['root:x:0:', [], false],
  ] as const) {
    const folder = folderOf(t, { passwd: `${[...users, ...accounts].join('\n')}\n`, group: `${groups}\n` });
    t.is(isOwnGroup(50, 1000, join(folder, 'passwd'), join(folder, 'group')), expected, groups);
  }
  t.false(isOwnGroup(50, 1000, '/dev/null/passwd', '/dev/null/group'));
});

test('a process exists that this user may not signal; one that has exited does not', async (t) => {
  t.true(processExists(process.pid));
  const kill = process.kill.bind(process);
  process.kill = () => {
    throw Object.assign(new Error('kill EPERM'), { code: 'EPERM' });
  };
  const isThere = processExists(1);
  process.kill = kill;
  t.true(isThere);
  const child = spawn('true');
  await once(child, 'exit');
  t.false(processExists(child.pid ?? 0));
});

test('a search that is over looks at no further process', async (t) => {
  const seen: number[] = [];
  function* pids(): Generator<number> {
    for (let pid = 1; pid <= 1000; pid += 1) {
      seen.push(pid);
      yield pid;
    }
  }
  t.is(await findHolder(temporaryFolder(t), pids(), new Set(['x']), () => seen.length > 2), null);
  t.deepEqual(seen, [1, 2, 3]);
});

test('one look at the processes serves all who asked before it began', async (t) => {
  const proc = temporaryFolder(t);
  for (const pid of [11, 12]) {
    mkdirSync(join(proc, `${pid}`));
    writeFileSync(join(proc, `${pid}`, 'stat'), `${pid} (a) b) S 1 ${pid} ${pid} 0 -1 0 0 0 0 0 1 2 3 4 20 0`);
    writeFileSync(join(proc, `${pid}`, 'status'), 'VmHWM:\t  7 kB\n');
  }
  const looks = [new Set([11]), new Set([12]), new Set([13])].map((sessions) => usageOfSessions(sessions, proc));
  const [first, ...others] = await Promise.all(looks);
  const usage = { cpuMs: 100, peakBytes: 7168 };
  t.deepEqual(
    first,
    new Map([
      [11, usage],
      [12, usage],
    ]),
  );
  t.true(others.every((other) => other === first));
  // A zombie has no memory.
  writeFileSync(join(proc, '11', 'status'), 'Name:\ta\n');
  const last = await usageOfSessions(new Set([11]), proc);
  t.false(last === first);
  t.deepEqual(last.get(11), { ...usage, peakBytes: null });
});
