/** A machine that follows its host's clock: what is measured, what follows from it, and hosts that break the rules. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import type { LogEvent } from '../../lib/events.js';
import { type ClockSample, causeOf } from '../../lib/services/clock/cause.js';
import { ClockAnswers } from '../../lib/services/clock/clock-answers.js';
import {
  CLOCK_KIND,
  type ClockAnswer,
  encodeClockAnswer,
  encodeClockRequest,
} from '../../lib/services/clock/clock-messages.js';
import { ClockService } from '../../lib/services/clock/clock-service.js';
import type { ClockPermission } from '../../lib/services/clock/permission.js';
import { machineHistory } from '../../lib/services/machine-history.js';
import { encodeRecord, encodeRecordHeader } from '../../lib/util/bytes/records.js';
import { duplexPair } from '../helpers/channel-pair.js';
import { eventually, ManualClock } from '../helpers/time.js';

const FOLLOWS: ClockPermission = { following: { thresholdMs: 1000, maxBackMs: 60_000 } };
const NOON = 1_700_000_000_000;

/** A machine whose clock is off by `offMs`, and what it did. */
function machine(t: ExecutionContext, permission = FOLLOWS) {
  const clock = new ManualClock();
  const hooks = mkdtempSync(join(tmpdir(), 'vproxy-hooks-'));
  t.teardown(() => rmSync(hooks, { recursive: true }));
  const did: string[] = [];
  const events: LogEvent[] = [];
  const state = { offMs: 0, failure: null as Error | null, whileStepping: () => Promise.resolve() };
  const act = (what: string): Promise<void> => {
    if (state.failure !== null) return Promise.reject(state.failure);
    did.push(what);
    return Promise.resolve();
  };
  const service = new ClockService({
    ...{ permission, clock, hooks, history: { ...machineHistory }, log: (event) => void events.push(event) },
    timeOfDay: () => NOON + clock.now() + state.offMs,
    machine: {
      step: async (byMs) => {
        await act(`step ${Math.round(byMs)}`);
        await state.whileStepping();
        state.offMs += byMs;
      },
      reseed: (bytes) => act(`reseed ${bytes.length}`),
    },
  });
  t.teardown(() => service.stop());
  const messages = (): string[] => events.map(({ event, message }) => `${event}: ${message}`);
  return { clock, did, events, hooks, messages, service, state };
}

type Machine = ReturnType<typeof machine>;

/** One stream to a host with these answers; resolves when both ends are closed. */
async function ask({ service }: Machine, host: (far: Duplex) => void): Promise<void> {
  const [near, far] = duplexPair();
  service.serve(far);
  host(near);
  await eventually(() => near.destroyed && far.destroyed, { what: 'the end of the stream' });
}

/** A host that answers by itself, at the machine's pace. */
function host({ clock }: Machine, isSecret = true) {
  const answers = new ClockAnswers({ clock, isSecret, timeOfDay: () => NOON + clock.now() });
  return (near: Duplex): void => {
    const once = new AbortController();
    near.once('close', () => once.abort());
    void answers.run(() => near, once.signal);
  };
}

test('a clock that is off is set once, a smaller difference is left alone', async (t) => {
  const guest = machine(t);
  const tell = host(guest);
  guest.state.offMs = -61_234;
  await ask(guest, tell);
  t.deepEqual(guest.did, ['reseed 64', 'step 61234']);
  t.deepEqual(guest.messages(), ['clock-stepped: set the clock 61.2 s forward (start)']);
  guest.clock.advance(20_000);
  guest.state.offMs = 900;
  await ask(guest, tell);
  t.is(guest.did.length, 2);
  guest.clock.advance(20_000);
  guest.state.offMs = 5000;
  await ask(guest, tell);
  t.deepEqual(guest.did.slice(2), ['step -5000']);
  t.is(guest.messages()[1], 'clock-stepped: set the clock 5.0 s back (host-clock)');
});

test('the clock is not set back further than allowed, which is logged once', async (t) => {
  const guest = machine(t, { following: { thresholdMs: 1000, maxBackMs: 0 } });
  const tell = host(guest);
  for (const offMs of [5000, 5000, 5000]) {
    guest.state.offMs = offMs;
    await ask(guest, tell);
    guest.clock.advance(20_000);
  }
  t.deepEqual(guest.did, ['reseed 64']);
  t.deepEqual(guest.messages(), [
    "clock-failed: the clock is 5.0 s ahead of the host's, and may be set back by at most 0 ms in all",
  ]);
});

test('a host sets the clock back only so far altogether, which steps forward give back, and a slow drift of the clock', async (t) => {
  const guest = machine(t);
  const tell = host(guest);
  const setBack = async (byMs: number): Promise<boolean> => {
    guest.state.offMs = byMs;
    await ask(guest, tell);
    guest.clock.advance(30_000);
    return guest.state.offMs === 0;
  };
  t.deepEqual([await setBack(50_000), await setBack(50_000), await setBack(9000)], [true, false, true]);
  t.deepEqual([await setBack(-20_000), await setBack(25_000), await setBack(20_000)], [true, false, true]);
  // However far it was set forward.
  t.deepEqual([await setBack(-3_600_000), await setBack(61_000), await setBack(60_000)], [true, false, true]);
  guest.clock.advance(86_400_000);
  t.deepEqual([await setBack(44_000), await setBack(40_000), await setBack(40_000)], [false, true, false]);
});

