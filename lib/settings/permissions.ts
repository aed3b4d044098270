/** Permissions of a peer that can change this machine, and the ports announced to or by it, in files, requests and options. */
import { normalize } from 'node:path/posix';
import { badArgument } from '../errors.js';
import {
  formatPortForwarding,
  type PortForwarding,
  parsePortForwarding,
  parsePortRanges,
} from '../proxy/ports/port-rules.js';
import { type ClockFollowing, DEFAULT_THRESHOLD_MS } from '../services/clock/permission.js';
import type { CopyPermission } from '../services/copy/copy-service.js';
import type { ExecRules } from '../services/exec/decide-command.js';
import { joinWithCommas, parseKeyValues, splitAtCommas } from '../util/addresses/comma-options.js';
import { formatPortRanges, type PortRange } from '../util/addresses/host-port.js';
import { escapeText } from '../util/escape.js';
import { formatDuration, parseDuration } from '../util/units.js';
import { understood, type ValueType } from './value-type.js';

const EXEC_EXPECTED = 'true, false, or a list of paths, such as ["/usr/bin/uname"]';
const COPY_EXPECTED = 'true, false, or the path of a folder, such as "/srv/in"';

/** The most programs in a request. */
const MAX_PROGRAMS = 1000;

/** The programs that the peer may run: any, none (null), or those in a list, separated by commas in an option. */
export const execPermission: ValueType<ExecRules | null> = understood<ExecRules | null>({
  expected: EXEC_EXPECTED,
  none: null,
  read(value) {
    if (typeof value === 'boolean') return value ? { commands: 'any' } : null;
    if (!Array.isArray(value) || !value.every((path) => typeof path === 'string')) {
      throw badArgument(`expected ${EXEC_EXPECTED}`);
    }
    return value.length === 0 ? null : { commands: value.map(requireProgram) };
  },
  write(exec) {
    if (exec === null) return false;
    return exec.commands === 'any' || exec.commands;
  },
  parse: (text) => ({ commands: text === null ? 'any' : splitAtCommas(text).map(requireProgram) }),
  schema(z, form) {
    const programs = z.array(z.string());
    return z.union([z.boolean(), form === 'request' ? programs.max(MAX_PROGRAMS) : programs]);
  },
});

/** The files that the peer may read and write: all, none (null), or those in a folder. */
export const copyPermission: ValueType<CopyPermission | null> = understood<CopyPermission | null>({
  expected: COPY_EXPECTED,
  none: null,
  read(value) {
    if (typeof value === 'boolean') return value ? { root: null } : null;
    if (typeof value !== 'string') throw badArgument(`expected ${COPY_EXPECTED}`);
    return { root: requireFolder(value) };
  },
  write: (copy) => (copy === null ? false : (copy.root ?? true)),
  parse: (text) => ({ root: text === null ? null : requireFolder(text) }),
  schema: (z) => z.union([z.boolean(), z.string()]),
});

const CLOCK_EXPECTED = 'true, false, or a string such as "500ms,back=1h"';

/** How far the clock may be set back by default. */
const DEFAULT_BACK = '24h';

/** A smaller difference is within the noise of measurements on a busy machine. */
const LEAST_THRESHOLD_MS = 50;

/** How the clock follows the peer's: not (null), or beyond a difference. */
export const clockPermission: ValueType<ClockFollowing | null> = understood<ClockFollowing | null>({
  expected: CLOCK_EXPECTED,
  none: null,
  read(value) {
    if (typeof value === 'boolean') return value ? parseClock('') : null;
    if (typeof value === 'string') return parseClock(value);
    throw badArgument(`expected ${CLOCK_EXPECTED}`);
  },
  write(clock) {
    if (clock === null) return false;
    const back = clock.maxBackMs === 0 ? 'no' : formatDuration(clock.maxBackMs);
    return `${formatDuration(clock.thresholdMs)},back=${back}`;
  },
  parse: (text) => parseClock(text ?? ''),
  schema: (z) => z.union([z.boolean(), z.string()]),
});

/** Parses `[THRESHOLD][,back=TIME]`. Throws `bad-argument`. */
function parseClock(text: string): ClockFollowing {
  const [first = '', ...rest] = text.split(',');
  const { back = DEFAULT_BACK, ...others } = Object.fromEntries(parseKeyValues(rest));
  const thresholdMs = first === '' ? DEFAULT_THRESHOLD_MS : parseDuration(first);
  const maxBackMs = back === 'no' ? 0 : parseDuration(back);
  const isValid = thresholdMs !== null && thresholdMs >= LEAST_THRESHOLD_MS && Object.keys(others).length === 0;
  if (isValid && maxBackMs !== null) return { thresholdMs, maxBackMs };
  throw badArgument(
    `expected a time of at least ${LEAST_THRESHOLD_MS} ms, and how far back: 1s,back=1h, or 500ms,back=no`,
  );
}

const RANGES_EXPECTED = 'false, or a string of ports, such as "3000-9999,18080"';

/** Which ports are announced: none (null), or those in ranges. */
export const portAnnouncement: ValueType<readonly PortRange[] | null> = textOrNone(
  RANGES_EXPECTED,
  parsePortRanges,
  formatPortRanges,
);

/** Which announced ports are listened for: none (null), or those in ranges, at an address or in a folder. */
export const portForwarding: ValueType<PortForwarding | null> = textOrNone(
  `${RANGES_EXPECTED}, followed by address=IP or dir=/DIR`,
  parsePortForwarding,
  formatPortForwarding,
);

/** `false` means none. */
function textOrNone<T>(
  expected: string,
  parse: (text: string) => T,
  format: (value: T) => string,
): ValueType<T | null> {
  return understood<T | null>({
    expected,
    none: null,
    read(value) {
      if (value === false) return null;
      if (typeof value !== 'string') throw badArgument(`expected ${expected}`);
      return parse(value);
    },
    write: (value) => (value === null ? false : format(value)),
    parse: (text) => parse(text ?? ''),
    schema: (z, form) => z.union([form === 'request' ? z.boolean() : z.literal(false), z.string()]),
  });
}

/** The flag on a command line; null if none is needed. */
export function formatExecFlag(exec: ExecRules | null): string | null {
  if (exec === null) return null;
  return exec.commands === 'any' ? '--allow-exec' : `--allow-exec=${joinWithCommas(exec.commands)}`;
}

/** The flag on a command line; null if none is needed. */
export function formatCopyFlag(copy: CopyPermission | null): string | null {
  if (copy === null) return null;
  return copy.root === null ? '--allow-copy' : `--allow-copy=${copy.root}`;
}

function requireProgram(path: string): string {
  if (isPlain(path) && !path.endsWith('/')) return normalize(path);
  throw badArgument(`"${escapeText(path, 80)}" is not the absolute path of a program, such as /usr/bin/uname`);
}

/** The absolute path of a folder, without a slash at its end. Throws `bad-argument`. */
export function requireFolder(path: string): string {
  if (isPlain(path)) return normalize(path).replace(/(?<=.)\/$/, '');
  throw badArgument(`"${escapeText(path, 80)}" is not the absolute path of a folder, such as /srv/in`);
}

/** Whether a path is absolute and free of `..` and NUL. */
const isPlain = (path: string): boolean =>
  path.startsWith('/') && !path.includes('\0') && !path.split('/').includes('..');
