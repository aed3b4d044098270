/** The words behind a command, checked against what it takes. */
import { parseArgs } from 'node:util';
import { VproxyError } from '../../lib/errors.js';
import { closestWord } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';

/** What was given to a command. */
export class Arguments {
  /** Whatever is no option, in its order. */
  readonly operands: readonly string[];
  readonly #values: ReadonlyMap<string, readonly string[]>;

  constructor(values: ReadonlyMap<string, readonly string[]>, operands: readonly string[]) {
    this.#values = values;
    this.operands = operands;
  }

  /** Whether a flag is there. */
  has(option: string): boolean {
    return this.#values.has(option);
  }

  /** All values of an option. */
  texts(option: string): readonly string[] {
    return this.#values.get(option) ?? [];
  }

  /** The value of an option; undefined where it is not there. */
  text(option: string): string | undefined {
    return this.#values.get(option)?.[0];
  }

  /** The value of an option that is a number from `least` to `most`. Throws `bad-argument`. */
  number(option: string, unit: string, least: number, most: number): number | undefined {
    const value = this.text(option);
    if (value === undefined) return undefined;
    const parsed = /^\d{1,10}(\.\d{1,3})?$/.test(value) ? Number(value) : Number.NaN;
    if (parsed >= least && parsed <= most) return parsed;
    throw bad(`--${option}: ${quote(value)} is not a number of ${unit} from ${least} to ${most}`);
  }
}

/** The arguments of a command. Throws `bad-argument`, naming the word and what would be right. */
export function parseArguments(command: Command, words: readonly string[]): Arguments {
  const options: CommandOptions = { ...commonOptions(command), ...command.options };
  const { tokens } = parseArgs({
    args: [...(command.normalize?.(words) ?? words)],
    strict: false,
    tokens: true,
    allowPositionals: true,
    options: Object.fromEntries(
      Object.entries(options).map(([name, { value, short }]) => [
        name,
        { type: value === undefined ? 'boolean' : 'string', multiple: true, ...(short === undefined ? {} : { short }) },
      ]),
    ),
  });
  const values = new Map<string, string[]>();
  const operands: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') operands.push(token.value);
    if (token.kind !== 'option') continue;
    const { name, rawName, value, inlineValue } = token;
    const option = Object.hasOwn(options, name) ? options[name] : undefined;
    if (option === undefined) throw unknownOption(rawName, options);
    const given = values.get(name) ?? [];
    if (given.length > 0 && option.value !== undefined && option.isRepeatable !== true) {
      throw bad(`${rawName}: one is expected, but it is there more than once`);
    }
    values.set(name, [...given, valueOf(rawName, option.value, value, inlineValue)]);
  }
  requireOperands(command, operands, values.has('help'));
  return new Arguments(values, operands);
}

function valueOf(
  name: string,
  wanted: string | undefined,
  value: string | undefined,
  isInline: boolean | undefined,
): string {
  if (wanted === undefined) {
    if (value !== undefined) throw bad(`${name}: it takes no value`);
    return '';
  }
  // Another option where a value should be was hardly meant as one; behind "=" it may stand.
  if (value === undefined || (isInline === false && value.startsWith('-') && value !== '-')) {
    throw bad(`${name}: its value is missing; expected ${name} ${wanted}`);
  }
  if (value === '') throw bad(`${name}: its value is empty`);
  return value;
}

function requireOperands({ usage, operands = [] }: Command, given: readonly string[], isHelp: boolean): void {
  const hasMany = operands.some((operand) => operand.endsWith('…'));
  const extra = hasMany ? undefined : given[operands.length];
  if (extra !== undefined) throw bad(`${quote(extra)}: there is nothing that it could be; usage: vproxy ${usage}`);
  const missing = operands[given.length];
  if (missing === undefined || missing.startsWith('[') || isHelp) return;
  throw bad(`${missing.replace('…', '')} is missing; usage: vproxy ${usage}`);
}

function unknownOption(rawName: string, options: CommandOptions): VproxyError {
  const close = closestWord(rawName.replace(/^-+/, ''), Object.keys(options));
  const hint = close === undefined ? 'see --help' : `did you mean --${close}?`;
  return bad(`${escapeText(rawName, 64)}: no such option; ${hint}`);
}

const quote = (value: string): string => `"${escapeText(value, 64)}"`;

const bad = (message: string): VproxyError => new VproxyError('bad-argument', message);

// The options that many commands take.

/** Every command takes these, */
const HELP_OPTION = {
  help: { short: 'h', describe: 'Show this help' },
} as const satisfies CommandOptions;

/** and those that are for a vproxy that runs, also these. */
const PROCESS_OPTIONS = {
  socket: {
    value: 'PATH',
    describe: 'Control socket of the process [default: $VPROXY_SOCKET, else the only one there is]',
  },
  name: { value: 'NAME', describe: 'Name, or number, of the process' },
} as const satisfies CommandOptions;

/** What a command takes besides its own options. */
export const commonOptions = ({ isLocal = false }: Pick<Command, 'isLocal'>): CommandOptions =>
  isLocal ? HELP_OPTION : { ...PROCESS_OPTIONS, ...HELP_OPTION };

/** For a command that prints facts. */
export const JSON_OPTION = {
  json: { describe: 'Print what the process says, as JSON' },
} as const satisfies CommandOptions;

/** For a command that is about a channel. */
export const CHANNEL_OPTION = {
  channel: { value: 'LABEL', describe: 'The channel [default: the only one]' },
} as const satisfies CommandOptions;

/** For a command that lists what belongs to channels. */
export const CHANNEL_FILTER = {
  channel: { value: 'LABEL', describe: 'Only what belongs to this channel' },
} as const satisfies CommandOptions;

// What a command that steers a running vproxy is made of. Types alone.

/** One option. */
export interface CommandOption {
  /** What its value is called in the help, such as `SECONDS`; without one it is a flag. */
  readonly value?: string;
  /** Its letter. */
  readonly short?: string;
  /** Whether it may be given more than once. Default false. */
  readonly isRepeatable?: boolean;
  readonly describe: string;
  /** Whether it is taken, and not listed in the help. Default false. */
  readonly isHidden?: boolean;
}

/** The options of a command by their long names. */
export type CommandOptions = Readonly<Record<string, CommandOption>>;

/** One command: each file in cli/commands/ has one. */
export interface Command {
  /** What stands behind `vproxy` in its usage, such as `ping [-c COUNT]`. */
  readonly usage: string;
  /** What it does, in sentences for the help. */
  readonly about: string;
  /** Whether it needs no vproxy that runs. Default false. */
  readonly isLocal?: boolean;
  /** Its own options; `--help` is added, and `--socket` and `--name` unless it is local. */
  readonly options: CommandOptions;
  /** What its operands are called; those that begin with `[` may be missing, and one that ends in `…` may be many. Default: none. */
  readonly operands?: readonly string[];
  /** Sets words apart before they are parsed; throws `bad-argument`. Default: as they are. */
  normalize?(words: readonly string[]): readonly string[];
  /** Does it. Resolves with the exit status, 0 where there is none. */
  run(args: Arguments): Promise<number | undefined> | Promise<void>;
}
