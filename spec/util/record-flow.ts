/** Records read in turns and with pauses: each comes once and in order, and what follows them comes behind the last. */
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import fc from 'fast-check';
import { RecordFlow } from '../../lib/services/record-flow.js';
import { encodeRecord } from '../../lib/util/bytes/records.js';
import { LoopTurns } from '../../lib/util/concurrency.js';
import { searchRuns } from '../helpers/searches.js';

const PIECES = 1;
const WHOLE = 2;

const life = fc.record({
  /** Lengths of payloads, with the kind. */
  records: fc.array(fc.record({ kind: fc.constantFrom(PIECES, WHOLE), bytes: fc.nat(300) }), { maxLength: 30 }),
  /** Sizes of chunks, repeated. */
  chunks: fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 5 }),
  /** What the reader does at each call of its handler, repeated. */
  acts: fc.array(fc.constantFrom('none', 'pause', 'fill', 'later'), { minLength: 1, maxLength: 6 }),
  /** At which call it stops, or throws. */
  last: fc.option(fc.record({ at: fc.nat(40), how: fc.constantFrom('stop', 'throw') })),
});

test('whatever the chunks, pauses and turns, records come in order, the end comes last, and nothing after a stop', async (t) => {
  await fc.assert(
    fc.asyncProperty(life, async ({ records, chunks, acts, last }) => {
      const stream = new PassThrough();
      const heard: string[] = [];
      let [calls, isFull, isLate] = [0, false, false];
      const over = new Promise<void>((resolve) => {
        const act = (said: string): void => {
          heard.push(said);
          const what = acts[calls % acts.length];
          calls += 1;
          if (calls - 1 === last?.at && last.how === 'throw') throw new Error('thrown');
          if (calls - 1 === last?.at) flow.stop();
          if (what === 'pause') flow.pause();
          if (what === 'fill') isFull = true;
          if (what === 'later') isLate = true;
        };
        const handler = {
          pieces: new Set([PIECES]),
          onRecord: (kind: number, payload: Buffer) => act(`${kind}:${payload.toString()}`),
          onPiece: (kind: number, bytes: Buffer) => act(`${kind}:${bytes.toString()}`),
          isFull: () => isFull,
          onEnd: () => {
            heard.push('end');
            resolve();
          },
          onError: (error: unknown) => heard.push((error as Error).message),
        };
        // A turn is over whenever the reader says so.
        const turns = new (class extends LoopTurns {
          override get isOver(): boolean {
            return super.isOver || isLate;
          }
        })();
        const flow = new RecordFlow(stream, handler, turns);
        void (async () => {
          while (!heard.includes('end')) {
            await setImmediate();
            isFull = false;
            isLate = false;
            flow.resume();
          }
        })();
      });
      let letter = 0;
      const sent = records.map(({ kind, bytes }) => {
        letter += 1;
        return { kind, payload: String.fromCharCode(0x30 + letter).repeat(bytes) };
      });
      const all = Buffer.concat(sent.map(({ kind, payload }) => encodeRecord(kind, payload)));
      for (let at = 0, count = 0; at < all.length; count += 1) {
        const size = chunks[count % chunks.length] ?? 1;
        if (!stream.write(all.subarray(at, at + size))) await once(stream, 'drain');
        at += size;
      }
      stream.end();
      await over;
      const said = heard.join('').replaceAll(/1:/g, '');
      const whole = sent.map(({ kind, payload }) => (kind === PIECES ? payload : `2:${payload}`)).join('');
      if (last === null || calls <= last.at) t.is(said, `${whole}end`);
      else t.true(whole.startsWith(said.replace(/thrown/, '').replace(/end$/, '')), said);
      t.true(last === null || calls <= last.at + 1, 'something comes after the last call');
    }),
    { numRuns: searchRuns(300) },
  );
});
