/** The options of a character device of QEMU, and those of a channel that stand between them. */
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';

/**
 * What QEMU knows behind a `-chardev` that could be a channel: words that are on or off, and others. None of them is also an
 * option of a channel, so each option behind `qemu:` belongs to one of the two.
 */
export const QEMU_OPTIONS = {
  flags: [
    ...['server', 'wait', 'delay', 'nodelay', 'telnet', 'tn3270', 'websocket', 'ipv4', 'ipv6', 'abstract', 'tight'],
    ...['mux', 'logappend'],
  ],
  values: [
    ...['id', 'path', 'host', 'port', 'to', 'reconnect', 'reconnect-ms', 'tls-creds', 'tls-authz', 'fd', 'logfile'],
  ],
} as const;

const FLAGS: readonly string[] = QEMU_OPTIONS.flags;
const VALUES: readonly string[] = QEMU_OPTIONS.values;

/** The options of QEMU in a spelling. */
export class QemuOptions {
  readonly #values: ReadonlyMap<string, string>;

  constructor(values: ReadonlyMap<string, string>) {
    this.#values = values;
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** The value of an option. Throws `bad-argument` where it is not there. */
  text(name: string): string {
    const value = this.#values.get(name);
    if (value === undefined) throw bad(`${name}= is missing`);
    return value;
  }

  /** Whether an option is on; undefined where nothing is said. Throws `bad-argument` for another value. */
  flag(name: string): boolean | undefined {
    const value = this.#values.get(name);
    if (value === undefined) return undefined;
    if (['on', 'yes', 'true', 'y'].includes(value)) return true;
    if (['off', 'no', 'false', 'n'].includes(value)) return false;
    throw bad(`has ${name}=${escapeText(value)}, which should be on or off`);
  }
}

/** QEMU's options, of which the last one of a name counts as it does there, and all others. Throws `bad-argument`. */
export function splitQemuOptions(parts: readonly string[]): {
  readonly qemu: QemuOptions;
  readonly others: readonly string[];
} {
  const values = new Map<string, string>();
  const others: string[] = [];
  for (const part of parts) {
    const [name, value] = parseOption(part);
    if (FLAGS.includes(name) || VALUES.includes(name)) values.set(name, value);
    else others.push(part);
  }
  const qemu = new QemuOptions(values);
  for (const name of FLAGS) qemu.flag(name);
  return { qemu, others };
}

/** `server=on`, or as it was in former times: `server`, `nowait`. */
function parseOption(part: string): readonly [name: string, value: string] {
  const [, name, value = ''] = /^([^=]*)=(.*)$/s.exec(part) ?? [];
  if (name !== undefined) return [name, value];
  if (FLAGS.includes(part)) return [part, 'on'];
  return part.startsWith('no') && FLAGS.includes(part.slice(2)) ? [part.slice(2), 'off'] : ['', ''];
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
