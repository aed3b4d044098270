/** Addresses to listen on, and the access to a socket file: `mode=0660,user=NAME,group=NAME`. */
import { badArgument, toVproxyError } from '../../errors.js';
import type { HostPort } from '../../util/addresses/host-port.js';
import { escapeText } from '../../util/escape.js';
import { type Accounts, systemAccounts } from '../accounts.js';

/** A TCP address (port 0 picks one), or the path of a unix socket and its access. */
export type ListenAddress =
  | HostPort
  | {
      /** The path of a unix socket. */
      readonly path: string;
      /** Who may connect. Default: the user that runs this process. */
      readonly access?: FileAccess;
    };

/** The same, with the access as requested. */
export type AskedAddress = HostPort | { readonly path: string; readonly access?: SocketAccess | undefined };

/** Access as requested. */
export interface SocketAccess {
  /** Permissions. Default 0600. */
  readonly mode?: number;
  /** The owner, by name or number. Default: the user that runs this process. */
  readonly user?: string;
  readonly group?: string;
}

/** Access in system numbers; -1 leaves an owner unchanged. */
export interface FileAccess {
  /** Permissions, such as 0o660. */
  readonly mode: number;
  /** The number of the owner. */
  readonly uid: number;
  /** The number of the group. */
  readonly gid: number;
}

export const ACCESS_OPTIONS = ['mode', 'user', 'group'] as const;

/** Parses the options; null if none is present. Throws `bad-argument`. */
export function parseSocketAccess(values: ReadonlyMap<string, string>): SocketAccess | null {
  const [mode, user, group] = ACCESS_OPTIONS.map((key) => values.get(key));
  if (mode === undefined && user === undefined && group === undefined) return null;
  if (mode !== undefined && !/^0?[0-7]{3}$/.test(mode)) {
    throw badArgument(`mode=${escapeText(mode, 32)} is not an octal mode up to 0777, such as 0660`);
  }
  return {
    ...(mode === undefined ? {} : { mode: Number.parseInt(mode, 8) }),
    ...(user === undefined ? {} : { user }),
    ...(group === undefined ? {} : { group }),
  };
}

/** Formats an access as options; `parseSocketAccess` reads them back. */
export function formatSocketAccess({ mode, user, group }: SocketAccess): string[] {
  return [
    ...(mode === undefined ? [] : [`mode=${mode.toString(8).padStart(4, '0')}`]),
    ...(user === undefined ? [] : [`user=${user}`]),
    ...(group === undefined ? [] : [`group=${group}`]),
  ];
}

/**
 * Resolves the names to numbers. Rejects with `bad-argument` for an unknown user or group and a mode above 0777, and with
 * `address-unavailable` if accounts cannot be looked up now.
 */
export async function resolveSocketAccess(
  { mode = 0o600, user, group }: SocketAccess = {},
  accounts: Accounts = systemAccounts,
): Promise<FileAccess> {
  if (!(Number.isInteger(mode) && mode >= 0 && mode <= 0o777))
    throw badArgument(`mode: expected 0 to 0o777, not ${mode}`);
  try {
    const uid = user === undefined ? -1 : await accounts.userId(user);
    const gid = group === undefined ? -1 : await accounts.groupId(group);
    if (uid === null) throw badArgument(`no user "${escapeText(user ?? '', 64)}" on this machine`);
    if (gid === null) throw badArgument(`no group "${escapeText(group ?? '', 64)}" on this machine`);
    return { mode, uid, gid };
  } catch (error) {
    throw toVproxyError(error, 'address-unavailable');
  }
}

/** Resolves the access of an address. Rejects as {@link resolveSocketAccess} does. */
export async function resolveAddress(asked: AskedAddress): Promise<ListenAddress> {
  return 'path' in asked ? { path: asked.path, access: await resolveSocketAccess(asked.access) } : asked;
}
