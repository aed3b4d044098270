/** Patterns of recorded replies against a plain definition of what they match. */
import assert from 'node:assert/strict';
import { matchesGlob } from '../../../lib/storage/replies.js';
import { FuzzInput } from '../fuzz-input.js';

const MAX_LENGTH = 60;

/** Input: a pattern and a text, with a newline between. */
export function fuzzGlob(bytes: Uint8Array): void {
  const [pattern = '', ...rest] = new FuzzInput(bytes).rest().toString('latin1').split('\n');
  const [short, text] = [pattern.slice(0, MAX_LENGTH), rest.join('\n').slice(0, MAX_LENGTH)];
  assert.equal(matchesGlob(short, text), matches(short, text));
}

/** Keeps, for each place in the text, whether the pattern so far matches the text up to there. */
function matches(pattern: string, text: string): boolean {
  let row = Array.from({ length: text.length + 1 }, (_, place) => place === 0);
  for (const sign of pattern) {
    const next: boolean[] = [];
    for (let place = 0; place <= text.length; place += 1) {
      const isTaken = sign === '?' || sign === text[place - 1];
      next.push(
        sign === '*'
          ? row[place] === true || next[place - 1] === true
          : place > 0 && row[place - 1] === true && isTaken,
      );
    }
    row = next;
  }
  return row[text.length] === true;
}
