/** The length of random searches. */

/** How many inputs a search tries: all of them in `npm run test:all`, a third of them in `npm test`. */
export const searchRuns = (runs: number): number =>
  process.env['VPROXY_TEST_ALL'] === undefined ? Math.ceil(runs / 3) : runs;
