/** Attributes of files: as SFTP sends them, as `ls -ln` shows them, and as clients set them. */
import fs, { type Stats } from 'node:fs';
import { chmod, chown, truncate, utimes } from 'node:fs/promises';
import { promisify } from 'node:util';
import { systemError } from '../copy/named-paths.js';
import { ATTRIBUTE, type SetAttributes, type SftpValue } from './sftp-packets.js';

const ftruncate = promisify(fs.ftruncate);

const SENT = ATTRIBUTE.SIZE | ATTRIBUTE.OWNER | ATTRIBUTE.MODE | ATTRIBUTE.TIMES;

/** Seconds since 1970, in 32 bits. */
const secondsOf = (ms: number): number => Math.floor(ms / 1000) >>> 0;

export const attributesOf = ({ size, uid, gid, mode, atimeMs, mtimeMs }: Stats): SftpValue[] => [
  ...[SENT, BigInt(size), uid, gid, mode, secondsOf(atimeMs), secondsOf(mtimeMs)],
];

/** The letters of the kinds of files, by the bits of a mode. */
const KINDS = '?pc?d?b?-?l?s???';

const HALF_A_YEAR_MS = (365 * 86_400_000) / 2;

function describeMode(mode: number): string {
  const letters = Array.from('rwxrwxrwx', (letter, bit) => (((mode >> (8 - bit)) & 1) === 1 ? letter : '-'));
  // Sticky, setgid and setuid.
  ['tT', 'sS', 'sS'].forEach((pair, bit) => {
    if (((mode >> (9 + bit)) & 1) === 1) letters[8 - 3 * bit] = pair.charAt(letters[8 - 3 * bit] === 'x' ? 0 : 1);
  });
  return KINDS.charAt((mode >> 12) & 15) + letters.join('');
}

/** A line for an entry, like that of `ls -ln`. */
export function describeEntry(name: string, { mode, nlink, uid, gid, size, mtime }: Stats): string {
  const ageMs = Date.now() - mtime.getTime();
  const isRecent = ageMs >= 0 && ageMs <= HALF_A_YEAR_MS;
  const [, month, date, year, time] = String(mtime).split(' ');
  const changed = `${month} ${String(Number(date)).padStart(2)} ${isRecent ? time?.slice(0, 5) : ` ${year}`}`;
  const [links, user, group] = [String(nlink).padStart(4), String(uid).padEnd(8), String(gid).padEnd(8)];
  return `${describeMode(mode)} ${links} ${user} ${group} ${String(size).padStart(8)} ${changed} ${name}`;
}

/** The permissions for a new entry. As in copies, no program gets the rights of its owner. */
export const modeOf = ({ mode }: SetAttributes, usual: number): number => (mode ?? usual) & 0o1777;

/** Sets what a client wants, in the order of OpenSSH; rejects with the last error. `fd` is that of an open file, or null. */
export async function setAttributes(at: Buffer, set: SetAttributes, fd: number | null): Promise<void> {
  const { size, mode, times, owner } = set;
  const steps = [
    size !== undefined && (() => setSize(at, size, fd)),
    mode !== undefined && (() => chmod(at, modeOf(set, mode))),
    times !== undefined && (() => utimes(at, ...times)),
    owner !== undefined && (() => chown(at, ...owner)),
  ];
  let outcome = Promise.resolve();
  for (const step of steps) {
    const done = step ? step() : outcome;
    await done.catch(() => {
      outcome = done;
    });
  }
  return outcome;
}

async function setSize(at: Buffer, size: bigint, fd: number | null): Promise<void> {
  if (size > Number.MAX_SAFE_INTEGER) throw systemError('EINVAL');
  await (fd === null ? truncate(at, Number(size)) : ftruncate(fd, Number(size)));
}