test('R-CLOCK-5: whatever a host says, something changes at most three times in 30 seconds', async (t) => {
  const guest = machine(t);
  const tell = host(guest);
  for (let round = 0; round < 50; round += 1) {
    guest.state.offMs = round % 2 === 0 ? 5000 : -5000;
    await ask(guest, tell);
    guest.clock.advance(1000);
  }
  t.is(guest.did.filter((what) => what.startsWith('step')).length, 6);
});

test('R-CLOCK-3: random numbers are taken only over a channel that nobody else can read, and without setting the clock if so told', async (t) => {
  const open = machine(t);
  await ask(open, host(open, false));
  t.deepEqual(open.did, []);
  const guest = machine(t, { following: null });
  guest.state.offMs = 50_000;
  await ask(guest, host(guest));
  t.deepEqual(guest.did, ['reseed 64']);
});

test('without the capability, one line says which', async (t) => {
  const guest = machine(t);
  guest.state.failure = Object.assign(new Error('no'), { code: 'EPERM' });
  guest.state.offMs = 50_000;
  const tell = host(guest, false);
  for (let round = 0; round < 3; round += 1) {
    await ask(guest, tell);
    guest.clock.advance(20_000);
  }
  t.deepEqual(guest.messages(), ['clock-failed: cannot set the clock: needs CAP_SYS_TIME (docs/restore.md)']);
});

/** Answers each request with these facts. */
const answering = (answer: ClockAnswer) => (near: Duplex) =>
  void near.on('data', () => near.write(encodeClockAnswer(answer))).on('end', () => near.end());

