/** Users and groups of this machine by name and number, from /etc/passwd and /etc/group. A missing file counts as empty. */
import { readFileSync } from 'node:fs';
import { badArgument, systemCode } from '../errors.js';
import { describeError, escapeText } from '../util/escape.js';

/** A user account with everything needed to run a command. */
export interface UserAccount {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

export const PASSWD_FILE = '/etc/passwd';
export const GROUP_FILE = '/etc/group';

/** Values of empty fields (passwd(5)). */
const DEFAULT_SHELL = '/bin/sh';
const DEFAULT_HOME = '/';

/** All accounts in `file`, in order; duplicate names are dropped. Throws system errors. */
export function listUsers(file: string): UserAccount[] {
  const names = new Set<string>();
  return readAccounts(file).filter(({ name }) => !names.has(name) && names.add(name));
}

/** The account with that name, or null. Throws system errors. */
export function findUser(name: string, file: string): UserAccount | null {
  return readAccounts(file).find((account) => account.name === name) ?? null;
}

/** The first account with that number, or one without a name. Throws system errors. */
export function describeUser(uid: number, gid: number, file: string): UserAccount {
  const known = readAccounts(file).find((account) => account.uid === uid);
  return known ?? { name: String(uid), uid, gid, home: DEFAULT_HOME, shell: DEFAULT_SHELL };
}

/** Whether a user is a member of groups other than its primary one. Throws system errors. */
export function hasOtherGroups({ name, gid }: UserAccount, file: string): boolean {
  return readRows(file).some(([, , id = '', members = '']) => Number(id) !== gid && members.split(',').includes(name));
}

/** The number of a user given by name or number. Throws `bad-argument` if it is not in /etc/passwd. */
export function resolveUser(user: string): number {
  return resolve(user, PASSWD_FILE, 'user');
}

/** The number of a group given by name or number. Throws `bad-argument` if it is not in /etc/group. */
export function resolveGroup(group: string): number {
  return resolve(group, GROUP_FILE, 'group');
}

/** The first number of a regular account, and that of nobody (login.defs(5)). */
const FIRST_PERSON = 1000;
const NOBODY = 65_534;

/** Whether accounts other than `userId` and root can log in; false if unknown. */
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
 * Whether a group has no members but root and the user `userId`, as where each user has its own group; false for an unknown
 * group, or if the files cannot be read.
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

/** The largest user or group number; the next one means "none" to the system. */
const MAX_ID = 2 ** 32 - 2;

function resolve(name: string, file: string, what: string): number {
  if (isId(name) && Number(name) <= MAX_ID) return Number(name);
  // Both files have the name in the first field and the number in the third.
  const id = rowOf(name, file)?.[2] ?? '';
  if (isId(id)) return Number(id);
  throw badArgument(`no ${what} "${escapeText(name, 64)}" in ${file}`);
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
