/** The path of the broker's socket. Kept free of imports: the wrapper loads it. */

/** Environment variables that determine the broker's socket. */
export interface SocketEnvironment {
  /** A path set by the user; no other is tried then. Empty counts as not set. */
  readonly socketPath?: string | undefined;
  /** `XDG_RUNTIME_DIR`. */
  readonly runtimeDir?: string | undefined;
}

/** The candidate paths of the broker's unix socket, the preferred one first. */
export function storageSocketPaths({ socketPath, runtimeDir }: SocketEnvironment): string[] {
  if (socketPath) return [socketPath];
  const paths = ['/run/vproxy/storage.sock'];
  if (runtimeDir?.startsWith('/')) paths.push(`${runtimeDir}/vproxy/storage.sock`);
  return paths;
}
