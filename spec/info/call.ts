/** Requests and answers of the service `info`, and the handling of a side that breaks its protocol. */
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { askBoot, askMachine } from '../../lib/services/info/info-call.js';
import { encodeAsk, encodeTime, encodeTold, INFO_KIND } from '../../lib/services/info/info-messages.js';
import { InfoService } from '../../lib/services/info/info-service.js';
import { MachineReader } from '../../lib/services/info/machine-reader.js';
import type { MachineSources } from '../../lib/services/info/this-machine.js';
import { encodeRecord, encodeRecordHeader, RecordReader } from '../../lib/util/bytes/records.js';
import { systemClock } from '../../lib/util/clock.js';
import { duplexPair } from '../helpers/channel-pair.js';
import { describedMachine, SYSTEMD } from '../helpers/machine-sources.js';
import { eventually, ManualClock, within } from '../helpers/time.js';
import { bestTurnMs } from '../helpers/turn-time.js';

const RUNNING = { 'systemctl is-system-running': { stdout: 'running\n' } };

function setUp(t: ExecutionContext, sources: Partial<MachineSources> = {}) {
  const clock = new ManualClock();
  const machine = { ...describedMachine(t, { files: SYSTEMD, tools: RUNNING }), ...sources };
  const service = new InfoService({ clock, sources: machine });
  const open = () => {
    const [near, far] = duplexPair();
    near.on('error', () => undefined);
    service.serve(far);
    t.teardown(() => near.destroy());
    return { near, far };
  };
  t.teardown(() => service.stop());
  return { clock, service, machine, open };
}

const closed = (stream: Duplex) =>
  within(30_000, 'the end of a stream', new Promise<void>((resolve) => stream.once('close', resolve)));

test('the machine is described, with its clock; then both ends of the stream are closed', async (t) => {
  const { open } = setUp(t);
  const { near, far } = open();
  // On this clock nothing times out.
  const machine = await askMachine(near, { clock: new ManualClock() });
  t.like(machine, { hostName: 'transient', boot: { systemd: 'running' }, processors: 2 });
  await eventually(() => near.destroyed && far.destroyed, { what: 'the end of both ends' });
  const { clock } = await askMachine(open().near, { clock: systemClock });
  t.true(Math.abs(clock.offsetMs) <= clock.uncertaintyMs);
});

test('the boot progress can be requested by itself', async (t) => {
  const { open, machine } = setUp(t);
  t.like(await askBoot(open().near, { clock: systemClock }), { systemd: 'running', cloudInit: null });
  t.deepEqual(machine.calls, ['systemctl is-system-running']);
});

test('requests within half a second share one inspection of the machine', async (t) => {
  const { open, machine, clock } = setUp(t);
  const ask = () => askBoot(open().near, { clock: systemClock });
  await Promise.all([ask(), ask(), ask()]);
  clock.advance(499);
  await ask();
  t.is(machine.calls.length, 1);
  clock.advance(1);
  await ask();
  t.is(machine.calls.length, 2);
});

test('a record of an unknown kind is skipped', async (t) => {
  const { open, machine } = setUp(t);
  const { near } = open();
  const ask = encodeAsk('boot');
  ask[0] = 99;
  near.end(Buffer.concat([ask, encodeRecord(INFO_KIND.TIME, '')]));
  t.is((await buffer(near))[0], INFO_KIND.TIME_TOLD);
  t.deepEqual(machine.calls, []);
});

for (const [what, record] of [
  ['the machine', encodeAsk('machine')],
  ['the time', encodeRecord(INFO_KIND.TIME, '')],
  ['an unknown kind', encodeRecord(99, '')],
] as const) {
  test.serial(`a client that requests ${what} in a loop does not block the event loop`, async (t) => {
    const { open } = setUp(t);
    const questions = Buffer.concat(Array.from({ length: Math.floor(65_536 / record.length) }, () => record));
    const longestMs = await bestTurnMs(15, async () => {
      const { near } = open();
      near.resume().end(questions);
      await closed(near);
    });
    t.true(longestMs < 15, `${longestMs} ms`);
  });
}

