/** Which process has an address that is taken. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { findAddressOwner, findSockets } from '../../../lib/system/proc/proc-net.js';
import { temporaryFolder } from '../../helpers/files.js';
import { localServer } from '../../helpers/proxies.js';
import { within } from '../../helpers/time.js';

/**
 * Starts another process that listens on `address`, a JavaScript expression; returns its id, and the port if it has
 * one.
 */
async function otherProcess(t: ExecutionContext, address: string): Promise<{ pid: number; port: number }> {
  const program = `process.title = 'taker'; const server = require('node:net').createServer();
    server.listen(${address}, () => console.log(server.address().port ?? 0));`;
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill());
  const [line] = (await within(20_000, 'another process', once(child.stdout, 'data'))) as [Buffer];
  return { pid: child.pid ?? 0, port: Number(line.toString()) };
}

/** Enough for a busy machine. */
const PATIENT = { timeoutMs: 10_000 };

test('another process is named that has a TCP address, or stands in its way', async (t) => {
  const { pid, port } = await otherProcess(t, "{ host: '127.0.0.1', port: 0 }");
  for (const host of ['127.0.0.1', '0.0.0.0', '::', 'localhost']) {
    t.is(await findAddressOwner({ host, port }, PATIENT), `process ${pid} (taker)`, host);
  }
  t.is(await findAddressOwner({ host: '127.0.0.2', port }, PATIENT), null);
});

test('another process is named that listens on a unix socket', async (t) => {
  const path = join(temporaryFolder(t), 'a b.sock');
  const { pid } = await otherProcess(t, JSON.stringify({ path }));
  t.is(await findAddressOwner({ path }, PATIENT), `process ${pid} (taker)`);
  t.is(await findAddressOwner({ path: `${path}x` }, PATIENT), null);
});

test('this process knows itself', async (t) => {
  const { port } = await localServer(t, () => undefined);
  t.is(await findAddressOwner({ host: '127.0.0.1', port }), 'this process');
});

/** A folder that looks like /proc. */
function proc(
  t: ExecutionContext,
  tables: Record<string, string>,
  processes: Record<string, [name: string, target: string]> = {},
): string {
  const procPath = temporaryFolder(t);
  mkdirSync(join(procPath, 'net'));
  for (const [name, text] of Object.entries(tables)) writeFileSync(join(procPath, 'net', name), text);
  for (const [pid, [name, target]] of Object.entries(processes)) {
    mkdirSync(join(procPath, pid, 'fd'), { recursive: true });
    writeFileSync(join(procPath, pid, 'comm'), `${name}\n`);
    symlinkSync(target, join(procPath, pid, 'fd', '3'));
  }
  return procPath;
}

const tcpLine = (local: string, { state = '0A', uid = 7, inode = 42 } = {}): string =>
  `  sl  local_address rem_address\n   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000  ${uid}   0 ${inode} 1 0 100 0\n`;

// The words of an address are in the byte order of the machine.
const isLittle = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
const word = (hex: string): string => (isLittle ? Buffer.from(hex, 'hex').swap32().toString('hex').toUpperCase() : hex);
const LOOPBACK = word('7F000001');

test('a process whose descriptors cannot be seen is known by its user', async (t) => {
  const procPath = proc(t, { tcp: tcpLine(`${LOOPBACK}:1F90`) }, { 100: ['other', 'socket:[43]'] });
  t.is(await findAddressOwner({ host: '127.0.0.1', port: 8080 }, { ...PATIENT, procPath }), 'a process of user 7');
});

test('an address of IPv6 is found, and an IPv4 address within it', async (t) => {
  const procPath = proc(
    t,
    {
      tcp6: [
        tcpLine(`${word('20010DB8')}${word('00000000')}${word('00000000')}${word('00000001')}:0001`, { inode: 1 }),
        tcpLine(`${word('00000000')}${word('00000000')}${word('0000FFFF')}${LOOPBACK}:0002`, { inode: 2 }),
      ].join(''),
    },
    { 100: ['six', 'socket:[1]'], 200: ['four', 'socket:[2]'] },
  );
  const find = (host: string, port: number) => findAddressOwner({ host, port }, { ...PATIENT, procPath });
  t.is(await find('2001:DB8::1', 1), 'process 100 (six)');
  t.is(await find('127.0.0.1', 2), 'process 200 (four)');
  t.is(await find('2001:db8::2', 1), null);
});

test('a connection from the same port is no listener', async (t) => {
  const procPath = proc(t, { tcp: tcpLine(`${LOOPBACK}:1F90`, { state: '01' }) }, { 100: ['x', 'socket:[42]'] });
  t.is(await findAddressOwner({ host: '127.0.0.1', port: 8080 }, { ...PATIENT, procPath }), null);
});

test('the name of a process cannot forge a line', async (t) => {
  const procPath = proc(t, { tcp: tcpLine(`${LOOPBACK}:1F90`) }, { 100: ['a\n\u001b[2J', 'socket:[42]'] });
  t.is(
    await findAddressOwner({ host: '127.0.0.1', port: 8080 }, { ...PATIENT, procPath }),
    'process 100 (a\\n\\x1b[2J)',
  );
});

test('without /proc, and without time, nothing is known', async (t) => {
  const address = { host: '127.0.0.1', port: 8080 };
  t.is(await findAddressOwner(address, { procPath: temporaryFolder(t) }), null);
  t.is(await findAddressOwner({ path: '/x' }, { procPath: '/nowhere' }), null);
  const procPath = proc(t, { tcp: tcpLine(`${LOOPBACK}:1F90`) }, { 100: ['x', 'socket:[42]'] });
  t.is(await findAddressOwner(address, { procPath, timeoutMs: 0 }), 'a process of user 7');
});

test('a connection is found behind those of a busy machine', async (t) => {
  const line = (state: string, port: number): string =>
    `  0: 0100007F:${port.toString(16).padStart(4, '0').toUpperCase()} 0100007F:0016 ${state} 0:0 0:0 0 0 0 ${port} 1 0 20 0 0 10 -1`;
  const closed = Array.from({ length: 30_000 }, (_, index) => line('06', 1024 + index));
  const procPath = proc(t, { tcp: [...closed, line('01', 60_001), ''].join('\n') });
  const connected = (await findSockets(procPath, () => false)).filter(({ state }) => state === 'connected');
  t.deepEqual(
    connected.map(({ address, remote }) => [address?.port, remote]),
    [[60_001, { host: '127.0.0.1', port: 22 }]],
  );
});
