/** A user of this machine with all that a command is run with: /etc/passwd and /etc/group. */
import { readFile } from 'node:fs/promises';
import { systemCode } from '../errors.js';

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