test('after a restore, hooks run in order with the reason and the offset, and the rest if one fails', async (t) => {
  const guest = machine(t);
  const out = join(guest.hooks, 'out.txt');
  const hook = (name: string, script: string) =>
    writeFileSync(join(guest.hooks, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  hook('20-second', `echo "second $VPROXY_REASON $VPROXY_OFFSET_MS" >> ${out}`);
  hook('10-first', `echo first >> ${out}; echo broken >&2; exit 3`);
  hook('30-backup~', `echo never >> ${out}`);
  writeFileSync(join(guest.hooks, '40-readme'), 'not executable');
  const facts = { host: 'h', entropy: null, upMs: 0 };
  await ask(guest, answering({ ...facts, timeMs: NOON, seen: null }));
  guest.clock.advance(20_000);
  await ask(guest, answering({ ...facts, upMs: 80_000, timeMs: NOON + 80_000, seen: 30 }));
  t.deepEqual(guest.did, ['step 60000']);
  await eventually(() => guest.messages().length === 3);
  t.is(readFileSync(out, 'utf8'), 'first\nsecond restored 60000\n');
  t.deepEqual(guest.messages().slice(1), [
    `hook: ${guest.hooks}/10-first: broken`,
    `hook: ${guest.hooks}/20-second: done`,
  ]);
});

test('hooks after a restore are unfinished until they have ended', async (t) => {
  const guest = machine(t);
  const go = join(guest.hooks, 'go.txt');
  writeFileSync(join(guest.hooks, '10-wait'), `#!/bin/sh\nuntil [ -e ${go} ]; do sleep 0.01; done\n`, { mode: 0o755 });
  const facts = { host: 'h', entropy: null, upMs: 0, timeMs: NOON };
  await ask(guest, answering({ ...facts, seen: null }));
  guest.clock.advance(20_000);
  await ask(guest, answering({ ...facts, seen: 30 }));
  await eventually(() => guest.service.unfinished.join() === `hooks in ${guest.hooks}`);
  writeFileSync(go, '');
  await eventually(() => guest.service.unfinished.length === 0);
  t.is(guest.messages().at(-1), `hook: ${guest.hooks}/10-wait: done`);
});

test('a restore that comes after too many changes is acted on when another one is allowed', async (t) => {
  const guest = machine(t);
  const facts = { host: 'h', entropy: null, upMs: 0, timeMs: NOON, seen: null };
  for (const offMs of [-5000, -10_000, -15_000]) {
    guest.state.offMs = offMs;
    await ask(guest, answering(facts));
  }
  await ask(guest, answering({ ...facts, timeMs: NOON + 60_000, seen: 30 }));
  t.is(guest.did.length, 3);
  guest.clock.advance(30_000);
  await ask(guest, answering({ ...facts, upMs: 30_000, timeMs: NOON + 90_000, seen: 1 }));
  t.is(guest.did.at(-1), 'step 60000');
  t.regex(guest.messages().at(-1) ?? '', /\(restored\)$/);
});

test('a stream that comes while the clock is being set does not have it set twice', async (t) => {
  const guest = machine(t);
  const tell = host(guest);
  guest.state.offMs = -60_000;
  let second = Promise.resolve();
  guest.state.whileStepping = async () => {
    second = ask(guest, tell);
    // Its measurement would be made meanwhile.
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    t.deepEqual(guest.service.unfinished, ['a step of the clock']);
  };
  await ask(guest, tell);
  await second;
  t.deepEqual(guest.service.unfinished, []);
  t.deepEqual(guest.did, ['reseed 64', 'step 60000']);
});

test('R-CLOCK-1: a machine that asks on, and never ends its direction, keeps no stream for longer than 10 s', async (t) => {
  const clock = new ManualClock();
  const [near, far] = duplexPair();
  const once = new AbortController();
  t.teardown(() => once.abort());
  void new ClockAnswers({ clock, isSecret: true }).run(() => near, once.signal);
  for (let seq = 1; seq <= 17; seq += 1) far.write(encodeClockRequest({ run: 'r', seq, entropy: false }));
  await allAnswers(far);
  t.false(near.destroyed);
  clock.advance(10_000);
  await eventually(() => near.destroyed);
  t.pass();
});

/** Resolves at the end of the answers. */
const allAnswers = (far: Duplex): Promise<void> => new Promise((resolve) => far.resume().once('end', resolve));

test('a clock that is no longer followed is not set by a late answer', async (t) => {
  const guest = machine(t);
  guest.state.offMs = -61_234;
  await ask(guest, (near) => {
    near
      .on('error', () => undefined)
      .once('data', () => {
        guest.service.allow(null);
        host(guest)(near);
      });
  });
  t.deepEqual(guest.did, []);
  guest.service.allow(FOLLOWS);
  await ask(guest, host(guest));
  t.deepEqual(guest.did, ['reseed 64', 'step 61234']);
});

test('a restore whose stream is lost is acted on with the next one', async (t) => {
  const guest = machine(t);
  const facts = { host: 'h', entropy: null, upMs: 0, timeMs: NOON, seen: null };
  await ask(guest, answering(facts));
  await ask(guest, (near) => {
    near.once('data', () => {
      near.write(encodeClockAnswer({ ...facts, seen: 30 }));
      near.once('data', () => near.end());
    });
  });
  t.is(guest.messages().length, 0);
  await ask(guest, answering({ ...facts, timeMs: NOON + 60_000, seen: 1 }));
  t.regex(guest.messages().at(-1) ?? '', /\(restored\)$/);
});

const SAMPLE: ClockSample = {
  offsetMs: 0,
  uncertaintyMs: 1,
  hostUpMs: 100_000,
  upMs: 50_000,
  host: 'a',
  seen: 7,
  seq: 8,
};

for (const [cause, what, before, now] of [
  ['start', 'nothing was measured before', null, {}],
  ['none', 'a new link', {}, { hostUpMs: 130_000, upMs: 80_000 }],
  ['restored', 'the host knows the request', {}, { seen: 8 }],
  ['restored', 'another host with another time', {}, { host: 'b', seen: null, offsetMs: 60_000 }],
  ['new-host', 'another host with the same time', {}, { host: 'b', seen: null }],
  ['paused', 'only the host’s uptime went on', {}, { hostUpMs: 160_000, offsetMs: 60_000 }],
  ['host-clock', 'only the difference has changed', {}, { hostUpMs: 101_000, upMs: 51_000, offsetMs: -60_000 }],
  ['none', 'the difference changed within what cannot be measured', { uncertaintyMs: 400 }, { offsetMs: 1300 }],
] as const) {
  test(`R-CLOCK-4: ${what}: ${cause}`, (t) => {
    t.is(causeOf(before === null ? null : { ...SAMPLE, ...before }, { ...SAMPLE, ...now }, 1000), cause);
  });
}

for (const [what, bytes, code] of [
  [
    'random numbers of a wrong length',
    encodeRecord(CLOCK_KIND.TOLD, '{"version":1,"timeMs":1,"upMs":1,"host":"a","entropy":"00"}'),
    'protocol-error',
  ],
  [
    'a time that is none',
    encodeRecord(CLOCK_KIND.TOLD, '{"version":1,"timeMs":-1,"upMs":1,"host":"a"}'),
    'protocol-error',
  ],
  ['another version', encodeRecord(CLOCK_KIND.TOLD, '{"version":2}'), 'protocol-error'],
  ['a record that is too long', encodeRecordHeader(CLOCK_KIND.TOLD, 1025), 'protocol-error'],
] as const) {
  test(`a host that sends ${what} loses the stream, and nothing changes`, async (t) => {
    const guest = machine(t);
    const [near, far] = duplexPair();
    guest.service.serve(far);
    near.resume().write(bytes);
    const error = await new Promise((resolve) => far.once('error', resolve));
    t.deepEqual([(error as { code?: string }).code, guest.did], [code, []]);
  });
}
