/** The word that a mistyped one may have meant. */

/** The known word that `word` begins, or that differs from it in a third of its letters at most. */
export function closestWord(word: string, known: readonly string[]): string | undefined {
  const started = known.find((candidate) => word.length > 1 && candidate.startsWith(word));
  if (started !== undefined) return started;
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(word, candidate) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best !== undefined && best.distance * 3 <= best.candidate.length ? best.candidate : undefined;
}

/** The number of letters that have to be added, dropped or replaced. Words much longer than any option are not measured. */
function editDistance(from: string, to: string): number {
  if (from.length > 2 * to.length) return from.length;
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [i, letter] of Array.from(from).entries()) {
    const next = [i + 1];
    for (let j = 0; j < to.length; j++) {
      const replaced = (row[j] ?? 0) + (letter === to[j] ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
