/** Addresses that vproxy listens on, files that it writes, and programs that it runs. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { checkForward } from '../../../../cli/doctor/subjects/forward.js';
import { parseForwardSpec } from '../../../../lib/forward/spec.js';
import { temporaryFolder } from '../../../helpers/files.js';
import { fakeMachine, fakeMachineWithProc, pretend } from '../../../helpers/machines.js';
import { freePort } from '../../../helpers/ports.js';
import { localServer } from '../../../helpers/proxies.js';
import { spawnVproxy, TAKING_CONTROL } from '../../../helpers/vproxy-process.js';
import { anywhere, atTcpListener, doctor, doctorWithoutRights, finds } from './case.js';
import { listening, staleSocket } from './sockets.js';

const outgoing = (t: ExecutionContext, text: string, machine = fakeMachine(t)) =>
  checkForward(machine, parseForwardSpec('outgoing', text));

const incoming = (t: ExecutionContext, text: string, machine = fakeMachine(t)) =>
  checkForward(machine, parseForwardSpec('incoming', text));

/** A file in a folder of its own. */
function file(t: ExecutionContext, mode = 0o600): string {
  const path = join(temporaryFolder(t), 'file');
  writeFileSync(path, '', { mode });
  return path;
}

const NGINX = /^process \d+ \(nginx/;

export const LISTENER_CASES = [
  finds('listen-free', 'the system picks the port', (t) => outgoing(t, 'ssh:127.0.0.1:0')),
  finds('listen-free', 'the address is any of 127.0.0.0/8', async (t) => {
    const host = '127.7.7.7';
    return outgoing(t, `ssh:${host}:${await freePort(host)}`);
  }),
  finds('listen-free', 'there is no such socket yet', (t) => outgoing(t, `ssh:${temporaryFolder(t)}/s`)),
  finds('listen-free', 'a hybrid vsock is offered', (t) => outgoing(t, `*:vsock-mux:${temporaryFolder(t)}/s`)),
  finds('listen-free', 'the address is any of this machine', async (t) => {
    const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
    const own = all.filter(({ scopeid }) => (scopeid ?? 0) === 0);
    const look = async (address: string, host = address) => outgoing(t, `x:${host}:${await freePort(address)}`);
    const found = own.map(({ address, family }) => look(address, family === 'IPv6' ? `[${address}]` : address));
    const findings = (await Promise.all(found)).flat();
    t.true(findings.every(({ id }) => id === 'listen-free'));
    return findings;
  }),
  finds('listen-stale', 'a killed process left its socket behind', async (t) =>
    outgoing(t, `ssh:${await staleSocket(t)}`),
  ),
  atTcpListener('address-in-use', 'another process has the port, and is named', NGINX, async (t) => {
    const { port } = await pretend(t, { program: 'nginx', listenTcp: true });
    return outgoing(t, `web:127.0.0.1:${port}`);
  }),
  anywhere('address-in-use', 'another process has the socket, and is named', NGINX, async (t) =>
    outgoing(t, `web:${await listening(t, 'nginx')}`),
  ),
  atTcpListener('address-in-use', 'the port of --metrics is taken', async (t) => {
    const { port } = await localServer(t, () => undefined);
    return doctor(t, ['-c', 'stdio:', '--metrics', `127.0.0.1:${port}`]);
  }),
  anywhere('address-in-use', 'a file is in the way', (t) => outgoing(t, `web:${file(t)}`)),
  atTcpListener('address-unavailable', 'the address is of another machine', (t) => outgoing(t, 'web:192.0.2.1:8080')),
  atTcpListener('address-denied', 'the port is reserved for root', (t) => {
    const files = { 'proc/sys/net/ipv4/ip_unprivileged_port_start': '1024\n' };
    return outgoing(t, 'web:127.0.0.1:80', fakeMachineWithProc(t, { files, userId: 1234 }));
  }),
  finds(
    'held-by-vproxy',
    'a running vproxy has the channel, its forward and its control socket',
    /vproxy host1 \(process \d+\) has it as channel vm1\nvproxy host1 .* listens there\nvproxy host1 .* listens there/,
    async (t) => {
      const folder = temporaryFolder(t);
      const args = ['-c', `vm1=unix-listen:${folder}/c`, '-o', `ssh:${folder}/o`, '--control', `${folder}/control`];
      await spawnVproxy(t, [...args, '--name', 'host1']).waitForLine(TAKING_CONTROL);
      return doctor(t, [...args, '--socket', `${folder}/control`]);
    },
  ),
  finds(
    'channel-unused',
    'no vproxy has the channel, so nobody has asked the peer',
    /the peer answers is not known/,
    (t) => doctor(t, ['-c', `unix-listen:${temporaryFolder(t)}/c`]),
  ),
  finds('folder-denied', 'this user cannot create a socket in the folder', /mode 0500/, (t) => {
    const folder = join(temporaryFolder(t), 'closed');
    mkdirSync(folder, { mode: 0o500 });
    return doctorWithoutRights(t, '-c', `unix-listen:${folder}/s`);
  }),
  finds('file-denied', 'this user cannot write the file of a target', (t) =>
    doctorWithoutRights(t, '-c', 'stdio:', '-i', `log:file:${file(t, 0o400)}`),
  ),
  finds(
    'ssh-socket',
    'nothing listens on the port of sshd',
    { remedy: /^-i ssh:\/run\/ssh-unix-local\/socket$/ },
    async (t) => {
      const files = { 'proc/net/unix': 'Num\n0: 2 0 00010000 0001 01 1 /run/ssh-unix-local/socket\n' };
      const port = await freePort();
      t.is((await incoming(t, `ssh:127.0.0.1:${port}`)).length, 1);
      t.is((await incoming(t, `web:127.0.0.1:${port}`, fakeMachineWithProc(t, { files }))).length, 1);
      return incoming(t, `ssh:127.0.0.1:${port}`, fakeMachineWithProc(t, { files }));
    },
  ),
  finds('file-not', 'a folder is where a file should be', (t) => incoming(t, `log:file:${temporaryFolder(t)}`)),
  finds('file-writable', 'it can be created', (t) => incoming(t, `log:file:${temporaryFolder(t)}/log`)),
  finds('command-missing', 'there is no such program', (t) => incoming(t, 'run:exec:no-such-program -x')),
  finds('command-found', 'it is in PATH', /^sh is \//, (t) => incoming(t, 'run:exec:sh -c true')),
  finds('not-checked', 'a command is more than plain words', (t) => incoming(t, 'run:exec:(a; b)')),
  finds('not-checked', 'a channel is inherited', (t) => doctor(t, ['-c', 'stdio:'])),
  finds(
    'connect-refused',
    'nothing listens at a target',
    { remedy: /^start the program that listens there/ },
    async (t) => incoming(t, `web:127.0.0.1:${await freePort()}`),
  ),
  finds('connect-failed', 'a target is not a socket', { remedy: /^use the path of a stream socket/ }, (t) =>
    incoming(t, `web:unix:${file(t)}`),
  ),
  finds('socket-listens', 'it is the target of a forward', async (t) =>
    incoming(t, `log:${await listening(t, 'syslogd')}`),
  ),
];
