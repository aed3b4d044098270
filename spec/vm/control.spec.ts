/**
 * Both sides controlled while they run: started without a forward; commands do everything else, in the guest too, also where
 * datagrams and a log go.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import type { ForwardStatus, SessionHistory, StreamWithRates } from '../../lib/status/types.js';
import { PROJECT_ROOT, sha256 } from '../helpers/files.js';
import { readToEnd } from '../helpers/proxies.js';
import { eventually, within } from '../helpers/time.js';
import { UdpProgram } from '../helpers/udp.js';
import { runPiped, runVproxy } from '../helpers/vproxy-process.js';
import { GUEST_PORTS } from './rig/guest-ports.js';
import { HostSide } from './rig/host-side.js';
import { GUEST_VPROXY } from './rig/initramfs.js';
import { PatternChecker } from './rig/pattern.js';
import { ssh } from './rig/ssh.js';
import { useLaboratory } from './rig/use-guest.js';

const controlIn = (folder: string) => join(folder, 'control.sock');

const laboratory = useLaboratory(test, {
  host: ({ channelPath, folder }) =>
    HostSide.start(`unix-connect:${channelPath}`, ['--control', controlIn(folder)], { hasForwards: false }),
  hasGuestForwards: false,
});

const TEST_MS = 600_000;
const COMMAND_MS = 120_000;
const ECHO_BYTES = 1 << 20;
const FILE_BYTES = 16 << 20;
const SYSLOG_PORT = 514;
const LOG_PORT = 601;
const QUESTIONS_PORT = 5300;
const DATAGRAMS = 100;
const LINES = 30_000;

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

test.serial('what the guest logs with busybox’s syslogd arrives at a collector on the host', async (t) => {
  t.timeout(TEST_MS);
  const { agent } = laboratory().guest;
  const collector = await UdpProgram.open(t);
  await onHost(t, 'forward', 'add', '-i', `syslog:udp:127.0.0.1:${collector.port}`);
  await inGuest('forward', 'add', '-o', `syslog:udp:127.0.0.1:${SYSLOG_PORT}`);
  const syslogd = await agent.spawn(['busybox', 'syslogd', '-n', '-R', `127.0.0.1:${SYSLOG_PORT}`, '-O', '/tmp/log']);
  t.teardown(() => syslogd.kill('KILL'));
  await agent.output('until test -S /dev/log; do sleep 0.1; done', { timeoutMs: COMMAND_MS });
  // Slowly enough that no queue on the way is full.
  const write = `i=0; while [ $i -lt ${DATAGRAMS} ]; do i=$((i+1)); busybox logger -t spec "line $i of a guest"; done`;
  await agent.output(write, { timeoutMs: COMMAND_MS });
  const last = new RegExp(`line ${DATAGRAMS} of a guest$`, 'm');
  await eventually(() => collector.texts.some((text) => last.test(text)), { what: 'the last line' });
  const numbers = collector.texts.flatMap((text) => /^<13>.* spec: line (\d+) of a guest\n?$/.exec(text)?.[1] ?? []);
  t.deepEqual(
    numbers.map(Number),
    Array.from({ length: DATAGRAMS }, (_, index) => index + 1),
  );
  t.is(new Set(collector.messages.map(({ port }) => port)).size, 1, 'they are one flow');
});

test.serial('a program of the host asks one of the guest, and each gets its own answers', async (t) => {
  t.timeout(TEST_MS);
  await inGuest('forward', 'add', '-i', `questions:udp:127.0.0.1:${QUESTIONS_PORT}`);
  const script = `const s=require('dgram').createSocket('udp4');s.on('message',(m,f)=>s.send(m,f.port,f.address));s.bind(${QUESTIONS_PORT},'127.0.0.1')`;
  const echo = await laboratory().guest.agent.spawn(['node', '-e', script]);
  t.teardown(() => echo.kill('KILL'));
  const added = await onHost(t, 'forward', 'add', '-o', 'questions:udp:127.0.0.1:0');
  const port = Number(/127\.0\.0\.1:(\d+)/.exec(added)?.[1]);
  const clients = await Promise.all([UdpProgram.open(t), UdpProgram.open(t)]);
  for (const [index, client] of clients.entries()) {
    // Until the program in the guest is there, questions are lost.
    const isAnswered = (): boolean => {
      client.send(`hello ${index}`, port);
      return client.messages.length > 0;
    };
    await eventually(isAnswered, { intervalMs: 200, timeoutMs: COMMAND_MS, what: 'the first answer' });
    client.send(Buffer.alloc(65_507, index), port);
    await eventually(() => client.messages.some(({ bytes }) => bytes.length === 65_507), { what: 'a large answer' });
    t.true(client.messages.every(({ bytes }) => bytes.length === 65_507 || bytes.toString() === `hello ${index}`));
  }
});

test.serial(`${LINES} lines of syslog arrive in the file on the host, complete and in order`, async (t) => {
  t.timeout(TEST_MS);
  const { agent, folder } = laboratory().guest;
  const log = join(folder, 'vm1.log');
  await onHost(t, 'forward', 'add', '-i', `log:file:${log},rotate=1M,keep=9`);
  await inGuest('forward', 'add', '-o', `log:127.0.0.1:${LOG_PORT}`);
  // A line as RFC 3164 has it, which ends with a line feed on TCP.
  const format = `printf "<134>Nov 20 09:00:00 guest test[%d]: line %06d of a guest\\n", 1, i`;
  const write = `awk 'BEGIN { for (i = 1; i <= ${LINES}; i++) ${format} }'`;
  await agent.output(`${write} | nc 127.0.0.1 ${LOG_PORT}`, { timeoutMs: COMMAND_MS });
  const lastLine = String(LINES).padStart(6, '0');
  await eventually(() => readFileSync(log, 'utf8').includes(lastLine), { what: 'the last line' });
  const files = [9, 8, 7, 6, 5, 4, 3, 2, 1].map((number) => `${log}.${number}`).filter(existsSync);
  t.true(files.length > 0, 'nothing was rotated');
  const lines = [...files, log].flatMap((file) => readFileSync(file, 'utf8').split('\n').slice(0, -1));
  const numbers = lines.map((line) => /^<134>Nov 20 09:00:00 guest test\[1\]: line (\d+) of a guest$/.exec(line)?.[1]);
  t.is(numbers.length, LINES);
  t.is(
    numbers.findIndex((number, index) => Number(number) !== index + 1),
    -1,
  );
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
