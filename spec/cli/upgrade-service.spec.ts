/** `vproxy upgrade` in a service: the successor is a child of the service manager, which is told of it. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connectControl } from '../../lib/control/client/client.js';
import { openDatagramManager } from '../helpers/datagram-manager.js';
import { temporaryFolder } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';
import { runUpgrade, upgrade } from '../helpers/upgrades.js';
import { isRunning, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

/** A process that a service manager has started; and programs that are no successors. */
async function makeService(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const socket = join(folder, 'control.sock');
  const manager = await openDatagramManager(t);
  const program = (text: string, name = 'program'): string => {
    const path = join(folder, name);
    writeFileSync(path, `#!/bin/sh\n${text}\n`);
    chmodSync(path, 0o755);
    return path;
  };
  // What is told in plain words is not what this is about.
  program('', 'systemd-notify');
  const PATH = `${folder}:${process.env['PATH'] ?? ''}`;
  const env = { PATH, NOTIFY_SOCKET: manager.address, WATCHDOG_USEC: '0', JOURNAL_STREAM: '' };
  const vproxy = spawnVproxy(t, ['-c', `unix-listen:${folder}/channel.sock`, '--control', socket], { env });
  await vproxy.waitForLine(TAKING_CONTROL);
  const mainProcesses = () =>
    manager
      .receive()
      .flatMap(({ facts }) => facts)
      .filter((fact) => fact.startsWith('MAINPID='));
  return { vproxy, socket, mainProcesses, program, file: (name: string) => join(folder, name) };
}

test('the service manager is told of the successor, which has what its predecessor wrote to', async (t) => {
  const { vproxy, socket, mainProcesses } = await makeService(t);
  const { pid } = await upgrade(t, socket);
  t.deepEqual(mainProcesses(), [`MAINPID=${pid}`]);
  t.true(isRunning(pid));
  t.is((await connectControl(socket).status()).process.pid, pid);
  await vproxy.waitForLine(/handed over/);
  const second = await upgrade(t, socket);
  t.deepEqual(mainProcesses(), [`MAINPID=${second.pid}`]);
});

test('the successor is no child of its predecessor; one that ends is told of, and nothing of the service is changed', async (t) => {
  const { vproxy, socket, mainProcesses, program, file } = await makeService(t);
  const { code, stderr } = await runUpgrade(socket, ['--program', program(`echo $PPID > ${file('parent')}; exit 3`)]);
  t.is(code, 1);
  t.regex(stderr, /the successor, \S+, ended$/m);
  const parent = Number(readFileSync(file('parent'), 'utf8'));
  t.true(parent > 0);
  t.not(parent, vproxy.pid);
  t.deepEqual(mainProcesses(), []);
  t.is((await connectControl(socket).status()).process.pid, vproxy.pid);
});

test('a successor that does not answer is ended', async (t) => {
  const { socket, program, file } = await makeService(t);
  const { code, stderr } = await runUpgrade(socket, [
    '--program',
    program(`echo $$ > ${file('pid')}; exec sleep 1000`),
  ]);
  t.is(code, 1);
  t.regex(stderr, /the successor, \S+, did not answer within 30 s/);
  const pid = Number(readFileSync(file('pid'), 'utf8'));
  await eventually(() => !isRunning(pid), { what: 'the end of the program' });
});
