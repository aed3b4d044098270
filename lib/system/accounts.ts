/** Users and groups of this machine by name and number. A missing /etc/passwd or /etc/group counts as empty. */
import { readFileSync } from 'node:fs';
import { systemCode } from '../errors.js';
import { Turns } from '../util/concurrency.js';
import { describeError, escapeText } from '../util/escape.js';
import { wholeLines } from './files/whole-lines.js';
import { runTool, type ToolResult } from './processes/run-tool.js';

/** A user account with everything needed to run a command. */
export interface UserAccount {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

const PASSWD_FILE = '/etc/passwd';
const GROUP_FILE = '/etc/group';

/** Values of empty fields (passwd(5)). */
const DEFAULT_SHELL = '/bin/sh';
const DEFAULT_HOME = '/';

interface AccountSources {
  /** Default `/etc/passwd`. */
  readonly passwdFile?: string;
  /** Default `/etc/group`. */
  readonly groupFile?: string;
  /** The name or path of getent(1); null: only the files count. Default `getent`. */
  readonly getent?: string | null;
  readonly timeoutMs?: number;
}

/** How long a directory service may take to answer, and how many questions to it run at once. */
const TIMEOUT_MS = 5000;
const MAX_LOOKUPS = 4;

/** A longer text names no account. */
const MAX_NAME_BYTES = 256;

/**
 * Looks accounts up as the system does: getent(1) asks what nsswitch.conf(5) names, such as LDAP, and decides. Only where it is
 * missing, as in an initramfs, or cannot be run, the files count. Each method rejects with a plain error if getent does not
 * answer in time, or a file cannot be read.
 */
export class Accounts {
  readonly #passwdFile: string;
  readonly #groupFile: string;
  readonly #getent: string | null;
  readonly #timeoutMs: number;
  readonly #turns = new Turns(MAX_LOOKUPS);

  constructor(sources: AccountSources = {}) {
    this.#passwdFile = sources.passwdFile ?? PASSWD_FILE;
    this.#groupFile = sources.groupFile ?? GROUP_FILE;
    this.#getent = sources.getent === undefined ? 'getent' : sources.getent;
    this.#timeoutMs = sources.timeoutMs ?? TIMEOUT_MS;
  }

