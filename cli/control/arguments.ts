/** The words behind a command, checked against what it takes. */
import { parseArgs } from 'node:util';
import { VproxyError } from '../../lib/errors.js';
import { closestWord } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Command, CommandOptions } from './command.js';
import { commonOptions } from './common-options.js';

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
