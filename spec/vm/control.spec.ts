/** Both sides controlled while they run: started without a forward; commands do everything else, in the guest too. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import type { ForwardStatus, SessionHistory, StreamWithRates } from '../../lib/status/types.js';
import { PROJECT_ROOT, sha256 } from '../helpers/files.js';
import { readToEnd } from '../helpers/proxies.js';
import { eventually, within } from '../helpers/time.js';
import { runPiped, runVproxy } from '../helpers/vproxy-process.js';
import { GUEST_PORTS } from './rig/guest-ports.js';
import { HostSide } from './rig/host-side.js';
import { GUEST_VPROXY } from './rig/initramfs.js';
import { PatternChecker } from './rig/pattern.js';
import { ssh } from './rig/ssh.js';
import { useLaboratory } from './rig/use-laboratory.js';

const controlIn = (folder: string) => join(folder, 'control.sock');

const laboratory = useLaboratory(test, {
  host: ({ channelPath, folder }) =>
    HostSide.start(`unix-connect:${channelPath}`, ['--control', controlIn(folder)], { hasForwards: false }),
  hasGuestForwards: false,
});

const TEST_MS = 120_000;
const COMMAND_MS = 60_000;
const ECHO_BYTES = 4 << 20;
const FILE_BYTES = 64 << 20;

test.serial('a forward is added in the guest and on the host during a session, and bytes pass', async (t) => {
  t.timeout(TEST_MS);
  t.is(await onHost(t, 'forwards'), 'There are no forwards.');
  const waiting = runPiped(t, ['wait', '--service', 'echo', '--timeout', '60', '--socket', hostSocket()], {});
  t.is(
    await inGuest('forward', 'add', '-i', `echo:127.0.0.1:${GUEST_PORTS.echo}`),
    `f1: offers echo at 127.0.0.1:${GUEST_PORTS.echo} to default`,
  );
  t.deepEqual(await waiting.ended, { code: 0, stderr: '' });
  const port = await addOnHost(t, 'echo');
  const sent = randomBytes(ECHO_BYTES);
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const echoed = readToEnd(socket);
  socket.end(sent);
  t.is(sha256(await within(COMMAND_MS, 'the echo of a file', echoed)), sha256(sent));
});

test.serial('both sides show the same stream', async (t) => {
  t.timeout(TEST_MS);
  const socket = connect(await laboratory().port('echo'), '127.0.0.1');
  t.teardown(() => socket.destroy());
  socket.write('hello');
  await within(COMMAND_MS, 'an echo', once(socket, 'data'));
  const [ofHost, ofGuest] = await Promise.all([
    onHost(t, 'streams', '--json').then(parseStreams),
    inGuest('streams', '--json').then(parseStreams),
  ]);
  t.is(ofHost.length, 1);
  const facts = { id: ofHost[0]?.id, channel: 'default', service: 'echo', sentBytes: 5, receivedBytes: 5 };
  t.like(ofHost, [{ ...facts, direction: 'outgoing' }]);
  t.like(ofGuest, [{ ...facts, direction: 'incoming' }]);
  socket.end();
  await eventually(async () => (await onHost(t, 'streams')) === 'There are no streams.');
  t.is(await inGuest('streams'), 'There are no streams.');
});

test.serial('a ping comes back from either side, and the events of both tell what was done', async (t) => {
  t.timeout(TEST_MS);
  const [hostPing, guestPing, hostEvents, guestEvents] = await Promise.all([
    onHost(t, 'ping', '-c', '2', '-i', '0'),
    inGuest('ping', '-c', '2', '-i', '0'),
    onHost(t, 'events', '--no-follow', '--json'),
    inGuest('events', '--no-follow', '--json'),
  ]);
  for (const ping of [hostPing, guestPing]) t.regex(ping, /\n2 sent, 2 answered, 0% lost, /);
  t.is(countOf(hostEvents, 'session-established'), 1);
  t.is(countOf(guestEvents, 'session-established'), 1);
  t.is(countOf(hostEvents, 'listening'), 1);
  for (const events of [hostEvents, guestEvents]) {
    t.is(countOf(events, 'stream-opened'), 2);
    t.is(countOf(events, 'stream-closed'), 2);
  }
});

test.serial('ssh reaches the guest through vproxy connect, without a port on the host', async (t) => {
  t.timeout(TEST_MS);
  await inGuest('forward', 'add', '-i', `ssh:127.0.0.1:${GUEST_PORTS.ssh}`);
  const vproxy = `${process.execPath} ${join(PROJECT_ROOT, 'dist/program/vproxy.cjs')}`;
  const way = { proxyCommand: `${vproxy} connect ssh --socket ${hostSocket()}` };
  const file = randomBytes(ECHO_BYTES);
  const result = await ssh(laboratory().guest, way, 'uname -n; sha256sum; exit 7', file);
  t.is(result.stdout.toString(), `guest\n${sha256(file)}  -\n`);
  t.is(result.status, 7, result.stderr);
  t.false((await onHost(t, 'forwards', '--json')).includes('ssh'));
});

test.serial('a forward that is removed in the midst of a transfer lets it finish, on either side', async (t) => {
  t.timeout(TEST_MS);
  await inGuest('forward', 'add', '-i', `source:127.0.0.1:${GUEST_PORTS.source}`);
  await onHost(t, 'wait', '--service', 'source');
  const port = await addOnHost(t, 'source');
  const { host, guestVproxy } = laboratory();
  const socket = connect(port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  socket.write(`${FILE_BYTES}\n`);
  // What is not read is not sent: the transfer is stopped until both forwards are being removed.
  await within(COMMAND_MS, 'the first bytes', once(socket, 'readable'));
  const isDraining = (forwards: string) => stateOf(forwards, 'source') === 'draining';
  const removedThere = inGuest('forward', 'remove', 'source');
  await eventually(async () => isDraining(await inGuest('forwards', '--json')), { timeoutMs: COMMAND_MS });
  const removedHere = onHost(t, 'forward', 'remove', 'source');
  await eventually(async () => isDraining(await onHost(t, 'forwards', '--json')));
  await t.throwsAsync(once(connect(port, '127.0.0.1'), 'connect'), { code: 'ECONNREFUSED' });
  const checker = new PatternChecker();
  for await (const chunk of socket as AsyncIterable<Buffer>) checker.push(chunk);
  t.deepEqual([checker.bytes, checker.wrongAt], [FILE_BYTES, null]);
  t.deepEqual(await Promise.all([removedHere, removedThere]), ['', '']);
  for (const forwards of [await onHost(t, 'forwards', '--json'), await inGuest('forwards', '--json')]) {
    t.is(stateOf(forwards, 'source'), undefined);
    t.is(stateOf(forwards, 'echo'), 'active');
  }
  for (const log of [host.lines.join('\n'), await guestVproxy.log()])
    t.notRegex(log, /error|warning: (?!every user of this machine)/);
});

test.serial('after all that, both processes still have their first session, and work', async (t) => {
  t.timeout(TEST_MS);
  const { host, guestVproxy } = laboratory();
  const statuses = await Promise.all([onHost(t, 'status', '--json'), inGuest('status', '--json')]);
  const parsed = statuses.map(
    (text) => JSON.parse(text) as { process: { pid: number }; channels: { state: string; history: SessionHistory }[] },
  );
  t.deepEqual(
    parsed.map(({ process }) => process.pid),
    [host.pid, guestVproxy.pid],
  );
  for (const { channels } of parsed) t.like(channels, [{ state: 'established', history: { sessions: 1, recent: [] } }]);
  const socket = connect(await laboratory().port('echo'), '127.0.0.1');
  t.teardown(() => socket.destroy());
  socket.write('still here');
  const [echo] = (await within(COMMAND_MS, 'an echo', once(socket, 'data'))) as [Buffer];
  t.is(echo.toString(), 'still here');
});

const hostSocket = (): string => controlIn(laboratory().guest.folder);

/**
 * The output of a command that controls the host's vproxy, without the newline at its end; fails `t` where it failed.
 */
