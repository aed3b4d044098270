/**
 * The most that a peer can make this side keep through its logs: of each kind of item the largest number of the
 * smallest, or of the largest, pieces. `scale` is a part of what is logged: 1 is more than any bound has room for.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EventRing } from '../../../lib/control/context/event-ring.js';
import { VproxyError } from '../../../lib/errors.js';
import { LOG_EVENT_NAMES, type LogEvent } from '../../../lib/events.js';
import { AuditLog } from '../../../lib/proxy/audit-log.js';
import { ChannelRecord } from '../../../lib/proxy/channel/channel-sessions.js';
import { auditPart, boundLogEvent, LogLimit } from '../../../lib/proxy/channel/log-limit.js';
import { logRefused } from '../../../lib/services/exec/command-log.js';
import type { Session } from '../../../lib/session/session.js';
import { heapBytes } from '../../helpers/measures.js';
import { ManualClock } from '../../helpers/time.js';
import { holds, type MemoryCase } from './memory-case.js';

const KIB = 1024;
const MIB = 1024 * KIB;

export const LOG_CASES: readonly MemoryCase[] = [
  holds('the last events, with lists of the shortest texts', 24 * MIB, (scale) =>
    holdRing(scale, (index) => event('exec-started', { argv: shortTexts(index) })),
  ),
  holds('the last events, with the longest texts', 8 * MIB, (scale) =>
    holdRing(scale, (index) => event('stream-opened', { from: Buffer.alloc(64 * KIB, index).toString('latin1') })),
  ),
  holds('the last events, of commands with arguments of hundreds of kilobytes', 8 * MIB, (scale) =>
    holdRing(scale, (index) => {
      const said: LogEvent[] = [];
      const argv = ['x', `${index}`.repeat(100_000)];
      const facts = { argv, user: null, cwd: argv[1] ?? null, from: null };
      logRefused((one) => said.push(one), facts, new VproxyError('command-denied', 'it is not allowed'));
      return said[0] ?? event('exec-refused', {});
    }),
  ),
  holds('the state of the limit of a log for every event of every level', MIB, async (scale) => {
    const clock = new ManualClock();
    const limits = [{}, { partOf: auditPart }].map((more) => new LogLimit({ log: () => undefined, clock, ...more }));
    const bounded = boundLogEvent(event('stream-refused', { from: 'x'.repeat(4000) }));
    return heldBy(limits, () => {
      for (let turn = 0; turn < 2000 * scale; turn += 1) {
        for (const name of LOG_EVENT_NAMES) {
          for (const level of ['error', 'warn', 'info', 'debug'] as const) {
            for (const limit of limits) limit.log({ ...bounded, event: name, level });
          }
        }
        clock.advance(1);
      }
    });
  }),
  holds('short lines of an audit log whose disk takes nothing', 24 * MIB, (scale) =>
    holdAudit(event('exec-ended', {}), 500_000 * scale),
  ),
  holds('long lines of an audit log whose disk takes nothing', 24 * MIB, (scale) =>
    holdAudit(event('exec-started', { argv: ['x'.repeat(100_000)] }), 50_000 * scale),
  ),
  holds('ends of sessions with ever new codes and messages', MIB, async (scale) => {
    const record = new ChannelRecord(new ManualClock());
    const counters = { sentBytes: 1, receivedBytes: 1, sentFrames: 1, receivedFrames: 1, stallMs: 0 };
    const session = { ageMs: 1, counters: { ...counters, streamsOpened: 0, streamsFailed: 0 } } as unknown as Session;
    return heldBy(record, () => {
      for (let count = 0; count < 100_000 * scale; count += 1) {
        record.noteEnd(session, new VproxyError(`evil-${count}`, `${count}`.repeat(200)));
      }
    });
  }),
];

const event = (name: LogEvent['event'], fields: LogEvent['fields']): LogEvent => {
  return { level: 'info', event: name, message: 'm'.repeat(4000), fields };
};

/** More than fit into an event, each a separate string. */
const shortTexts = (index: number): string[] =>
  Array.from({ length: 2000 }, (_, at) => String.fromCharCode(0x400 + ((index + at) % 1000)));

/** Keeps the measured objects from being collected. */
const measured = new Set<object>();

/** How much more memory `holder` and everything it refers to take after `fill`. */
async function heldBy(holder: object, fill: () => void): Promise<number> {
  measured.add(holder);
  const before = await heapBytes();
  fill();
  const heldBytes = (await heapBytes()) - before;
  measured.delete(holder);
  return heldBytes;
}

/** Holds a ring after up to 5,000 events, ten times as many as it keeps. */
function holdRing(scale: number, make: (index: number) => LogEvent): Promise<number> {
  const ring = new EventRing();
  return heldBy(ring, () => {
    for (let index = 0; index < 5000 * scale; index += 1) ring.record(boundLogEvent(make(index)));
  });
}

async function holdAudit(given: LogEvent, count: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-'));
  const options = { rotation: null, clock: new ManualClock(), log: () => undefined };
  const audit = new AuditLog({ path: join(folder, 'audit.log'), ...options });
  audit.open();
  // The next line finds neither the file nor its folder.
  audit.reopen();
  rmSync(folder, { recursive: true });
  const bounded = boundLogEvent(given);
  const heldBytes = await heldBy(audit, () => {
    for (let line = 0; line < count; line += 1) audit.record(bounded);
  });
  await audit.close();
  return heldBytes;
}
