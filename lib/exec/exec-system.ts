/** What the machine is like on which commands are run. */

export interface ExecSystem {
  /** Who this process is. */
  readonly uid: number;
  readonly gid: number;
  readonly passwdFile: string;
  readonly groupFile: string;
  /** Where util-linux's setpriv(1) may be, which gives a command all groups of its user. */
  readonly setprivFiles: readonly string[];
  /** `PATH` of commands. */
  readonly path: string;
  /** `LANG` of commands; null: none. */
  readonly lang: string | null;
}

/** `PATH` where nothing else is said. */
export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** This machine. */
export const thisSystem = (): ExecSystem => ({
  uid: process.getuid?.() ?? 0,
  gid: process.getgid?.() ?? 0,
  passwdFile: '/etc/passwd',
  groupFile: '/etc/group',
  setprivFiles: ['/usr/bin/setpriv', '/bin/setpriv'],
  path: DEFAULT_PATH,
  lang: null,
});
