/** Users and groups of this machine, by name and by number: /etc/passwd and /etc/group. A file that is missing is an empty one. */
import { readFileSync } from 'node:fs';
import { badArgument, systemCode } from '../errors.js';
import { describeError, escapeText } from '../util/escape.js';

/** A user with all that a command is run with. */
export interface UserAccount {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

export const PASSWD_FILE = '/etc/passwd';
export const GROUP_FILE = '/etc/group';

/** What an empty field means (passwd(5)). */
const DEFAULT_SHELL = '/bin/sh';
const DEFAULT_HOME = '/';

/** All accounts of `file`, in its order, each name once. Throws errors of the system. */
export function listUsers(file: string): UserAccount[] {
  const names = new Set<string>();
  return readAccounts(file).filter(({ name }) => !names.has(name) && names.add(name));
}

/** The account of that name; null where `file` has none. Throws errors of the system. */
export function findUser(name: string, file: string): UserAccount | null {
  return readAccounts(file).find((account) => account.name === name) ?? null;
}

/** The first account of that number; where `file` has none, one without a name. Throws errors of the system. */
export function describeUser(uid: number, gid: number, file: string): UserAccount {
  const known = readAccounts(file).find((account) => account.uid === uid);
  return known ?? { name: String(uid), uid, gid, home: DEFAULT_HOME, shell: DEFAULT_SHELL };
}

/** Whether a user is a member of groups besides that of its account. Throws errors of the system. */
export function hasOtherGroups({ name, gid }: UserAccount, file: string): boolean {
  return readRows(file).some(([, , id = '', members = '']) => Number(id) !== gid && members.split(',').includes(name));
}

/** The number of a user, given by name or number. Throws `bad-argument` for one that is not in /etc/passwd. */
export function resolveUser(user: string): number {
  return resolve(user, PASSWD_FILE, 'user');
}

/** The number of a group, given by name or number. Throws `bad-argument` for one that is not in /etc/group. */
export function resolveGroup(group: string): number {
  return resolve(group, GROUP_FILE, 'group');
}

/** The first number of an account for people, and that of nobody (login.defs(5)). */
const FIRST_PERSON = 1000;
const NOBODY = 65_534;

/** Whether there are accounts with which people can log in, besides that of `userId` and root; false where nobody can tell. */
export function hasOtherUsers(userId: number, file = PASSWD_FILE): boolean {
  try {
    return readAccounts(file).some(
      ({ uid, shell }) => uid >= FIRST_PERSON && uid !== NOBODY && uid !== userId && !/\/(nologin|false)$/.test(shell),
    );
  } catch {
    return false;
  }
}

/**
 * Whether a group has nobody in it but root and the user `userId`, as where each user has a group of its own; false where it is
 * not known, or nobody can tell.
 */
export function isOwnGroup(gid: number, userId: number, passwdFile = PASSWD_FILE, groupFile = GROUP_FILE): boolean {
  try {
    const accounts = readAccounts(passwdFile);
    const isOwn = (uid: number | undefined): boolean => uid === userId || uid === 0;
    const rows = readRows(groupFile).filter(([, , id = '']) => isId(id) && Number(id) === gid);
    const members = rows.flatMap(([, , , names = '']) => names.split(',').filter((name) => name !== ''));
    const owners = accounts.filter((account) => account.gid === gid);
    return (
      rows.length > 0 &&
      owners.every(({ uid }) => isOwn(uid)) &&
      members.every((member) => isOwn(accounts.find(({ name }) => name === member)?.uid))
    );
  } catch {
    return false;
  }
}

/** The largest number that a user or a group can have; the one above means "none" to the system. */
const MAX_ID = 2 ** 32 - 2;

function resolve(name: string, file: string, what: string): number {
  if (isId(name) && Number(name) <= MAX_ID) return Number(name);
  // Both files have the name first and the number third.
  const id = rowOf(name, file)?.[2] ?? '';
  if (isId(id)) return Number(id);
  throw badArgument(`there is no ${what} "${escapeText(name, 64)}" in ${file}`);
}

function rowOf(name: string, file: string): string[] | undefined {
  try {
    return readRows(file).find((fields) => fields[0] === name);
  } catch (cause) {
    throw badArgument(`${file}: ${describeError(cause)}`, { cause });
  }
}

const isId = (text: string): boolean => /^\d{1,10}$/.test(text);

function readAccounts(file: string): UserAccount[] {
  return readRows(file).flatMap(([name = '', , uid = '', gid = '', , home = '', shell = '']) =>
    name === '' || !isId(uid) || !isId(gid)
      ? []
      : [{ name, uid: Number(uid), gid: Number(gid), home: home || DEFAULT_HOME, shell: shell || DEFAULT_SHELL }],
  );
}

function readRows(file: string): string[][] {
  try {
    return readFileSync(file, 'utf8')
      .split('\n')
      .map((line) => line.split(':'));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}
