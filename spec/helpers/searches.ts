/** The length of random searches, and texts for them. */
import fc from 'fast-check';

/**
 * One character of any kind, for `fc.string`, without lone surrogates. fast-check's own kind of unit, `binary`, takes more than a
 * second to make.
 */
export const ANY_CHARACTER = fc
  .nat(0x10_ffff - 0x800)
  .map((code) => String.fromCodePoint(code < 0xd800 ? code : code + 0x800));

/** How many inputs a search tries: all of them in `npm run test:all`, a third of them in `npm test`. */
export const searchRuns = (runs: number): number =>
  process.env['VPROXY_TEST_ALL'] === undefined ? Math.ceil(runs / 3) : runs;
