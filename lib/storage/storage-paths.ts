/** Where wrapper and broker meet. Kept free of imports: the wrapper loads it. */

/** Values of the environment that say where the broker's socket is. */
export interface SocketEnvironment {
  /** A path given by the user; then no other is tried. Empty counts as not given. */
  readonly socketPath?: string | undefined;
  /** `XDG_RUNTIME_DIR`. */
  readonly runtimeDir?: string | undefined;
}

/** The paths at which the broker's unix socket may be, the preferred one first. */
export function storageSocketPaths({ socketPath, runtimeDir }: SocketEnvironment): string[] {
  if (socketPath) return [socketPath];
  const paths = ['/run/vproxy/storage.sock'];
  if (runtimeDir?.startsWith('/')) paths.push(`${runtimeDir}/vproxy/storage.sock`);
  return paths;
}
