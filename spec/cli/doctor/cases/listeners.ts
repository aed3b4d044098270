/** Addresses that vproxy listens on, files that it writes, programs that it runs. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { checkForward } from '../../../../cli/doctor/subjects/forward.js';
import { parseForwardSpec } from '../../../../lib/forward/spec.js';
import { temporaryFolder } from '../../../helpers/files.js';
import { type FakeMachine, fakeMachine, pretend } from '../../../helpers/machines.js';
import { spawnVproxy, TAKING_CONTROL } from '../../../helpers/vproxy-process.js';
import { doctor, doctorWithoutRights, type FindingCase } from './case.js';
import { staleSocket } from './sockets.js';

const outgoing = (t: ExecutionContext, text: string, machine: FakeMachine = {}) =>
  checkForward(fakeMachine(t, machine), parseForwardSpec('outgoing', text));

const incoming = (t: ExecutionContext, text: string) =>
  checkForward(fakeMachine(t), parseForwardSpec('incoming', text));

function closedFolder(t: ExecutionContext): string {
  const folder = join(temporaryFolder(t), 'closed');
  mkdirSync(folder);
  chmodSync(folder, 0o500);
  return folder;
}

/** Each finding about them. */
export const LISTENER_CASES: readonly FindingCase[] = [
  { id: 'listen-free', when: 'the system picks the port', find: (t) => outgoing(t, 'ssh:127.0.0.1:0') },
  { id: 'listen-free', when: 'there is no such socket yet', find: (t) => outgoing(t, `ssh:${temporaryFolder(t)}/s`) },
  {
    id: 'listen-stale',
    when: 'the socket of a process that was killed is there',
    find: async (t) => outgoing(t, `ssh:${await staleSocket(t)}`),
  },
  {
    id: 'listen-taken',
    when: 'another process has the port, and is named',
    says: /^process \d+ \(nginx.*\) listens on 127/,
    async find(t) {
      const { port } = await pretend(t, { program: 'nginx', listenTcp: true });
      return outgoing(t, `web:127.0.0.1:${port}`);
    },
  },
  {
    id: 'listen-taken',
    when: 'another process has the socket, and is named',
    says: /^process \d+ \(nginx/,
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      await pretend(t, { program: 'nginx', listen: path });
      return outgoing(t, `web:${path}`);
    },
  },
  {
    id: 'listen-file',
    when: 'a file is in the way',
    find(t) {
      const path = join(temporaryFolder(t), 'file');
      writeFileSync(path, '');
      return outgoing(t, `web:${path}`);
    },
  },
  { id: 'listen-address', when: 'the address is another machine’s', find: (t) => outgoing(t, 'web:192.0.2.1:8080') },
  {
    id: 'listen-low-port',
    when: 'the port is for root',
    async find(t) {
      const files = { 'proc/sys/net/ipv4/ip_unprivileged_port_start': '1024\n' };
      const { fakeMachineWithProc } = await import('../../../helpers/machines.js');
      const machine = fakeMachineWithProc(t, { files, userId: 1234 });
      return checkForward(machine, parseForwardSpec('outgoing', 'web:127.0.0.1:80'));
    },
  },
  {
    id: 'held-by-vproxy',
    when: 'a vproxy that runs has the channel, its forward and its control socket',
    says: /vproxy host1 \(process \d+\) has it, as its channel vm1\nvproxy host1 .* listens there\nvproxy host1 .* listens there/,
    async find(t) {
      const folder = temporaryFolder(t);
      const args = ['-c', `vm1=unix-listen:${folder}/c`, '-o', `ssh:${folder}/o`, '--control', `${folder}/control`];
      await spawnVproxy(t, [...args, '--name', 'host1']).waitForLine(TAKING_CONTROL);
      return doctor(t, [...args, '--socket', `${folder}/control`]);
    },
  },
  {
    id: 'folder-denied',
    when: 'this user can make no socket in the folder',
    says: /mode 0500/,
    find: (t) => doctorWithoutRights(t, '-c', `unix-listen:${closedFolder(t)}/s`),
  },
  {
    id: 'file-denied',
    when: 'this user cannot write the file of a target',
    find(t) {
      const file = join(temporaryFolder(t), 'log');
      writeFileSync(file, '');
      chmodSync(file, 0o400);
      return doctorWithoutRights(t, '-c', 'stdio:', '-i', `log:file:${file}`);
    },
  },
  {
    id: 'file-not',
    when: 'a folder is where a file should be',
    find: (t) => incoming(t, `log:file:${temporaryFolder(t)}`),
  },
  { id: 'file-writable', when: 'it can be made', find: (t) => incoming(t, `log:file:${temporaryFolder(t)}/log`) },
  { id: 'command-missing', when: 'there is no such program', find: (t) => incoming(t, 'run:exec:no-such-program -x') },
  { id: 'command-found', when: 'it is in PATH', says: /^sh is \//, find: (t) => incoming(t, 'run:exec:sh -c true') },
  { id: 'not-checked', when: 'a command is more than words', find: (t) => incoming(t, 'run:exec:(a; b)') },
  { id: 'not-checked', when: 'a channel is inherited', find: (t) => doctor(t, ['-c', 'stdio:']) },
  {
    id: 'socket-listens',
    when: 'it is the target of a forward',
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      await pretend(t, { program: 'syslogd', listen: path });
      return incoming(t, `log:${path}`);
    },
  },
  {
    id: 'listen-taken',
    when: 'the port of --metrics is taken',
    async find(t) {
      const server = net.createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      t.teardown(() => server.close());
      const { port } = server.address() as net.AddressInfo;
      return doctor(t, ['-c', 'stdio:', '--metrics', `127.0.0.1:${port}`]);
    },
  },
];
