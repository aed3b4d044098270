/** Denials by SELinux and AppArmor, from the ends of the kernel's logs. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';

/** How much of the end of a log is read, and how many records of the kernel's own. */
const MAX_BYTES = 512 * 1024;
const MAX_RECORDS = 10_000;

/** Older denials are ignored, in milliseconds. */
const MAX_AGE_MS = 86_400_000;

const MAX_SHOWN = 5;

/**
 * Reports the newest denials, identical ones once. `paths`: those of channels, forwards and keys; for vproxy and QEMU any path
 * counts.
 */
export function checkDenials(machine: Machine, { paths }: { readonly paths: readonly string[] }): Finding[] {
  const { logs, nowMs } = machine.options;
  const texts = logs.map(readEnd).filter((text) => text !== null);
  const isActive =
    machine.readSys('fs/selinux/enforce') !== null || machine.readSys('module/apparmor/parameters/enabled') === 'Y';
  if (texts.length === 0)
    return isActive
      ? [finding('denials-unseen', `cannot read any of ${logs.map((log) => escapeText(log)).join(', ')}`)]
      : [];
  const denials = new Map<string, Denial>();
  for (const line of texts.flatMap((text) => text.split('\n'))) {
    const denial = parseDenial(line);
    if (denial === null || !concerns(denial, paths)) continue;
    if (denial.atMs !== null && nowMs - denial.atMs > MAX_AGE_MS) continue;
    const key = `${denial.by} ${denial.program} ${denial.what} ${denial.path}`;
    denials.set(key, { ...denial, count: (denials.get(key)?.count ?? 0) + 1 });
  }
  if (denials.size === 0)
    return [
      finding(
        'denials-none',
        `no denials by SELinux or AppArmor concern vproxy${isActive ? '' : '; neither is active'}`,
      ),
    ];
  return [...denials.values()].slice(-MAX_SHOWN).map(describe);
}

interface Denial {
  readonly by: 'selinux' | 'apparmor';
  readonly program: string;
  /** `connectto unix_stream_socket`, `connect`. */
  readonly what: string;
  readonly path: string;
  /** The domain and the label, or the profile. */
  readonly context: string;
  /** Whether it was only logged. */
  readonly isPermissive: boolean;
  readonly atMs: number | null;
  readonly count: number;
}

/** Parses an audit line; null for any other. Values are quoted, or hexadecimal if they contain quotes or spaces. */
function parseDenial(line: string): Denial | null {
  const [, seconds] = /audit\((\d+)\.\d+:\d+\)/.exec(line) ?? [];
  const value = (key: string): string => {
    const [, quoted, bare = ''] = new RegExp(`(?:^|[ ,])${key}=(?:"([^"]*)"|(\\S+))`).exec(line) ?? [];
    if (quoted !== undefined) return quoted;
    return HEX_KEYS.has(key) && /^([0-9A-F]{2})+$/.test(bare) ? Buffer.from(bare, 'hex').toString() : bare;
  };
  const common = { atMs: seconds === undefined ? null : Number(seconds) * 1000, count: 1 };
  const [, permission] = /avc: +denied +\{ ([^}]*) \}/.exec(line) ?? [];
  if (permission !== undefined) {
    return {
      by: 'selinux',
      program: value('comm'),
      what: `${permission} ${value('tclass')}`,
      path: value('path') || value('name'),
      context: `${value('scontext')} to ${value('tcontext')}`,
      isPermissive: value('permissive') === '1',
      ...common,
    };
  }
  if (!/apparmor="(DENIED|ALLOWED)"/.test(line)) return null;
  return {
    by: 'apparmor',
    program: value('comm'),
    what: `${value('operation')} ${value('requested_mask')}`.trim(),
    path: value('name') || value('addr'),
    context: `profile ${value('profile')}`,
    isPermissive: line.includes('apparmor="ALLOWED"'),
    ...common,
  };
}

const HEX_KEYS: ReadonlySet<string> = new Set(['comm', 'name', 'path', 'profile']);

function concerns({ program, path, context }: Denial, paths: readonly string[]): boolean {
  if (/^(vproxy|qemu)/.test(program) || /vproxy|svirt_t|libvirt-[0-9a-f]{8}-/.test(context)) return true;
  // SELinux often logs only the file name.
  return path !== '' && paths.some((own) => own === path || own.endsWith(`/${path}`));
}

function describe({ by, program, what, path, context, isPermissive, atMs, count }: Denial): Finding {
  const when = atMs === null ? '' : `, last at ${new Date(atMs).toISOString()}`;
  const times = count === 1 ? 'once' : `${count} times`;
  const message = `${escapeText(program, 32)} was ${isPermissive ? 'permitted (only logged)' : 'denied'} ${escapeText(what, 80)} of ${escapeText(path) || 'an unknown path'} (${escapeText(context, 200)}; ${times}${when})`;
  return finding(by === 'selinux' ? 'selinux-denied' : 'apparmor-denied', message);
}

/** Reads the end of a log; null if unreadable. A device yields one record per read, without blocking. */
function readEnd(path: string): string | null {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return null;
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) return readRecords(fd);
    const bytes = Buffer.alloc(Math.min(MAX_BYTES, stats.size));
    return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, stats.size - bytes.length));
  } catch {
    return null;
  } finally {
    closeSync(fd);
  }
}

function readRecords(fd: number): string {
  const room = Buffer.alloc(8192);
  const records: string[] = [];
  for (let count = 0; count < MAX_RECORDS; count++) {
    try {
      const length = readSync(fd, room);
      if (length === 0) break;
      records.push(room.toString('utf8', 0, length));
    } catch (error) {
      // Records were overwritten meanwhile: the next read continues with the oldest one left.
      if ((error as NodeJS.ErrnoException).code === 'EPIPE') continue;
      break;
    }
  }
  return records.join('');
}
