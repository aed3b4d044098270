/** Users and groups of this machine, by name: /etc/passwd and /etc/group. */
import { readFileSync } from 'node:fs';
import { VproxyError } from '../errors.js';
import { escapeText } from './escape.js';

/** The number of a user, given by name or number. Throws `bad-argument` for one that is not in `file`. */
export function resolveUser(user: string, file = '/etc/passwd'): number {
  return resolve(user, file, 'user');
}

/** The number of a group, given by name or number. Throws `bad-argument` for one that is not in `file`. */
export function resolveGroup(group: string, file = '/etc/group'): number {
  return resolve(group, file, 'group');
}

/** The first number of an account for people, and that of nobody (login.defs(5)). */
const FIRST_PERSON = 1000;
const NOBODY = 65_534;

/** Whether there are accounts with which people can log in, besides that of `userId` and root. */
export function hasOtherUsers(userId: number, file = '/etc/passwd'): boolean {
  return readLines(file).some(([, , id = '', , , , shell = '']) => {
    const number = /^\d{1,10}$/.test(id) ? Number(id) : 0;
    return number >= FIRST_PERSON && number !== NOBODY && number !== userId && !/\/(nologin|false)$/.test(shell);
  });
}

/** The largest number that a user or a group can have; the one above means "none" to the system. */
const MAX_ID = 2 ** 32 - 2;

function resolve(name: string, file: string, what: string): number {
  if (/^\d{1,10}$/.test(name) && Number(name) <= MAX_ID) return Number(name);
  // Both files have the name first and the number third.
  const row = readLines(file).find((fields) => fields[0] === name);
  const id = row?.[2] ?? '';
  if (/^\d{1,10}$/.test(id)) return Number(id);
  throw new VproxyError('bad-argument', `there is no ${what} "${escapeText(name, 64)}" in ${file}`);
}

function readLines(file: string): string[][] {
  try {
    return readFileSync(file, 'utf8')
      .split('\n')
      .map((line) => line.split(':'));
  } catch {
    return [];
  }
}
