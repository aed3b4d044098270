/** Failing streams beside others: refused, hung, reset, never read, by the thousand, all in one pair of processes. */
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { openDescriptors } from '../helpers/measures.js';
import { freePort, hangingPort } from '../helpers/ports.js';
import { type ProcessPair, processPair } from '../helpers/process-pair.js';
import {
  answerTo,
  ask,
  echo,
  endsInOrder,
  failureOf,
  forwardOf,
  localServer,
  localSocket,
  readToEnd,
  startProxy,
} from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { ENDED } from '../helpers/vproxy-process.js';

/** More than the system and a stream's window take while the reader does not read. */
const UNREAD_BYTES = 600_000;
const UNREAD = 1000;
const UNREAD_AT_ONCE = 100;

const CONNECTIONS = 5000;
/** Connections at once: more than the backlog holds would only wait for each other. */
const CONNECTIONS_AT_ONCE = 500;

const MAX_WAITING = 1024;
/** A part of it that fits into the backlog. */
const ACCEPTED_AT_ONCE = 256;
/** Another address than that of other specs, whose programs may still ask for whoever had this port before. */
const UNUSED = '127.9.9.9';

/** What the log takes of one event at once, and then in each second. */
const BURST_BYTES = 24_576;
const BYTES_PER_SECOND = 2048;

const undo: (() => unknown)[] = [];
const unread: net.Socket[] = [];
let pair: ProcessPair;

test.before(async (t) => {
  const shared = { teardown: (act: () => unknown) => void undo.push(act) } as ExecutionContext;
  const path = join(temporaryFolder(shared), 'deaf.sock');
  await localServer(shared, (socket) => void unread.push(socket.pause()), { path });
  const target = await localServer(shared, echo);
  const services = {
    ...{ echo: target.port, deaf: path, refuses: await freePort() },
    hangs: await hangingPort(shared),
  };
  pair = await processPair(shared, {
    host: Object.keys(services).flatMap((service) => ['-o', `${service}:0`]),
    guest: Object.entries(services).flatMap(([service, at]) => ['-i', `${service}:${at}`]),
  });
  t.pass();
});

test.after.always(async () => {
  for (const act of undo.reverse()) await act();
});

const dial = async (t: ExecutionContext, service: string): Promise<net.Socket> =>
  localSocket(t, await pair.host.listeningPort(service));

async function assertServes(t: ExecutionContext, text = 'meanwhile'): Promise<void> {
  t.true((await ask(t, await pair.host.listeningPort('echo'), text)) === text);
}

const linesFrom = (from: readonly number[]) =>
  [pair.host, pair.guest].map(({ lines }, side) => lines.slice(from[side]));

const lineCounts = () => [pair.host.lines.length, pair.guest.lines.length];

/** Asserts that the lines of one event since then are no more than the limit of the log lets through (lib/proxy/channel/log-limit.ts). */
function assertLimited(t: ExecutionContext, lines: readonly string[], sinceMs: number): void {
  const bytes = lines.reduce((sum, line) => sum + Buffer.byteLength(line) + 1, 0);
  const mostBytes = BURST_BYTES + (BYTES_PER_SECOND * (performance.now() - sinceMs)) / 1000;
  t.true(bytes <= mostBytes, `${lines.length} lines, ${bytes} bytes, of ${Math.round(mostBytes)}`);
}

test.serial('1,000 refused streams are at most a few hundred lines in each log, and all are counted', async (t) => {
  const from = lineCounts();
  const sinceMs = performance.now();
  t.is((await failureOf(await dial(t, 'refuses'))).code, 'ECONNRESET');
  for (const side of [pair.host, pair.guest]) t.truthy(await side.waitForLine(/ECONNREFUSED.*\(connect-refused\)/));
  const refused = 1000;
  await Promise.all(Array.from({ length: refused - 1 }, async () => failureOf(await dial(t, 'refuses'))));
  for (const side of [0, 1]) {
    const told = await eventually(() => {
      const lines = linesFrom(from)[side] ?? [];
      const leftOut = lines.map((line) => Number(/(\d+) more \S+ lines? suppressed/.exec(line)?.[1] ?? 0));
      const shown = lines.filter((line) => line.includes('(connect-refused)'));
      return leftOut.reduce((sum, count) => sum + count, shown.length) === refused && shown;
    });
    t.true(told.length >= 10, `${told.length}`);
    assertLimited(t, told, sinceMs);
  }
});

