/** The arguments of a command. */
import { badArgument, type VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';
import { DURATION_FORM, formatUnits, parseDuration, parseUnits, SIZES } from '../../lib/util/units.js';

export { badArgument };

/** The options and the operands of a command line, read and checked. */
export class Arguments {
  /** The words that are not options, in order. */
  readonly operands: readonly string[];
  /** The number of operands before `--`; null without one. */
  readonly separatorAt: number | null;
  readonly #values: ReadonlyMap<string, readonly string[]>;

  constructor(
    values: ReadonlyMap<string, readonly string[]>,
    operands: readonly string[],
    separatorAt: number | null = null,
  ) {
    this.#values = values;
    this.operands = operands;
    this.separatorAt = separatorAt;
  }

  has(option: string): boolean {
    return this.#values.has(option);
  }

  /** All values of an option; an empty string for each occurrence of a flag. */
  texts(option: string): readonly string[] {
    return this.#values.get(option) ?? [];
  }

  /** The value of an option; undefined if it was not given. */
  text(option: string): string | undefined {
    return this.#values.get(option)?.[0];
  }

  /** The value of an option as a number from `least` to `most` with at most three decimals. Throws `bad-argument`. */
  number(option: string, least: number, most: number): number | undefined {
    return this.#parseNumber(option, 'a number', least, most);
  }

  /** The value of an option as a whole number, `what`, from `least` to `most`. Throws `bad-argument`. */
  whole(option: string, what: string, least: number, most: number): number | undefined {
    const value = this.#parseNumber(option, what, least, most);
    if (value === undefined || Number.isInteger(value)) return value;
    throw this.#notNumber(option, `${what} from ${least} to ${most}`);
  }

  /**
   * The value of an option as a time from `least` to `most`, in seconds: a number with at most three decimals, or a text
   * with units such as `1h30m`. Throws `bad-argument`.
   */
  seconds(option: string, least: number, most: number): number | undefined {
    const ms = parseDuration(this.text(option) ?? '');
    if (ms !== null && ms >= least * 1000 && ms <= most * 1000) return ms / 1000;
    return this.#parseNumber(option, 'a number of seconds', least, most, `, or ${DURATION_FORM}`);
  }

  /** The value of an option as a number of bytes up to `most`, such as `64KiB`. Throws `bad-argument`. */
  bytes(option: string, most = Number.MAX_SAFE_INTEGER): number | undefined {
    const value = this.text(option);
    if (value === undefined) return undefined;
    const bytes = parseUnits(value, SIZES) ?? Number.NaN;
    if (bytes <= most) return bytes;
    throw this.#notNumber(option, `a number of bytes up to ${formatUnits(most, SIZES)}`);
  }

  #parseNumber(option: string, what: string, least: number, most: number, also = ''): number | undefined {
    const value = this.text(option);
    if (value === undefined) return undefined;
    const parsed = /^\d{1,10}(\.\d{1,3})?$/.test(value) ? Number(value) : Number.NaN;
    if (parsed >= least && parsed <= most) return parsed;
    throw this.#notNumber(option, `${what} from ${least} to ${most}${also}`);
  }

  #notNumber(option: string, expected: string): VproxyError {
    return badArgument(`--${option}: "${escapeText(this.text(option) ?? '', 64)}" is not ${expected}`);
  }
}
