/** Tests of what a command line refuses. Apart from `callVproxy`, which benchmarks also load. */
import test from 'ava';
import { callVproxy } from './call-vproxy.js';

/** Refused command lines, with their error; the words of a text are separated by spaces. */
export type Refusals = readonly (readonly [words: string | readonly string[], line: string])[];

/** A test for each: status 64, a single line, and nothing else. */
export function testRefusals(rows: Refusals): void {
  for (const [given, line] of rows) {
    const words = typeof given === 'string' ? given.split(' ') : given;
    test(`refused: vproxy ${JSON.stringify(words).slice(0, 120)}`, async (t) => {
      t.deepEqual(await callVproxy(words), { code: 64, stdout: '', stderr: `vproxy: error: ${line}\n` });
    });
  }
}
