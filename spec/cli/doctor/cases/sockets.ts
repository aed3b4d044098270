/** Sockets to connect to. */
import { once } from 'node:events';
import { chmodSync, linkSync, mkdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { checkTcpConnect } from '../../../../cli/doctor/locations/tcp-address.js';
import { checkGroup, checkUnixSocket } from '../../../../cli/doctor/locations/unix-socket.js';
import { parseChannel } from '../../../../lib/channel/address/address.js';
import { unixConnect } from '../../../../lib/channel/sockets.js';
import { patiently } from '../../../helpers/channel-pair.js';
import { temporaryFolder } from '../../../helpers/files.js';
import { fakeMachine, fakeMachineWithProc, pretend } from '../../../helpers/machines.js';
import { freePort, hangingPort } from '../../../helpers/ports.js';
import { localServer } from '../../../helpers/proxies.js';
import { eventually } from '../../../helpers/time.js';
import { anywhere, atSocket, atTcp, doctorWithoutRights, finds } from './case.js';

const look = (t: ExecutionContext, path: string, machine = fakeMachine(t)) =>
  checkUnixSocket(machine, { path, servesOne: true }, null);

const lookAtTcp = (t: ExecutionContext, host: string, port: number, machine = fakeMachine(t)) =>
  checkTcpConnect(machine, { address: { host, port }, servesOne: true }, false);

const lookAtGroup = (t: ExecutionContext, folder: string) =>
  checkGroup(fakeMachine(t), parseChannel(`unix-connect:${folder}/*.sock`), null);

const socketPath = (t: ExecutionContext): string => join(temporaryFolder(t), 's');

/** A socket on which a program of this name listens, optionally with another one connected. */
export async function listening(t: ExecutionContext, program: string, connected?: string): Promise<string> {
  const path = socketPath(t);
  await pretend(t, { program, listen: path });
  if (connected !== undefined) await pretend(t, { program: connected, connect: path });
  return path;
}

/** The socket of a QEMU that is stopped. */
async function stopped(t: ExecutionContext): Promise<string> {
  const path = socketPath(t);
  const process = await pretend(t, { program: 'qemu-system-x86', listen: path });
  process.kill('SIGSTOP');
  const machine = fakeMachine(t);
  const state = () => machine.readProc(`${process.pid}/stat`);
  await eventually(() => /^\d+ \(.*\) T/s.test(state()), { what: 'a process that is stopped' });
  return path;
}

/** A socket that no process has open: a second name of a closed listener, as Node removes only the first. */
export async function staleSocket(t: ExecutionContext, path = socketPath(t)): Promise<string> {
  const server = net.createServer().listen(`${path}.first`);
  await once(server, 'listening');
  linkSync(`${path}.first`, path);
  server.close();
  await once(server, 'close');
  return path;
}

/** Connections of 127.0.0.1, as in /proc: process, ports, and state. */
function connections(rows: readonly (readonly [program: string, from: string, to: string, state: string])[]) {
  const table = rows.map(
    ([, from, to, state], inode) => `0: 0100007F:${from} ${to} ${state} 0:0 0:0 0 0 0 ${inode + 1}\n`,
  );
  const pids = new Map([...new Set(rows.map(([program]) => program))].map((program, index) => [program, 100 + index]));
  const links = rows.map(([program], inode): [string, string] => [
    `proc/${pids.get(program)}/fd/${inode}`,
    `socket:[${inode + 1}]`,
  ]);
  const names = [...pids].map(([program, pid]): [string, string] => [`proc/${pid}/comm`, `${program}\n`]);
  return {
    files: { ...Object.fromEntries<string>(names), 'proc/net/tcp': `sl\n${table.join('')}` },
    links: Object.fromEntries<string>(links),
  };
}

export const SOCKET_CASES = [
  atSocket(
    'channel-missing',
    'there is no such file, but one with a similar name',
    /does not exist, but vm1\.sock does$/,
    async (t) => {
      const folder = temporaryFolder(t);
      await localServer(t, () => undefined, { path: join(folder, 'vm1.sock') });
      return look(t, join(folder, 'vn1.sock'));
    },
  ),
  atSocket('channel-unusable', 'there is a file', /is a file, not a socket/, (t) => {
    const path = join(temporaryFolder(t), 'file');
    writeFileSync(path, '');
    return look(t, path);
  }),
  atSocket('channel-denied', 'the socket has the mode 0000', /mode 0000/, async (t) => {
    const path = socketPath(t);
    await localServer(t, () => undefined, { path });
    chmodSync(path, 0);
    return doctorWithoutRights(t, '-c', `unix-connect:${path}`);
  }),
  atSocket('channel-refused', 'the program that created it has exited', async (t) => look(t, await staleSocket(t))),
  finds('socket-listens', 'a QEMU listens', /^process \d+ \(qemu-system-x86.*\) listens on \//, async (t) =>
    look(t, await listening(t, 'qemu-system-x86')),
  ),
  finds('socket-answered', 'the socket is not listed here, but answers', async (t) => {
    const path = socketPath(t);
    await localServer(t, (socket) => void socket.end(), { path });
    return look(t, path, fakeMachineWithProc(t));
  }),
  finds('not-vproxy', 'an ssh server answers on a socket', /: 9 bytes came that .* "SSH-2\.0-x"$/, async (t) => {
    const path = socketPath(t);
    await localServer(t, (socket) => void socket.end('SSH-2.0-x'), { path });
    return look(t, path, fakeMachineWithProc(t));
  }),
  finds('not-vproxy', 'an ssh server answers on a port', /: 9 bytes came that .* "SSH-2\.0-x"/, async (t) => {
    const { port } = await localServer(t, (socket) => void socket.end('SSH-2.0-x'));
    return lookAtTcp(t, '127.0.0.1', port);
  }),
  ...(['bindDatagram', 'listenPackets'] as const).map((how) =>
    atSocket('channel-unusable', `it is of another type (${how}), as vproxy finds`, async (t) => {
      const path = socketPath(t);
      await pretend(t, { program: 'logger', [how]: path });
      const dialled = unixConnect.dial(path, patiently());
      await t.throwsAsync(dialled, { code: 'channel-unusable', message: /: not a stream socket \(EPROTOTYPE\); use / });
      return look(t, path);
    }),
  ),
  anywhere(
    'channel-busy',
    'another program is connected to QEMU, and is named',
    // ss(8), which is in the same package as ip(8), shows which process is connected to which.
    { says: /^process \d+ \(minicom.*\) is already connected to process \d+ \(qemu/, needs: ['ip'] },
    async (t) => look(t, await listening(t, 'qemu-system-x86', 'minicom')),
  ),
  anywhere('channel-busy', 'an unknown program is connected', /^another process \(see ss/, async (t) => {
    const machine = fakeMachine(t, { readUnixPeers: () => Promise.reject(new Error('no ss')) });
    return look(t, await listening(t, 'qemu-system-x86', 'minicom'), machine);
  }),
  finds('socket-queue', 'a connection waits to be accepted', /1 connection waits/, async (t) => {
    const path = await stopped(t);
    await pretend(t, { program: 'minicom', connect: path, isQueued: true });
    return look(t, path);
  }),
  finds('process-stopped', 'QEMU is stopped', { remedy: /kill -CONT \d+/ }, async (t) => look(t, await stopped(t))),
  finds('group-members', 'sockets match a group', /2 matching .*: vm1, vm2; .*UPPER/, async (t) => {
    const folder = temporaryFolder(t);
    for (const name of ['vm1', 'vm2', 'UPPER'])
      await localServer(t, () => undefined, { path: `${folder}/${name}.sock` });
    return lookAtGroup(t, folder);
  }),
  finds('group-empty', 'no socket matches a group', (t) => lookAtGroup(t, temporaryFolder(t))),
  finds(
    'tcp-answers',
    'a program listens, also by the name of its address',
    /^localhost:\d+ \(127\.0\.0\.1\) answers .*: process \d+ \(sshd/,
    async (t) => lookAtTcp(t, 'localhost', (await pretend(t, { program: 'sshd', listenTcp: true })).port),
  ),
  atTcp('channel-refused', 'nothing listens', async (t) => lookAtTcp(t, '127.0.0.1', await freePort())),
  atTcp('channel-failed', 'nothing accepts', async (t) => lookAtTcp(t, '127.0.0.1', await hangingPort(t))),
  atTcp('channel-failed', 'there is no route', (t) => lookAtTcp(t, '255.255.255.255', 1)),
  atTcp('channel-missing', 'the name is unknown', /no-such-machine\.invalid/, (t) =>
    lookAtTcp(t, 'no-such-machine.invalid', 1),
  ),
  finds('tcp-taken', 'another program is connected', /^process \d+ \(telnet.*\) is connected to 127/, async (t) => {
    const { port } = await pretend(t, { program: 'qemu-system-x86', listenTcp: true });
    await pretend(t, { program: 'telnet', connectTcp: port });
    return lookAtTcp(t, '127.0.0.1', port);
  }),
  finds(
    'tcp-taken',
    'a third program uses the same port to another server',
    /^process 102 \(telnet\) is connected to 127/,
    (t) => {
      // QEMU's listener on 9000 and its connection, and the connections of the two others from port 40000.
      const machine = connections([
        ['qemu-system-x86', '2328', '00000000:0000', '0A'],
        ['qemu-system-x86', '2328', '0100007F:9C40', '01'],
        ['browser', '9C40', '0100007F:0050', '01'],
        ['telnet', '9C40', '0100007F:2328', '01'],
      ]);
      return lookAtTcp(t, '127.0.0.1', 9000, fakeMachineWithProc(t, machine));
    },
  ),
  finds(
    'folder-missing',
    'the folder of a socket does not exist, or is a file',
    /no does not exist\n.*file is not one: it is a file/,
    async (t) => {
      const folder = temporaryFolder(t);
      writeFileSync(join(folder, 'file'), '');
      return (await Promise.all(['no/s', 'file/s'].map((path) => look(t, join(folder, path))))).flat();
    },
  ),
  finds('path-denied', 'a folder on the way cannot be searched', /closed cannot be searched/, (t) => {
    const folder = join(temporaryFolder(t), 'closed');
    mkdirSync(join(folder, 'inner'), { recursive: true });
    chmodSync(folder, 0);
    t.teardown(() => chmodSync(folder, 0o700));
    return doctorWithoutRights(t, '-c', `unix-connect:${folder}/inner/s`);
  }),
  finds('path-remote', 'the path is on a network file system', /nfs4 at \/srv\/far away/, (t) => {
    const mounts = [
      '1 1 0:1 / / rw - ext4 /dev/sda rw\n',
      '36 35 0:33 / /srv/far\\040away rw,relatime shared:1 - nfs4 server:/ rw\n',
    ];
    return look(t, '/srv/far away/s', fakeMachineWithProc(t, { files: { 'proc/self/mountinfo': mounts.join('') } }));
  }),
];
