/** The command line of the suite. */
import { parseArgs } from 'node:util';

export interface SuiteOptions {
  readonly command: readonly string[];
  /** Words added to the command where the program must have a key; null: it is never given one. */
  readonly keyWords: readonly string[] | null;
  readonly without: readonly string[];
  readonly filter: RegExp;
  readonly timeoutMs: number;
  readonly jobs: number;
  readonly tap: boolean;
  readonly junit: string | undefined;
  readonly help: boolean;
}

export const FEATURES = ['auth', 'datagram', 'ports', 'resume'];

export const HELP = `Usage: npm run conformance -- [OPTIONS] COMMAND...

Judges a program that speaks the protocol of docs/protocol.md: on its standard input and output, or, if COMMAND contains {path}, on
the unix socket on which it listens there. Other words in braces are replaced, too:

  {target}        a unix socket that the program must dial for its service "target"
  {far}           a unix socket on which it must listen, and open a stream to the service "far" for each connection
  {flow}          a UDP port of 127.0.0.1 to which it forwards the datagrams of its service "flow"
  {key}           a file with a key, as of vproxy genkey
  {frame} {streamCredit} {inFlight} {streams} {opens}  limits that a case wants in its HELLO

  npm run conformance -- vproxy -c stdio: -i target:{target} -o far:{far} -i flow:udp:127.0.0.1:{flow}

  --without LIST   features that the program does not have: ${FEATURES.join(', ')}
  --with-key=WORDS added to COMMAND in the cases in which it has a key; else they are skipped
  --filter REGEXP  only cases with a matching title, such as R-FLOW
  --timeout N      seconds that the program has for each answer [default: 10]
  --jobs N         cases at a time [default: 2]
  --tap            one line for each case in the format of TAP 13
  --junit FILE     writes a report for CI systems
  -h, --help       this text

The exit status is 0 if no case failed, 1 if one did, 64 for arguments that are not valid.
`;

const OPTIONS = {
  without: { type: 'string', default: '' },
  'with-key': { type: 'string' },
  filter: { type: 'string', default: '' },
  timeout: { type: 'string', default: '10' },
  jobs: { type: 'string', default: '2' },
  tap: { type: 'boolean', default: false },
  junit: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** A positive number. Throws an Error with one line. */
function positive(name: string, text: string, isInteger: boolean): number {
  if (/^\d+(\.\d+)?$/.test(text) && Number(text) > 0 && (!isInteger || Number.isInteger(Number(text))))
    return Number(text);
  throw new Error(`--${name} ${text}: must be ${isInteger ? 'an integer' : 'a number'} above 0`);
}

/** Parses the arguments after the program's name. Throws an Error with one line. */
export function parseSuiteArguments(args: readonly string[]): SuiteOptions {
  const { tokens } = parseArgs({
    args: [...args],
    options: OPTIONS,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const first = tokens.find(({ kind }) => kind !== 'option');
  const end = first?.index ?? args.length;
  const { values } = parseArgs({ args: args.slice(0, end), options: OPTIONS });
  const without = values.without.split(',').filter((name) => name !== '');
  const unknown = without.find((name) => !FEATURES.includes(name));
  if (unknown !== undefined) throw new Error(`--without ${unknown}: unknown feature; known: ${FEATURES.join(', ')}`);
  const command = args.slice(first?.kind === 'option-terminator' ? end + 1 : end);
  if (command.length === 0 && !values.help) throw new Error('no command given; see --help');
  const { junit, tap, help, filter, timeout, jobs } = values;
  const keyWords = values['with-key']?.split(' ') ?? null;
  const timeoutMs = 1000 * positive('timeout', timeout, false);
  return {
    command,
    keyWords,
    without,
    filter: new RegExp(filter),
    timeoutMs,
    jobs: positive('jobs', jobs, true),
    tap,
    junit,
    help,
  };
}