/** A peer that answers each record of a client with the result of `answer`, if any. */
function peer(t: ExecutionContext, answer: (kind: number, far: Duplex) => Buffer | null): Duplex {
  const [near, far] = duplexPair();
  const reader = new RecordReader({
    pieces: new Set(),
    onPiece: () => undefined,
    onRecord: (kind) => {
      const bytes = answer(kind, far);
      if (bytes !== null) far.write(bytes);
    },
  });
  far.on('data', (bytes: Buffer) => reader.push(bytes)).on('error', () => undefined);
  t.teardown(() => near.destroy());
  return near;
}

test('the clock of the peer is taken at half the round trip of the fastest of five', async (t) => {
  const clock = new ManualClock();
  const told = await new MachineReader(describedMachine(t), systemClock).read();
  const trips = [30, 8, 20, 40, 50];
  let count = 0;
  // This side's time of day stands still; the peer's is 500 ms ahead.
  const near = peer(t, (kind) => {
    if (kind !== INFO_KIND.TIME) return encodeTold('machine', told);
    const tripMs = trips[count] ?? 0;
    count += 1;
    clock.advance(tripMs);
    return encodeTime(1_000_500 + tripMs / 2);
  });
  const asked = await askMachine(near, { clock, timeOfDay: () => 1_000_000 });
  t.deepEqual(asked.clock, { offsetMs: 500, uncertaintyMs: 5, roundTripMs: 8 });
  t.is(count, 5);
});

const BOOT = { systemd: 'running', systemdError: null, failedUnits: [], cloudInit: null, cloudInitError: null };

const HOSTILE: Readonly<Record<string, readonly [Buffer | null, RegExp]>> = {
  'the end of the stream': [null, /ended the stream without an answer/],
  'no JSON': [encodeRecord(INFO_KIND.TOLD, 'running'), /the answer is not a JSON object/],
  'another version': [
    encodeRecord(INFO_KIND.TOLD, '{"version":2,"boot":{}}'),
    /unsupported version of the answer: 2 \(supported: 1\)/,
  ],
  'a version as text': [encodeRecord(INFO_KIND.TOLD, '{"version":"\\u001b[2J"}'), /version of the answer: unknown/],
  'no value': [encodeRecord(INFO_KIND.TOLD, '{"version":1}'), /invalid answer: : Invalid input/],
  'a wrong type': [encodeTold('boot', { ...BOOT, failedUnits: 'a' }), /failedUnits: Invalid input: expected array/],
  'an unknown word': [encodeTold('boot', { ...BOOT, systemd: 'fine' }), /systemd: Invalid/],
  'a text that is too long': [encodeTold('boot', { ...BOOT, systemdError: 'x'.repeat(257) }), /systemdError: Too big/],
  'a list that is too long': [
    encodeTold('boot', { ...BOOT, failedUnits: Array(33).fill('a') }),
    /failedUnits: Too big/,
  ],
  'a field too few': [encodeTold('boot', { ...BOOT, cloudInit: undefined }), /cloudInit: Invalid/],
  'JSON of too many values': [encodeTold('boot', Array(70_000).fill(0)), /info: the answer/],
  'a length beyond the bound': [encodeRecordHeader(INFO_KIND.TOLD, 524_289), /too long: 524289 bytes \(max 524288\)/],
};

for (const [title, [answer, expected]] of Object.entries(HOSTILE)) {
  test(`a peer answers with ${title}: the request fails, and the stream is reset`, async (t) => {
    const near = peer(t, (_kind, far) => {
      if (answer === null) far.end();
      return answer;
    });
    const { message } = await t.throwsAsync(askBoot(near, { clock: systemClock }), { code: 'protocol-error' });
    t.regex(message, expected);
    t.notRegex(message, /\u001b/);
    t.true(near.destroyed);
  });
}

test('unknown fields of an answer are dropped, and so are records of other kinds', async (t) => {
  const newer = encodeTold('boot', { ...BOOT, mood: 'good' });
  const near = peer(t, () => Buffer.concat([encodeRecord(99, 'news'), newer]));
  t.deepEqual(await askBoot(near, { clock: systemClock }), BOOT as never);
});

test('an invalid time of day is rejected', async (t) => {
  const near = peer(t, () => encodeRecord(INFO_KIND.TIME_TOLD, '{"timeMs":1e300}'));
  await t.throwsAsync(askMachine(near, { clock: systemClock }), {
    code: 'protocol-error',
    message: /invalid time/,
  });
});