test.serial('a target that hangs times out, holds up no other stream, and leaves nothing behind', async (t) => {
  const before = openDescriptors(pair.guest.pid);
  const [patient, impatient] = [await dial(t, 'hangs'), await dial(t, 'hangs')];
  const failure = failureOf(patient);
  patient.write('hello');
  impatient.write('hello');
  await eventually(() => openDescriptors(pair.guest.pid) === before + 2, { what: 'two dials' });
  impatient.resetAndDestroy();
  await eventually(() => openDescriptors(pair.guest.pid) === before + 1, { what: 'the end of one dial' });
  await assertServes(t);
  t.is((await failure).code, 'ECONNRESET');
  await pair.host.waitForLine(/did not answer within 10 s \(connect-timeout\)/);
  await eventually(() => openDescriptors(pair.guest.pid) === before);
});

test.serial('after 5,000 connections dropped at once a new one works, and all descriptors are free', async (t) => {
  await assertServes(t);
  const sides = [pair.host, pair.guest];
  const before = sides.map(({ pid }) => openDescriptors(pid));
  const from = lineCounts();
  const sinceMs = performance.now();
  const address = { host: '127.0.0.1', port: await pair.host.listeningPort('echo') };
  const openAndDrop = async (index: number) => {
    const socket = net.connect(address).on('error', () => undefined);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.once('connect', () => {
      if (index % 3 === 0) socket.write('x');
      if (index % 2 === 0) socket.resetAndDestroy();
      else socket.destroy();
    });
    await closed;
  };
  let next = 0;
  const openInTurn = async () => {
    while (next < CONNECTIONS) await openAndDrop(next++);
  };
  await Promise.all(Array.from({ length: CONNECTIONS_AT_ONCE }, openInTurn));
  await assertServes(t);
  await eventually(() => sides.every(({ pid }, index) => openDescriptors(pid) <= (before[index] ?? 0)), {
    ...{ what: 'the descriptors', timeoutMs: 30_000 },
  });
  for (const lines of linesFrom(from))
    for (const event of [/: stream \d+ to /, /: a connection to /])
      assertLimited(
        t,
        lines.filter((line) => event.test(line)),
        sinceMs,
      );
});

test.serial('1,000 unread streams hold up no keystroke of another, and lose nothing', async (t) => {
  t.timeout(120_000);
  const from = lineCounts();
  const bytes = Buffer.alloc(UNREAD_BYTES, 'unread');
  while (unread.length < UNREAD) {
    const wanted = unread.length + UNREAD_AT_ONCE;
    for (let count = 0; count < UNREAD_AT_ONCE; count += 1) (await dial(t, 'deaf')).end(bytes);
    await eventually(() => unread.length === wanted, { what: `${wanted} streams`, timeoutMs: 30_000 });
  }
  const typing = await dial(t, 'echo');
  for (let turn = 0; turn < 20; turn += 1) t.is(await answerTo(typing, `${turn}`), `${turn}`);
  await Promise.all(Array.from({ length: 10 }, () => assertServes(t, 'b'.repeat(200_000))));
  // Node reads one buffer of a socket before anything asks for it.
  t.true(unread.every((socket) => socket.bytesRead === socket.readableLength && !socket.destroyed));
  const first = unread[0] as net.Socket;
  const whole = readToEnd(first);
  first.resume();
  t.true((await whole).equals(bytes));
  t.false(
    linesFrom(from)
      .flat()
      .some((line) => / was reset|ended/.test(line)),
  );
});

test.serial('all of that was one session', (t) => {
  for (const { lines } of [pair.host, pair.guest]) t.false(lines.some((line) => ENDED.test(line)));
});

test('the 1,025th local connection that waits for a session is reset, and the others are served', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const target = await localServer(t, echo);
  const host = await startProxy(t, `unix-listen:${path}`, { outgoing: [`echo:${UNUSED}:0`], waitMs: 60_000 });
  const dialHere = () => localSocket(t, { host: UNUSED, port: host.port('echo') });
  const waiting: net.Socket[] = [];
  while (waiting.length < MAX_WAITING) {
    waiting.push(...Array.from({ length: ACCEPTED_AT_ONCE }, dialHere));
    // A connection beyond the backlog seems connected, and is accepted after later ones.
    await eventually(() => forwardOf(host).streams === waiting.length, { what: 'acceptance' });
  }
  const surplus = Array.from({ length: 6 }, () => failureOf(dialHere()));
  for (const { code } of await Promise.all(surplus)) t.is(code, 'ECONNRESET');
  const refused = host.all('stream-refused');
  t.is(refused.length, surplus.length);
  t.regex(refused[0]?.message ?? '', /1024 connections are already waiting .*\(no-session\)/);
  await startProxy(t, `unix-connect:${path}`, { incoming: [`echo:${target.port}`] });
  for (const isInOrder of await Promise.all(waiting.map(endsInOrder))) t.true(isInOrder);
});
