/** The rig itself, without vproxy: the other VM tests rely on what is shown here. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Readable } from 'node:stream';

import test from 'ava';
import { sha256 } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';
import { PORT_PATH } from './rig/guest.js';
import { GUEST_RIG } from './rig/initramfs.js';
import { useGuest } from './rig/use-guest.js';

const PAYLOAD_BYTES = 1 << 20;
const guest = useGuest(test);

test.serial('the agent runs commands and tells their output and status apart', async (t) => {
  t.regex(await guest().agent.output('uname -a'), /^Linux guest /);
  t.is(await guest().agent.output('node --version'), process.version);
  t.deepEqual(await guest().agent.run('printf out; printf err >&2; exit 7'), {
    stdout: 'out',
    stderr: 'err',
    status: 7,
  });
  await t.throwsAsync(guest().agent.run('sleep 100', { timeoutMs: 100 }), { message: /took longer than 100 ms/ });
});

test.serial('several commands run at once', async (t) => {
  const first = guest().agent.output('until [ -e /tmp/second ]; do usleep 10000; done; echo first');
  t.is(await guest().agent.output('touch /tmp/second; echo second'), 'second');
  t.is(await first, 'first');
});

test.serial('a program runs in the background until it is killed, and its log can be read', async (t) => {
  const job = await guest().agent.spawn(['sh', '-c', 'echo started; exec sleep 1000']);
  await eventually(async () => (await job.log()) === 'started');
  await job.kill('TERM');
  t.is(await job.waitForEnd(), 128 + 15);
});

test.serial('init starts the agent again when it dies', async (t) => {
  const again = guest().agent.waitForHello(20_000);
  await t.throwsAsync(guest().agent.run('kill -KILL $PPID'), { message: /started anew/ });
  await again;
  t.is(await guest().agent.output('echo back'), 'back');
});

test.serial('bytes pass through the port under test, and come back unchanged', async (t) => {
  await guest().agent.output(`test -c ${PORT_PATH}`);
  const job = await guest().agent.spawn(['node', `${GUEST_RIG}/raw-echo.js`, PORT_PATH]);
  t.teardown(() => job.kill('KILL').catch(() => undefined));
  const payload = randomBytes(PAYLOAD_BYTES);
  t.is(await echoThroughPort(payload), sha256(payload));
});

test.serial('a snapshot brings the whole machine back, and the host keeps its connections', async (t) => {
  await guest().agent.output('echo before > /tmp/state');
  await guest().saveSnapshot('one');
  await guest().agent.output('echo after > /tmp/state');
  await guest().loadSnapshot('one');
  t.is(await guest().agent.output('cat /tmp/state'), 'before');
});

test.serial('a paused machine does nothing, and goes on where it was', async (t) => {
  await guest().pause();
  const answer = guest().agent.output('echo awake');
  t.like(await guest().qmp.execute('query-status'), { status: 'paused', running: false });
  await guest().resume();
  t.is(await answer, 'awake');
});

test.serial('after a reset, and after a reboot from inside, the guest comes up by itself', async (t) => {
  const bootId = () => guest().agent.output('cat /proc/sys/kernel/random/boot_id');
  const first = await bootId();
  await guest().reset();
  const second = await bootId();
  t.not(second, first);
  const up = guest().agent.waitForHello(90_000);
  await guest()
    .agent.spawn(['reboot', '-f'])
    .catch(() => undefined);
  await up;
  t.not(await bootId(), second);
  await guest().agent.output(`test -c ${PORT_PATH}`);
});

/**
 * Sends bytes to the port from the host while reading it, and returns the SHA-256 of the same number of bytes that came
 * back.
 */
async function echoThroughPort(payload: Buffer): Promise<string> {
  const socket = connect(guest().channelPath);
  await once(socket, 'connect');
  socket.write(payload);
  const received: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of socket as Readable as AsyncIterable<Buffer>) {
    received.push(chunk);
    bytes += chunk.length;
    if (bytes >= payload.length) break;
  }
  return sha256(Buffer.concat(received));
}
