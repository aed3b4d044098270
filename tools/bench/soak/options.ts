/** The command line of a soak. */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';

/** The options of a soak. */
export interface SoakArguments {
  readonly minutes: number;
  readonly seed: number;
  /** The file of the chart. */
  readonly out: string;
  readonly help: boolean;
}

export const SOAK_HELP = `Usage: npm run soak -- [--minutes N] [--seed N] [--out FILE.svg]

A day squeezed into minutes: two vproxy processes over a unix channel with mixed traffic, in which processes are killed,
stopped and paused, and the channel is cut, stalled, or loses or repeats bytes, at random. Every byte is
compared.

  --minutes N     how long, also 0.5 [default: 5]
  --seed N        repeats the choices of an earlier run, from 0 to 4294967295 [default: at random, and printed]
  --out FILE.svg  memory and descriptors of both processes over time [default: soak.svg]
  --help          this text

Progress goes to stderr, a summary as JSON to stdout. The exit status is 0 only where nothing wrong was seen, 1 where
something was, 64 for arguments that are not valid. An interrupt (SIGINT) ends the soak early and in order.
`;

const MAX_MINUTES = 7 * 24 * 60;

/** Parses the arguments after the program's name. Throws an Error with one line. */
export function parseSoakArguments(args: readonly string[]): SoakArguments {
  const { values } = parseArgs({
    args: [...args],
    options: {
      minutes: { type: 'string', default: '5' },
      seed: { type: 'string' },
      out: { type: 'string', default: 'soak.svg' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const minutes = /^\d+(\.\d+)?$/.test(values.minutes) ? Number(values.minutes) : Number.NaN;
  if (!(minutes > 0 && minutes <= MAX_MINUTES)) {
    throw new Error(`--minutes ${values.minutes}: must be a number above 0, at most ${MAX_MINUTES}`);
  }
  const seed = values.seed === undefined ? randomInt(2 ** 32) : Number(values.seed);
  if (!/^\d+$/.test(values.seed ?? '0') || seed >= 2 ** 32) {
    throw new Error(`--seed ${values.seed}: must be an integer from 0 to 4294967295`);
  }
  return { minutes, seed, out: values.out, help: values.help };
}
