/** The wrapper that replaces a storage controller's utility. It imports as little as possible: see docs/storage.md. */

import { VproxyError } from '../lib/errors.js';
import { storageSocketPaths } from '../lib/storage/storage-paths.js';
import { callStorage } from '../lib/storage/wrapper.js';

const DEFAULT_TIMEOUT_S = 30;

/** Makes the call `argv`, which begins with the absolute path of the utility, and sets the exit status of the reply. */
export async function runStorageWrapper(argv: readonly string[]): Promise<void> {
  try {
    const { VPROXY_STORAGE_SOCKET, VPROXY_STORAGE_TIMEOUT, XDG_RUNTIME_DIR } = process.env;
    const reply = await callStorage({
      argv,
      socketPaths: storageSocketPaths({ socketPath: VPROXY_STORAGE_SOCKET, runtimeDir: XDG_RUNTIME_DIR }),
      timeoutMs: timeoutMs(VPROXY_STORAGE_TIMEOUT),
    });
    process.exitCode = reply.status;
    // Merely accessing `process.stderr` takes time.
    if (reply.stdout.length > 0) await write(process.stdout, reply.stdout);
    if (reply.stderr.length > 0) await write(process.stderr, reply.stderr);
  } catch (error) {
    const code = error instanceof VproxyError ? error.code : '';
    process.exitCode = code === 'storage-bad-reply' || code === 'storage-bad-request' ? 126 : 125;
    await write(process.stderr, Buffer.from(`vproxy-storage: ${(error as Error).message}\n`)).catch(() => undefined);
  }
}

/** Writes everything, also to a slow pipe; a closed pipe is not a failure. */
function write(stream: NodeJS.WriteStream, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error | null) =>
      error && !('code' in error && error.code === 'EPIPE')
        ? reject(new VproxyError('storage-unavailable', `cannot write the output: ${error.message}`))
        : resolve();
    stream.on('error', settle);
    stream.write(bytes, settle);
  });
}

function timeoutMs(text: string | undefined): number {
  if (!text) return DEFAULT_TIMEOUT_S * 1000;
  const seconds = Number(text);
  if (Number.isFinite(seconds) && seconds >= 0) return seconds * 1000;
  throw new VproxyError('storage-unavailable', 'VPROXY_STORAGE_TIMEOUT: not a number of seconds, 0 or more');
}
