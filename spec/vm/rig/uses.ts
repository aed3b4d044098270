/** Everything that a user does over the channel, once: the check after each disturbance. */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';
import { sha256 } from '../../helpers/files.js';
import { eventually, within } from '../../helpers/time.js';
import { GUEST_PORTS } from './guest-ports.js';
import { dialAsEmulator, emulatedReply } from './host-side.js';
import type { Laboratory } from './laboratory.js';
import { ssh } from './ssh.js';

const STREAMS = 50;
const STORAGE_CALL = ['/usr/sbin/storcli64', '/c0', 'show'];
const CALL_MS = 120_000;

const callStorage = ({ guest }: Laboratory) => guest.agent.run(STORAGE_CALL.join(' '), { timeoutMs: CALL_MS });

/** Fails `t` unless a storage call, ssh with its exit status, and files of `bytes` each way by ssh and by a forward work. */
export async function checkEssentials(t: ExecutionContext, both: Laboratory, bytes: number): Promise<void> {
  const checkSsh = async () => {
    const file = randomBytes(bytes);
    const command = 'cat > /tmp/file; sha256sum < /tmp/file >&2; cat /tmp/file; exit 7';
    const { stdout, stderr, status } = await ssh(both.guest, await both.port('ssh'), command, file);
    t.deepEqual([stderr, status], [`${sha256(file)}  -\n`, 7], 'ssh, and the file that went up');
    t.is(sha256(stdout), sha256(file), 'the file that came down');
  };
  // The guest sends to the host's echo, half-closes, and compares the reply.
  const checkForward = async () => {
    const send = `nc 127.0.0.1 ${GUEST_PORTS.hostEcho} < /tmp/out | cmp - /tmp/out`;
    const command = `head -c ${bytes} /dev/urandom > /tmp/out && ${send}`;
    const result = await both.guest.agent.run(command, { timeoutMs: CALL_MS });
    t.deepEqual(result, { stdout: '', stderr: '', status: 0 }, 'a forward to the host');
  };
  const checkStorage = async () => t.deepEqual(await callStorage(both), emulatedReply('listening', STORAGE_CALL));
  await Promise.all([checkSsh(), checkForward(), checkStorage()]);
  t.false(both.guest.readConsole().includes('WRONG BYTE'), 'a sink in the guest saw a wrong byte');
}

/** The same, with an emulator that dials, and many streams, none of which ends before all have got their answer. */
export async function checkEverything(t: ExecutionContext, both: Laboratory, bytes: number): Promise<void> {
  await checkEssentials(t, both, bytes);
  const emulator = await dialAsEmulator(await both.port('storage'));
  const reply = emulatedReply('dialling', STORAGE_CALL);
  // Until the guest knows about it, the other one answers.
  await eventually(async () => (await callStorage(both)).stdout === reply.stdout, { what: 'an emulator that dials' });
  emulator.destroy();

  const port = await both.port('echo');
  const sockets = Array.from({ length: STREAMS }, () => connect({ port, host: '127.0.0.1', allowHalfOpen: true }));
  t.teardown(() => sockets.forEach((socket) => socket.destroy()));
  const echoed = await within(CALL_MS, `${STREAMS} echoes`, Promise.all(sockets.map(echoOnce)));
  t.true(echoed.every((isEqual) => isEqual));
  const ends = sockets.map((socket) => new Promise<boolean>((resolve) => socket.once('close', resolve)));
  for (const socket of sockets) socket.end();
  const failures = await within(CALL_MS, `the end of ${STREAMS} streams`, Promise.all(ends));
  t.false(failures.includes(true), 'a stream was reset');
}

function echoOnce(socket: Socket): Promise<boolean> {
  const sent = randomBytes(1024);
  socket.write(sent);
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    socket.once('error', reject).on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length >= sent.length) resolve(received.equals(sent));
    });
  });
}
