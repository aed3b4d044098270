/** Patterns for arguments: `*` stands for any characters, also none, and `?` for one. */

/** Whether a text matches a pattern. Takes time in proportion to the product of their lengths at most. */
export function matchesGlob(pattern: string, text: string): boolean {
  let patternAt = 0;
  let textAt = 0;
  let starAt = -1;
  let starTextAt = 0;
  while (textAt < text.length) {
    if (pattern[patternAt] === '*') {
      starAt = patternAt;
      starTextAt = textAt;
      patternAt += 1;
    } else if (patternAt < pattern.length && (pattern[patternAt] === '?' || pattern[patternAt] === text[textAt])) {
      patternAt += 1;
      textAt += 1;
    } else if (starAt >= 0) {
      // The last star takes one character more. An earlier one need not: what it could gain, this one can.
      starTextAt += 1;
      textAt = starTextAt;
      patternAt = starAt + 1;
    } else {
      return false;
    }
  }
  while (pattern[patternAt] === '*') patternAt += 1;
  return patternAt === pattern.length;
}
