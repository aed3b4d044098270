/** The path of a process's control socket. Kept free of imports: every command loads it. */

/** What the folder depends on. */
export interface ControlPlace {
  readonly isRoot: boolean;
  /** `XDG_RUNTIME_DIR`; null if not set. */
  readonly runtimeDirectory: string | null;
}

const FILE_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;

/** Reserved: `storage.sock` in the same folder is the storage broker's socket. */
const TAKEN_NAME = 'storage';

/** Whether a `--name` can name the control socket; otherwise the process id does. */
export function isControlName(name: string): boolean {
  return FILE_NAME.test(name) && name !== TAKEN_NAME;
}

/** Whether a file name in the folder of control sockets is that of a control socket. */
export function isControlSocketName(fileName: string): boolean {
  return fileName.endsWith('.sock') && fileName !== `${TAKEN_NAME}.sock`;
}

/** The folder of the control sockets: `/run/vproxy` for root, else `$XDG_RUNTIME_DIR/vproxy`; null without an absolute path. */
export function controlFolder({ isRoot, runtimeDirectory }: ControlPlace): string | null {
  if (isRoot) return '/run/vproxy';
  return runtimeDirectory?.startsWith('/') ? `${runtimeDirectory}/vproxy` : null;
}

/**
 * The path of a process's control socket: `NAME.sock` in the folder of control sockets. `name` is the name of the process
 * if valid (`isControlName`), else its process id. Null without a folder.
 */
export function controlSocketPath(name: string, place: ControlPlace): string | null {
  const folder = controlFolder(place);
  return folder === null ? null : `${folder}/${name}.sock`;
}