  async findUser(name: string): Promise<UserAccount | null> {
    const line = await this.#ask('passwd', name);
    if (line === undefined) return findIn(this.#passwdFile, toAccounts, (account) => account.name === name);
    const [found] = toAccounts(line ?? '');
    // A number is taken for that of a user.
    return found === undefined || (isId(name) && found.name !== name) ? null : found;
  }

  /** The first account with that number, or null. Asks for every command, so /etc/passwd comes first. */
  async findUserById(uid: number): Promise<UserAccount | null> {
    const known = await findIn(this.#passwdFile, toAccounts, (account) => account.uid === uid);
    if (known !== null) return known;
    const line = (await this.#ask('passwd', String(uid))) ?? null;
    return toAccounts(line ?? '').find((account) => account.uid === uid) ?? null;
  }

  /** The first account with that number, or one without a name. */
  async describeUser(uid: number, gid: number): Promise<UserAccount> {
    const known = await this.findUserById(uid);
    return known ?? { name: String(uid), uid, gid, home: DEFAULT_HOME, shell: DEFAULT_SHELL };
  }

  /** Whether a user is a member of groups other than its primary one. */
  async hasOtherGroups({ name, gid }: UserAccount): Promise<boolean> {
    const line = await this.#ask('initgroups', name);
    // Not every getent has this table.
    if (typeof line === 'string') return new RegExp(`\\s(?!${gid}\\b)\\d{1,10}(?!\\S)`).test(line);
    const isMember = ([, , id = '', members = '']: string[]): boolean =>
      Number(id) !== gid && `,${members},`.includes(`,${name},`);
    return (await findIn(this.#groupFile, toRows, isMember)) !== null;
  }

  /** The number of a user given by name or number; null for an unknown name. */
  async userId(user: string): Promise<number | null> {
    return toId(user) ?? (await this.findUser(user))?.uid ?? null;
  }

  /** The number of a group given by name or number; null for an unknown name. */
  async groupId(group: string): Promise<number | null> {
    const id = toId(group);
    if (id !== null) return id;
    const line = await this.#ask('group', group);
    const found = line === undefined && (await findIn(this.#groupFile, toRows, ([name]) => name === group));
    return toId((found || line?.split(':', 3))?.[2] ?? '');
  }

  /** The line of a database for a key; null: none. Undefined: getent cannot tell. */
  async #ask(database: 'passwd' | 'group' | 'initgroups', key: string): Promise<string | null | undefined> {
    const getent = this.#getent;
    // An option is not a name either: not every getent knows `--`.
    if (key === '' || /^-|[:\n\0]/.test(key) || Buffer.byteLength(key) > MAX_NAME_BYTES) return null;
    if (getent === null) return undefined;
    // What is cut off of a longer line are members or groups, which come last.
    const limits = { timeoutMs: this.#timeoutMs };
    const result = await this.#turns
      .run(null, () => runTool([getent, database, key], limits))
      .catch((): ToolResult => ({ end: NOT_RUN, stdout: '', stderr: '' }));
    const { end, stdout } = result;
    const [line = ''] = stdout.split('\n', 1);
    if (line !== '') return line;
    if (end === NOT_FOUND) return null;
    if (end !== 'too-slow') return undefined;
    const what = `${database === 'group' ? 'group' : 'user'} "${escapeText(key, 64)}"`;
    throw new Error(`cannot look up ${what}: ${getent} did not answer within ${this.#timeoutMs / 1000} s`);
  }
}

/** For what the operator names; a peer's questions wait apart from these. */
export const systemAccounts = new Accounts();

/** The exit statuses of getent for a missing key, and of a shell for a program that cannot be run. */
const [NOT_FOUND, NOT_RUN] = [2, 126];

/** Groups may have many members. */
const MAX_LINE_BYTES = 2 ** 20;

/** The first number of a regular account, and that of nobody (login.defs(5)). */
const FIRST_PERSON = 1000;
const NOBODY = 65_534;

/** Whether accounts other than `userId` and root can log in; false if unknown. Never rejects. */
export async function hasOtherUsers(userId: number, file = PASSWD_FILE): Promise<boolean> {
  const isOther = ({ uid, shell }: UserAccount): boolean =>
    uid >= FIRST_PERSON && uid !== NOBODY && uid !== userId && !/\/(nologin|false)$/.test(shell);
  return (await findIn(file, toAccounts, isOther).catch(() => null)) !== null;
}

/**
 * Whether a group has no members but root and the user `userId`, as where each user has its own group; false for an unknown
 * group, or if the files cannot be read.
 */
export function isOwnGroup(gid: number, userId: number, passwdFile = PASSWD_FILE, groupFile = GROUP_FILE): boolean {
  try {
    const accounts = toAccounts(readFileSync(passwdFile, 'utf8'));
    const isOwn = (uid: number | undefined): boolean => uid === userId || uid === 0;
    const rows = toRows(readFileSync(groupFile, 'utf8')).filter(([, , id = '']) => isId(id) && Number(id) === gid);
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

/** The number that a text is; null for any other text. */
const toId = (text: string): number | null => (isId(text) && Number(text) <= MAX_ID ? Number(text) : null);

const isId = (text: string): boolean => /^\d{1,10}$/.test(text);

function toAccounts(text: string): UserAccount[] {
  return toRows(text).flatMap(([name = '', , uid = '', gid = '', , home = '', shell = '']) =>
    name === '' || !isId(uid) || !isId(gid)
      ? []
      : [{ name, uid: Number(uid), gid: Number(gid), home: home || DEFAULT_HOME, shell: shell || DEFAULT_SHELL }],
  );
}

const toRows = (text: string): string[][] => text.split('\n').map((line) => line.split(':', 7));

/** The first wanted one of the values in a file, which is read in turns of the event loop; null without one. */
async function findIn<T>(
  file: string,
  parse: (text: string) => readonly T[],
  isWanted: (value: T) => boolean,
): Promise<T | null> {
  try {
    for await (const lines of wholeLines(file, { maxLineBytes: MAX_LINE_BYTES })) {
      const found = parse(lines).find(isWanted);
      if (found !== undefined) return found;
    }
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw new Error(`${file}: ${describeError(error)}`, { cause: error });
  }
  return null;
}
