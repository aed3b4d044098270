/** The services `clock` and `freeze` of a machine, which only a program can be asked for: R-CLOCK-1 and 2, R-FREEZE-1 and 2. */
import { CLOCK_KIND } from '../../lib/services/clock/clock-messages.js';
import { encodeFreezeRecord, FREEZE_KIND } from '../../lib/services/freeze/freeze-messages.js';
import { encodeRecord, encodeRecordHeader } from '../../lib/util/bytes/records.js';
import type { Conversations } from '../script.js';
import { json } from './json.js';

const hex = (bytes: Buffer): string => `DATA 1 hex:${bytes.toString('hex')}`;
const told = (fields: object): Buffer =>
  encodeRecord(CLOCK_KIND.TOLD, json({ version: 1, timeMs: 1, upMs: 1, host: 'h', ...fields }));
const freeze = (fields: object): Buffer =>
  encodeFreezeRecord(FREEZE_KIND.FREEZE, { paths: ['/no-such-mount-point'], forMs: 1000, ...fields });

const PATHS = [7, ['no-such'], Array<string>(65).fill('/no-such'), [`/${'x'.repeat(4096)}`], [7]];
const TIMES = [999, 60_001, 1000.5, '1000'];

export const MACHINE: Conversations = {
  // Whatever the machine finds, it asks at most five times.
  'R-CLOCK-1: the machine asks, and ends its direction': `
    OPEN 1 clock, ${hex(Buffer.concat(Array<Buffer>(5).fill(told({ future: 1 }))))}, FIN 1 -> ACCEPT 1, DATA 1 some, FIN 1`,
  'R-CLOCK-1: a second stream resets the first': `
    OPEN 1 clock -> ACCEPT 1, DATA 1 some
    OPEN 3 clock -> RESET 1 cancelled, ACCEPT 3, DATA 3 some`,
  'R-CLOCK-2: an answer that is not valid ends only the stream': [
    encodeRecord(CLOCK_KIND.TOLD, 'none'),
    encodeRecordHeader(CLOCK_KIND.TOLD, 1025),
    ...[{ version: 2 }, { timeMs: -1 }, { timeMs: 1e15 }, { upMs: '1' }, { host: '' }, { host: 'h'.repeat(65) }].map(
      told,
    ),
    ...[{ seen: 0 }, { entropy: '00' }, { entropy: 'g'.repeat(128) }].map(told),
  ].map((answer) => `OPEN 1 clock, ${hex(answer)} -> ACCEPT 1, DATA 1 some, RESET 1 protocol-error`),
  'R-FREEZE-1: a request that is not valid ends only the stream': [
    encodeRecord(7, '{}'),
    encodeRecordHeader(FREEZE_KIND.FREEZE, 65_537),
    ...[{ version: 2 }, ...PATHS.map((paths) => ({ paths })), ...TIMES.map((forMs) => ({ forMs }))].map(freeze),
  ].map((request) => `OPEN 1 freeze, ${hex(request)} -> ACCEPT 1, RESET 1 protocol-error`),
  'R-FREEZE-2: if nothing can be frozen, the machine says why, and ends its direction': `
    OPEN 1 freeze, ${hex(freeze({ future: 1 }))} -> ACCEPT 1, DATA 1 some, FIN 1`,
};
