/** What listens on a machine, as a /proc of the spec's own says, and as this one's does. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ListeningPorts } from '../../../lib/system/proc/listening-ports.js';
import { temporaryFolder } from '../../helpers/files.js';

const HEADER = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';

/** One line of a table, as Linux on a little-endian machine writes it. */
const line = (local: string, inode: number, state = '0A'): string =>
  `   0: ${local} ${local.replace(/[0-9A-F]/g, '0')} ${state} 00000000:00000000 00:00000000 00000000  1000        0 ${inode} 1 0000 100 0 0 10 0\n`;

const hex = (port: number): string => port.toString(16).toUpperCase().padStart(4, '0');
const [LOCAL, ANY, OTHER] = ['0100007F', '00000000', '0500000A'];
const [LOCAL6, ANY6, OTHER6] = ['0'.repeat(24) + '01000000', '0'.repeat(32), 'B80D0120' + '0'.repeat(16) + '05000000'];
const LINK6 = '000080FE' + '0'.repeat(16) + '05000000';
const MAPPED6 = '0000000000000000FFFF00000100007F';

/** A /proc with tables and processes, which may be written again. */
class Tables {
  readonly path: string;

  constructor(t: ExecutionContext) {
    this.path = temporaryFolder(t);
    mkdirSync(join(this.path, 'net'));
    this.write('', '');
  }

  write(tcp: string, tcp6: string): void {
    writeFileSync(join(this.path, 'net/tcp'), HEADER + tcp);
    writeFileSync(join(this.path, 'net/tcp6'), HEADER + tcp6);
  }

  process(pid: number, name: string, inodes: readonly number[]): void {
    rmSync(join(this.path, String(pid)), { recursive: true, force: true });
    mkdirSync(join(this.path, String(pid), 'fd'), { recursive: true });
    writeFileSync(join(this.path, String(pid), 'comm'), `${name}\n`);
    for (const [fd, inode] of inodes.entries())
      symlinkSync(`socket:[${inode}]`, join(this.path, String(pid), 'fd', String(fd)));
  }
}

const all = (): boolean => true;

test('each port with a listener is there once, at the address where it is dialled, with its program', async (t) => {
  const tables = new Tables(t);
  tables.write(
    line(`${ANY}:${hex(8080)}`, 1) +
      line(`${OTHER}:${hex(3000)}`, 2) +
      line(`${LOCAL}:${hex(3000)}`, 3) +
      line(`${OTHER}:${hex(3001)}`, 4),
    line(`${ANY6}:${hex(8080)}`, 5) +
      line(`${LOCAL6}:${hex(4000)}`, 6) +
      line(`${ANY6}:${hex(4001)}`, 7) +
      line(`${OTHER6}:${hex(4002)}`, 8) +
      line(`${LINK6}:${hex(4003)}`, 9) +
      line(`${MAPPED6}:${hex(4004)}`, 10),
  );
  tables.process(100, 'node', [77, 3, 7]);
  tables.process(200, 'nginx', [1, 5]);
  const ports = new ListeningPorts({ procPath: tables.path, pid: 1, hasLoopback6: () => true });
  t.deepEqual(await ports.look(all), [
    { port: 3000, host: '127.0.0.1', program: 'node' },
    { port: 3001, host: '10.0.0.5', program: null },
    { port: 4000, host: '::1', program: null },
    { port: 4001, host: '::1', program: 'node' },
    { port: 4002, host: '2001:db8::5', program: null },
    { port: 4004, host: '127.0.0.1', program: null },
    { port: 8080, host: '127.0.0.1', program: 'nginx' },
  ]);
  const without = new ListeningPorts({ procPath: tables.path, pid: 1, hasLoopback6: () => false });
  t.like((await without.look((port) => port === 4001))[0], { host: '127.0.0.1' });
});

test('only wanted ports are looked at, and none that this process listens on itself', async (t) => {
  const tables = new Tables(t);
  const lines = [3000, 3001, 3002].map((port, index) => line(`${LOCAL}:${hex(port)}`, 10 + index)).join('');
  tables.write(lines, '');
  tables.process(100, 'vproxy', [11]);
  tables.process(200, 'node', [10, 12]);
  const ports = new ListeningPorts({ procPath: tables.path, pid: 100 });
  const found = async () => (await ports.look((port) => port !== 3002)).map(({ port }) => port);
  t.deepEqual(await found(), [3000]);
  t.deepEqual(await found(), [3000], 'what is known is not forgotten');
});

test('whose a listener is, is looked for once; a new one at its port is another one', async (t) => {
  const tables = new Tables(t);
  tables.write(line(`${LOCAL}:${hex(3000)}`, 1), '');
  tables.process(100, 'first', [1]);
  const ports = new ListeningPorts({ procPath: tables.path, pid: 1 });
  const name = async () => (await ports.look(all))[0]?.program;
  t.is(await name(), 'first');
  tables.process(100, 'renamed', [1]);
  t.is(await name(), 'first');
  tables.write(line(`${LOCAL}:${hex(3000)}`, 2), '');
  tables.process(100, 'second', [2]);
  t.is(await name(), 'second');
});

test('connections are no listeners, and a table ends for this at the first of them', async (t) => {
  const tables = new Tables(t);
  const connections = Array.from({ length: 2000 }, (_, index) =>
    line(`${LOCAL}:${hex(2000 + (index % 60_000))}`, 0, '01'),
  ).join('');
  // As no kernel writes it: what is behind the connections is not read.
  tables.write(line(`${LOCAL}:${hex(3000)}`, 1) + connections + line(`${LOCAL}:${hex(3001)}`, 2), '');
  const ports = new ListeningPorts({ procPath: tables.path, pid: 1 });
  t.deepEqual(
    (await ports.look(all)).map(({ port }) => port),
    [3000],
  );
});

test('without a /proc nothing listens', async (t) => {
  const ports = new ListeningPorts({ procPath: join(temporaryFolder(t), 'none'), pid: 1 });
  t.deepEqual(await ports.look(all), []);
});

test('a program of this machine is found with its name, by what the system says, until it ends', async (t) => {
  const program = `const s = require('net').createServer().listen(0, '127.0.0.1', () => console.log(s.address().port)); process.stdin.resume().on('end', () => process.exit())`;
  const child = spawn(process.execPath, ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [first] = (await once(child.stdout, 'data')) as [Buffer];
  const port = Number(first.toString());
  const own = net.createServer();
  await once(own.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => own.close());
  const ownPort = (own.address() as net.AddressInfo).port;
  const ports = new ListeningPorts();
  const look = () => ports.look((number) => number === port || number === ownPort);
  // Node calls itself node, or from 26 on node-MainThread.
  const name = readFileSync(`/proc/${child.pid}/comm`, 'utf8').trim();
  t.deepEqual(await look(), [{ port, host: '127.0.0.1', program: name }]);
  child.stdin.end();
  await once(child, 'exit');
  t.deepEqual(await look(), []);
});
