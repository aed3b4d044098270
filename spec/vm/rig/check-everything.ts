/** Everything that a user does over the channel, once: the check after each event that can disturb it. */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';

import type { ExecutionContext } from 'ava';
import { sha256 } from '../../helpers/files.js';
import { eventually, within } from '../../helpers/time.js';
import { GUEST_PORTS } from './guest-ports.js';
import type { Laboratory } from './laboratory.js';
import { ssh } from './ssh.js';
import { dialAsEmulator, EMULATOR_STATUS, emulatedOutput } from './storage-emulators.js';

const STREAMS = 200;
const WRAPPER = '/usr/sbin/storcli64';

/** Fails `t` unless all of `checkEssentials`, and many streams at once, work. */
export async function checkEverything(t: ExecutionContext, laboratory: Laboratory, fileBytes: number): Promise<void> {
  await checkEssentials(t, laboratory, fileBytes);
  await checkManyStreams(t, laboratory);
}

/** Fails `t` unless storage both ways, ssh with its exit status, and files of `fileBytes` each way, by ssh and by a forward to the host, work. */
export async function checkEssentials(t: ExecutionContext, laboratory: Laboratory, fileBytes: number): Promise<void> {
  await checkShell(t, laboratory);
  await Promise.all([
    checkFiles(t, laboratory, fileBytes),
    checkStorage(t, laboratory),
    checkForwardToHost(t, laboratory, fileBytes),
  ]);
  t.false(laboratory.guest.console.read().includes('WRONG BYTE'), 'a sink in the guest saw a wrong byte');
}

async function checkShell(t: ExecutionContext, laboratory: Laboratory): Promise<void> {
  const port = await laboratory.port('ssh');
  const uname = await ssh(laboratory.guest, port, 'uname -a');
  t.is(uname.status, 0, uname.stderr);
  t.regex(uname.stdout.toString(), /^Linux guest /);
  t.is((await ssh(laboratory.guest, port, 'exit 7')).status, 7);
}

async function checkFiles(t: ExecutionContext, laboratory: Laboratory, fileBytes: number): Promise<void> {
  const { guest } = laboratory;
  const port = await laboratory.port('ssh');
  const file = randomBytes(fileBytes);
  const digest = sha256(file);
  const up = await ssh(guest, port, 'cat > /tmp/file', file);
  t.is(up.status, 0, up.stderr);
  t.is((await guest.agent.output('sha256sum < /tmp/file')).split(' ')[0], digest, 'the file that went up');
  const down = await ssh(guest, port, 'cat /tmp/file');
  t.is(down.status, 0, down.stderr);
  t.is(sha256(down.stdout), digest, 'the file that came down');
  await guest.agent.output('rm /tmp/file');
}

async function checkStorage(t: ExecutionContext, laboratory: Laboratory): Promise<void> {
  const { agent } = laboratory.guest;
  const argv = [WRAPPER, '/c0', 'show'];
  const call = () => agent.run(argv.join(' '), { timeoutMs: 120_000 });
  const answer = (kind: 'listening' | 'dialling') => ({
    stdout: emulatedOutput(kind, argv),
    stderr: 'careful\n',
    status: EMULATOR_STATUS,
  });
  t.deepEqual(await call(), answer('listening'));
  const emulator = await dialAsEmulator(await laboratory.port('storage'));
  try {
    // Until the guest has heard of it, the other one answers.
    const reply = await eventually(async () => {
      const result = await call();
      return result.stdout === answer('listening').stdout ? undefined : result;
    });
    t.deepEqual(reply, answer('dialling'));
  } finally {
    emulator.close();
  }
}

/** The guest sends to the host's echo, half-closes, and compares what comes back. */
async function checkForwardToHost(t: ExecutionContext, { guest }: Laboratory, bytes: number): Promise<void> {
  const send = `nc 127.0.0.1 ${GUEST_PORTS.hostEcho} < /tmp/out | cmp - /tmp/out`;
  const command = `head -c ${bytes} /dev/urandom > /tmp/out && ${send}`;
  const result = await guest.agent.run(command, { timeoutMs: 120_000 });
  t.deepEqual(result, { stdout: '', stderr: '', status: 0 });
}

/** None of the streams ends before all have had their answer. */
async function checkManyStreams(t: ExecutionContext, laboratory: Laboratory): Promise<void> {
  const port = await laboratory.port('echo');
  const sockets = Array.from({ length: STREAMS }, () => connect({ port, host: '127.0.0.1', allowHalfOpen: true }));
  t.teardown(() => sockets.forEach((socket) => socket.destroy()));
  const echoed = await within(120_000, `${STREAMS} echoes`, Promise.all(sockets.map(echoOnce)));
  t.is(echoed.filter((isEqual) => isEqual).length, STREAMS);
  const ends = sockets.map((socket) => new Promise<boolean>((resolve) => socket.once('close', resolve)));
  for (const socket of sockets) socket.end();
  const failures = await within(120_000, `the end of ${STREAMS} streams`, Promise.all(ends));
  t.false(failures.includes(true), 'a stream was reset');
}

function echoOnce(socket: Socket): Promise<boolean> {
  const sent = randomBytes(1024);
  socket.write(sent);
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    socket.once('error', reject);
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length >= sent.length) resolve(received.equals(sent));
    });
  });
}
