/** Tests of what a command line refuses. Apart from `callVproxy`, which benchmarks load, too. */
import test from 'ava';
import { callVproxy } from './call-vproxy.js';

/** What is refused, with the line that says why; the words of a text are what is between its spaces. */
export type Refusals = readonly (readonly [words: string | readonly string[], line: string])[];

/** A test for each: status 64, one line, and nothing else. */
export function testRefusals(rows: Refusals): void {
  for (const [given, line] of rows) {
    const words = typeof given === 'string' ? given.split(' ') : given;
    test(`refused: vproxy ${JSON.stringify(words).slice(0, 120)}`, async (t) => {
      t.deepEqual(await callVproxy(words), { code: 64, stdout: '', stderr: `vproxy: error: ${line}\n` });
    });
  }
}
