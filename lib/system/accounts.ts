/** A user of this machine with all that a command is run with: /etc/passwd and /etc/group. */

import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { systemCode, VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';

/** A row of /etc/passwd. */
export interface UserAccount {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

/** What a field of /etc/passwd that is empty means. */
const DEFAULT_SHELL = '/bin/sh';
const DEFAULT_HOME = '/';

/** The account of that name; null where there is none in `file`. A file that is missing is an empty one. Rejects with other errors of the system. */
export async function findUser(name: string, file: string): Promise<UserAccount | null> {
  return (await readAccounts(file)).find((account) => account.name === name) ?? null;
}

/** The first account of that number; one without a name where there is none in `file`. A file that is missing is an empty one. Rejects with other errors of the system. */
export async function describeUser(uid: number, gid: number, file: string): Promise<UserAccount> {
  const known = (await readAccounts(file)).find((account) => account.uid === uid);
  return known ?? { name: String(uid), uid, gid, home: DEFAULT_HOME, shell: DEFAULT_SHELL };
}

/** Whether a user is a member of groups besides that of its account. A file that is missing is an empty one. Rejects with other errors of the system. */
export async function hasOtherGroups({ name, gid }: UserAccount, file: string): Promise<boolean> {
  return (await readRows(file)).some(
    ([, , id = '', members = '']) => Number(id) !== gid && members.split(',').includes(name),
  );
}

async function readAccounts(file: string): Promise<UserAccount[]> {
  const accounts: UserAccount[] = [];
  for (const [name = '', , uid = '', gid = '', , home = '', shell = ''] of await readRows(file)) {
    if (name === '' || !/^\d{1,10}$/.test(uid) || !/^\d{1,10}$/.test(gid)) continue;
    accounts.push({
      name,
      uid: Number(uid),
      gid: Number(gid),
      home: home === '' ? DEFAULT_HOME : home,
      shell: shell === '' ? DEFAULT_SHELL : shell,
    });
  }
  return accounts;
}

async function readRows(file: string): Promise<string[][]> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return '';
    throw error;
  });
  return text.split('\n').map((line) => line.split(':'));
}

// Users and groups of this machine, by name: /etc/passwd and /etc/group.

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