async function onHost(t: ExecutionContext, ...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runVproxy([...words, '--socket', hostSocket()]);
  t.deepEqual([code, stderr], [0, ''], words.join(' '));
  return stdout.trimEnd();
}

/** The output of a command in the guest; it finds the process by itself. Rejects where it failed. */
function inGuest(...words: readonly string[]): Promise<string> {
  return laboratory().guest.agent.output(['node', GUEST_VPROXY, ...words].join(' '), { timeoutMs: COMMAND_MS });
}

/** Adds an outgoing forward on the host, and gives its port. */
async function addOnHost(t: ExecutionContext, service: string): Promise<number> {
  const added = await onHost(t, 'forward', 'add', '-o', `${service}:127.0.0.1:0`);
  return Number(/127\.0\.0\.1:(\d+)/.exec(added)?.[1]);
}

const parseStreams = (text: string): StreamWithRates[] => JSON.parse(text) as StreamWithRates[];

const stateOf = (forwards: string, service: string): string | undefined =>
  (JSON.parse(forwards) as ForwardStatus[]).find((forward) => forward.service === service)?.state;

/** The number of times that something happened, by lines of `events --json`. */
function countOf(events: string, name: string): number {
  return events.split('\n').filter((line) => (JSON.parse(line) as { event: string }).event === name).length;
}
