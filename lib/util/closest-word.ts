/** Suggestions for mistyped words. */

/**
 * The known word that starts with `word`, or differs from it in at most a third of its letters. Words that differ only in their
 * numbers name different things: vm2 is not a misspelling of vm1.
 */
export function closestWord(word: string, known: readonly string[]): string | undefined {
  const alike = known.filter((candidate) => !differInNumbers(word, candidate));
  const started = alike.find((candidate) => word.length > 1 && candidate.startsWith(word));
  if (started !== undefined) return started;
  const ranked = alike
    .map((candidate) => ({ candidate, distance: editDistance(word.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best !== undefined && best.distance * 3 <= best.candidate.length ? best.candidate : undefined;
}

/** The end of a message about an unknown name: `; did you mean web1?`, or empty if no known one is similar. */
export function suggestWord(word: string, known: readonly string[]): string {
  const close = closestWord(word, known);
  return close === undefined ? '' : `; did you mean ${close}?`;
}

/** Shorter words resemble others by accident. */
const LEAST_GUESSED = 4;

/** For a small set: `did you mean web1?`, else `available: web1, db` or `none available`; `defined` for names in a configuration. */
export function suggestOrList(
  word: string,
  known: readonly string[],
  state: 'available' | 'defined' = 'available',
): string {
  const close = word.length < LEAST_GUESSED ? undefined : closestWord(word, known);
  if (close !== undefined) return `did you mean ${close}?`;
  return known.length === 0 ? `none ${state}` : `${state}: ${known.join(', ')}`;
}

const differInNumbers = (one: string, other: string): boolean =>
  /\d/.test(one) && /\d/.test(other) && one.replace(/\d+/g, '') === other.replace(/\d+/g, '');

/** The number of letters to add, drop, replace or swap with a neighbour. Words much longer than any option are not measured. */
function editDistance(from: string, to: string): number {
  if (from.length > 2 * to.length) return from.length;
  let before: number[] = [];
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 0; i < from.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < to.length; j++) {
      const replaced = (row[j] ?? 0) + (from[i] === to[j] ? 0 : 1);
      // Nothing is before the first letter, and no letter is equal to that.
      const isSwapped = from[i] === to[j - 1] && from[i - 1] === to[j];
      const swapped = isSwapped ? (before[j - 1] ?? 0) + 1 : replaced;
      next.push(Math.min(replaced, swapped, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    before = row;
    row = next;
  }
  return row[to.length] ?? 0;
}
