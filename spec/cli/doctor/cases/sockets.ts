/** Sockets to connect to. */

import { once } from 'node:events';
import { chmodSync, linkSync, mkdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { checkTcpConnect } from '../../../../cli/doctor/locations/tcp-address.js';
import { checkGroup, checkUnixSocket } from '../../../../cli/doctor/locations/unix-socket.js';
import { temporaryFolder } from '../../../helpers/files.js';
import { fakeMachine, fakeMachineWithProc, pretend } from '../../../helpers/machines.js';
import { freePort, hangingPort } from '../../../helpers/ports.js';
import { localServer } from '../../../helpers/proxies.js';
import { eventually } from '../../../helpers/time.js';
import { doctorWithoutRights, type FindingCase } from './case.js';

const look = (t: ExecutionContext, path: string) => checkUnixSocket(fakeMachine(t), { path, servesOne: true }, null);

const lookAtTcp = (t: ExecutionContext, host: string, port: number) =>
  checkTcpConnect(fakeMachine(t), { address: { host, port }, servesOne: true }, false);

/**
 * A socket that no process has open any more: a second name of a listener that has ended, as Node removes only the
 * first.
 */
export async function staleSocket(t: ExecutionContext, path = join(temporaryFolder(t), 'stale.sock')): Promise<string> {
  const server = net.createServer().listen(`${path}.first`);
  await once(server, 'listening');
  linkSync(`${path}.first`, path);
  server.close();
  await once(server, 'close');
  return path;
}

/** Stops a process, and waits until it is stopped. */
async function stop(
  machine: ReturnType<typeof fakeMachine>,
  process: { readonly pid: number; kill(signal: NodeJS.Signals): void },
) {
  process.kill('SIGSTOP');
  await eventually(() => /^\d+ \(.*\) T/s.test(machine.readProc(`${process.pid}/stat`)), {
    what: 'a process that is stopped',
  });
}

/** Each finding about them. */
export const SOCKET_CASES: readonly FindingCase[] = [
  {
    id: 'socket-missing',
    when: 'there is no such file, with the name that is like it',
    says: /there is vm1\.sock, which/,
    async find(t) {
      const folder = temporaryFolder(t);
      await localServer(t, () => undefined, { path: join(folder, 'vm1.sock') });
      return look(t, join(folder, 'vn1.sock'));
    },
  },
  {
    id: 'socket-not',
    when: 'there is a file',
    says: /is a file, not a socket/,
    find(t) {
      const path = join(temporaryFolder(t), 'file');
      writeFileSync(path, '');
      return look(t, path);
    },
  },
  {
    id: 'socket-denied',
    when: 'the socket has the mode 0000',
    says: /mode 0000/,
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      await localServer(t, () => undefined, { path });
      chmodSync(path, 0);
      return doctorWithoutRights(t, '-c', `unix-connect:${path}`);
    },
  },
  { id: 'socket-stale', when: 'the program that made it has ended', find: async (t) => look(t, await staleSocket(t)) },
  {
    id: 'socket-listens',
    when: 'a QEMU listens, by its name and number',
    says: /on which process \d+ \(qemu-system-x86.*\) listens/,
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      await pretend(t, { program: 'qemu-system-x86', listen: path });
      return look(t, path);
    },
  },
  {
    id: 'socket-answered',
    when: 'the socket is not listed here, and somebody answers',
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      await localServer(t, (socket) => void socket.end(), { path });
      return checkUnixSocket(fakeMachineWithProc(t), { path, servesOne: true }, null);
    },
  },
  {
    id: 'socket-type',
    when: 'it is for datagrams',
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      await pretend(t, { program: 'logger', bindDatagram: path });
      return look(t, path);
    },
  },
  {
    id: 'socket-taken',
    when: 'another program is connected to QEMU, and is named',
    says: /^process \d+ \(minicom.*\) is connected to process \d+ \(qemu/,
    // ss(8), which is in the same package, says who is connected to whom.
    needs: ['ip'],
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      await pretend(t, { program: 'qemu-system-x86', listen: path });
      await pretend(t, { program: 'minicom', connect: path });
      return look(t, path);
    },
  },
  {
    id: 'socket-taken',
    when: 'another program is connected, and who it is cannot be known',
    says: /^somebody/,
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      await pretend(t, { program: 'qemu-system-x86', listen: path });
      await pretend(t, { program: 'minicom', connect: path });
      const machine = fakeMachine(t, { readUnixPeers: () => Promise.reject(new Error('no ss')) });
      return checkUnixSocket(machine, { path, servesOne: true }, null);
    },
  },
  {
    id: 'socket-queue',
    when: 'a connection waits to be accepted',
    says: /1 connection waits/,
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      const machine = fakeMachine(t);
      await stop(machine, await pretend(t, { program: 'qemu-system-x86', listen: path }));
      await pretend(t, { program: 'minicom', connect: path, isQueued: true });
      return checkUnixSocket(machine, { path, servesOne: true }, null);
    },
  },
  {
    id: 'process-stopped',
    when: 'QEMU is stopped',
    remedy: /kill -CONT \d+/,
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      const machine = fakeMachine(t);
      await stop(machine, await pretend(t, { program: 'qemu-system-x86', listen: path }));
      return checkUnixSocket(machine, { path, servesOne: true }, null);
    },
  },
  {
    id: 'group-members',
    when: 'sockets fit a group',
    says: /2 like .*: vm1, vm2; .*UPPER/,
    async find(t) {
      const folder = temporaryFolder(t);
      for (const name of ['vm1', 'vm2', 'UPPER'])
        await localServer(t, () => undefined, { path: join(folder, `${name}.sock`) });
      return checkGroup(fakeMachine(t), `unix-connect:${folder}/*.sock`, null);
    },
  },
  {
    id: 'group-empty',
    when: 'no socket fits a group',
    find: (t) => checkGroup(fakeMachine(t), `unix-connect:${temporaryFolder(t)}/*.sock`, null),
  },
  {
    id: 'tcp-answers',
    when: 'somebody listens, under the name of its address too',
    says: /^localhost:\d+ \(127\.0\.0\.1\) answers .*: process \d+ \(sshd/,
    find: async (t) => lookAtTcp(t, 'localhost', (await pretend(t, { program: 'sshd', listenTcp: true })).port),
  },
  {
    id: 'tcp-refused',
    when: 'nobody listens',
    find: async (t) => lookAtTcp(t, '127.0.0.1', await freePort()),
  },
  { id: 'tcp-silent', when: 'nobody accepts', find: async (t) => lookAtTcp(t, '127.0.0.1', await hangingPort(t)) },
  { id: 'tcp-unreachable', when: 'there is no way', find: (t) => lookAtTcp(t, '255.255.255.255', 1) },
  {
    id: 'tcp-unknown-name',
    when: 'the name is not known',
    says: /no-such-machine\.invalid/,
    find: (t) => lookAtTcp(t, 'no-such-machine.invalid', 1),
  },
  {
    id: 'tcp-taken',
    when: 'another program is connected to QEMU’s port',
    says: /^process \d+ \(telnet.*\) is connected to 127/,
    async find(t) {
      const { port } = await pretend(t, { program: 'qemu-system-x86', listenTcp: true });
      await pretend(t, { program: 'telnet', connectTcp: port });
      return lookAtTcp(t, '127.0.0.1', port);
    },
  },
  {
    id: 'tcp-taken',
    when: 'a third program has the port of that one, to another server',
    says: /^process 102 \(telnet\) is connected to 127/,
    find(t) {
      // The listener on 9000, its connection, and those of the two others from port 40000.
      const rows = [
        '2328 00000000:0000 0A 1',
        '2328 0100007F:9C40 01 2',
        '9C40 0100007F:0050 01 3',
        '9C40 0100007F:2328 01 4',
      ];
      const table = rows.map((row) => {
        const [port, remote, state, inode] = row.split(' ');
        return `0: 0100007F:${port} ${remote} ${state} 0:0 0:0 0 0 0 ${inode}\n`;
      });
      const files: Record<string, string> = { 'proc/net/tcp': `sl\n${table.join('')}` };
      const links: Record<string, string> = {};
      const programs = { 'qemu-system-x86': [1, 2], browser: [3], telnet: [4] };
      for (const [index, [program, inodes]] of Object.entries(programs).entries()) {
        files[`proc/${100 + index}/comm`] = `${program}\n`;
        for (const inode of inodes) links[`proc/${100 + index}/fd/${inode}`] = `socket:[${inode}]`;
      }
      const machine = fakeMachineWithProc(t, { files, links });
      return checkTcpConnect(machine, { address: { host: '127.0.0.1', port: 9000 }, servesOne: true }, false);
    },
  },
  {
    id: 'folder-missing',
    when: 'the folder of a socket is not there',
    find: (t) => look(t, join(temporaryFolder(t), 'no/s')),
  },
  {
    id: 'path-denied',
    when: 'a folder on the way cannot be searched, which is named',
    says: /closed cannot be searched/,
    find(t) {
      const folder = join(temporaryFolder(t), 'closed');
      mkdirSync(join(folder, 'inner'), { recursive: true });
      chmodSync(folder, 0);
      t.teardown(() => chmodSync(folder, 0o700));
      return doctorWithoutRights(t, '-c', `unix-connect:${folder}/inner/s`);
    },
  },
  {
    id: 'path-remote',
    when: 'the path is on a network file system',
    says: /nfs4 at \/srv\/far away/,
    find(t) {
      const line = '36 35 0:33 / /srv/far\\040away rw,relatime shared:1 - nfs4 server:/ rw\n';
      const machine = fakeMachineWithProc(t, {
        files: { 'proc/self/mountinfo': `1 1 0:1 / / rw - ext4 /dev/sda rw\n${line}` },
      });
      return checkUnixSocket(machine, { path: '/srv/far away/s', servesOne: true }, null);
    },
  },
];
