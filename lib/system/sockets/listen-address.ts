/** Where to listen, and who may connect to the socket file that this makes: `mode=0660,user=NAME,group=NAME`. */
import { badArgument } from '../../errors.js';
import type { HostPort } from '../../util/addresses.js';
import { escapeText } from '../../util/escape.js';
import { resolveGroup, resolveUser } from '../accounts.js';

/** Where to listen: a TCP address (port 0 picks one), or the path of a unix socket and who may connect to it. */
export type ListenAddress =
  | HostPort
  | {
      /** The path of a unix socket. */
      readonly path: string;
      /** Who may connect to it. Default: who runs this process. */
      readonly access?: FileAccess;
    };

/** As it was asked for. */
export interface SocketAccess {
  /** Permissions. Default 0600. */
  readonly mode?: number;
  /** The owner, by name or number. Default: who runs this process. */
  readonly user?: string;
  readonly group?: string;
}

/** The same in the numbers of the system; -1 leaves an owner as it is. */
export interface FileAccess {
  /** Permissions, such as 0o660. */
  readonly mode: number;
  /** The number of the owner. */
  readonly uid: number;
  /** The number of the group. */
  readonly gid: number;
}

/** The keys of the options. */
export const ACCESS_OPTIONS = ['mode', 'user', 'group'] as const;

/** What the options say; null where none of them is there. Throws `bad-argument`. */
export function parseSocketAccess(values: ReadonlyMap<string, string>): SocketAccess | null {
  const [mode, user, group] = ACCESS_OPTIONS.map((key) => values.get(key));
  if (mode === undefined && user === undefined && group === undefined) return null;
  if (mode !== undefined && !/^0?[0-7]{3}$/.test(mode)) {
    throw badArgument(`mode=${escapeText(mode, 32)} is not three octal digits, such as 0660`);
  }
  return {
    ...(mode === undefined ? {} : { mode: Number.parseInt(mode, 8) }),
    ...(user === undefined ? {} : { user }),
    ...(group === undefined ? {} : { group }),
  };
}

/** The options of an access; `parseSocketAccess` reads them back. */
export function formatSocketAccess({ mode, user, group }: SocketAccess): string[] {
  return [
    ...(mode === undefined ? [] : [`mode=${mode.toString(8).padStart(4, '0')}`]),
    ...(user === undefined ? [] : [`user=${user}`]),
    ...(group === undefined ? [] : [`group=${group}`]),
  ];
}

/** The numbers for the names. Throws `bad-argument` for a user or a group that is not known. */
export function resolveSocketAccess({ mode, user, group }: SocketAccess = {}): FileAccess {
  return {
    mode: mode ?? 0o600,
    uid: user === undefined ? -1 : resolveUser(user),
    gid: group === undefined ? -1 : resolveGroup(group),
  };
}