test('a peer that never answers, or whose answer never ends, times out after 15 s', async (t) => {
  const neverEnding = Buffer.concat([encodeRecordHeader(INFO_KIND.TOLD, 1000), Buffer.from('{"version":1')]);
  for (const answer of [null, encodeRecord(99, 'x'), neverEnding]) {
    const clock = new ManualClock();
    let isAsked = false;
    const near = peer(t, () => {
      isAsked = true;
      return answer;
    });
    const failure = t.throwsAsync(askBoot(near, { clock }), { code: 'stalled' });
    await eventually(() => isAsked);
    clock.advance(14_999);
    t.false(near.destroyed);
    clock.advance(1);
    t.regex((await failure).message, /no information about its machine within 15 s/);
    t.true(near.destroyed);
    t.is(clock.pending, 0);
  }
});

test('a peer that answers and leaves the stream open gets it closed after 2 s', async (t) => {
  const clock = new ManualClock();
  const near = peer(t, () => encodeTold('boot', BOOT));
  await askBoot(near, { clock });
  clock.advance(1999);
  t.false(near.destroyed);
  clock.advance(1);
  t.true(near.destroyed);
});

test('a request can be cancelled, also before it is sent', async (t) => {
  const giveUp = new AbortController();
  const asked = askBoot(
    peer(t, () => {
      giveUp.abort();
      return null;
    }),
    { clock: systemClock, signal: giveUp.signal },
  );
  await t.throwsAsync(asked, { code: 'cancelled' });
  const signal = AbortSignal.abort();
  await t.throwsAsync(
    askBoot(
      peer(t, () => null),
      { clock: systemClock, signal },
    ),
    { code: 'cancelled' },
  );
});

const RULES: Readonly<Record<string, readonly [Buffer, RegExp]>> = {
  'a length beyond the bound': [encodeRecordHeader(INFO_KIND.ASK, 257), /too long: 257 bytes \(max 256\)/],
  'no JSON': [encodeRecord(INFO_KIND.ASK, 'machine'), /ASK is not a JSON object/],
  'an unknown subject': [encodeRecord(INFO_KIND.ASK, '{"about":"users"}'), /unknown subject \(supported version: 1\)/],
};

for (const [title, [bytes, expected]] of Object.entries(RULES)) {
  test(`a client sends ${title}: its stream is reset, and others are served`, async (t) => {
    const { open } = setUp(t);
    const { near, far } = open();
    near.write(bytes);
    await closed(far);
    t.regex(far.errored?.message ?? '', expected);
    t.like(await askBoot(open().near, { clock: systemClock }), { systemd: 'running' });
  });
}

test('the stream of a client without a request for 10 s is reset; that of one whose answer takes longer is not', async (t) => {
  let tell: (() => void) | null = null;
  const { open, clock } = setUp(t, {
    run: () => new Promise((resolve) => (tell = () => resolve({ end: 0, stdout: 'running', stderr: '' }))),
  });
  const silent = open();
  clock.advance(9_999);
  const busy = open();
  const asked = askBoot(busy.near, { clock: systemClock });
  const answer = await eventually(() => tell, { what: 'the question' });
  t.false(silent.far.destroyed);
  clock.advance(1);
  t.true(silent.far.destroyed);
  clock.advance(60_000);
  answer();
  t.like(await asked, { systemd: 'running' });
});

test('from a client that does not read, no more is read than it takes answers', async (t) => {
  const { near, far } = setUp(t).open();
  near.pause();
  const time = encodeRecord(INFO_KIND.TIME, '');
  near.write(Buffer.concat(Array.from({ length: 20_000 }, () => time)));
  await eventually(() => far.writableNeedDrain || far.writableLength > 0, { what: 'answers that are not read' });
  t.true(far.writableLength < 65_536);
  let bytes = 0;
  near.on('data', (chunk: Buffer) => (bytes += chunk.length)).resume();
  await eventually(() => bytes >= 20_000 * encodeTime(Date.now()).length, { what: 'all answers' });
});

test('when the service stops, its streams end', async (t) => {
  const { open, service } = setUp(t);
  const { far } = open();
  await service.stop();
  t.true(far.destroyed);
});
