/**
 * A virtio-serial port that one process can have open, without a VM: a pseudo-terminal, and in the process what the kernel
 * says to the second one that opens it (EBUSY). Nothing but a real port says so by itself; spec/vm has one.
 */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { openPty, type Pty } from './channel-pty.js';
import { temporaryFolder } from './temp-folder.js';

/** The port, and the environment in which a process finds it taken. */
export interface ExclusivePort extends Pty {
  readonly env: Readonly<Record<string, string>>;
  /** How often it was found taken. */
  refusedCount(): number;
}

/** Who has the port is in a file, with the process number: like the kernel's, a lock ends with its process. */
const PRELOAD = `
  import fs from 'node:fs';
  import { syncBuiltinESMExports } from 'node:module';
  const { EXCLUSIVE_PORT: port, EXCLUSIVE_PORT_LOCK: lock, EXCLUSIVE_PORT_REFUSED: refused } = process.env;
  const { openSync, closeSync, readFileSync, writeFileSync } = fs;
  const isTaken = () => {
    try {
      const pid = Number(readFileSync(lock, 'utf8'));
      return pid !== 0 && pid !== process.pid && process.kill(pid, 0);
    } catch {
      return false;
    }
  };
  fs.openSync = (path, ...rest) => {
    if (path !== port) return openSync(path, ...rest);
    if (isTaken()) {
      fs.appendFileSync(refused, '.');
      throw Object.assign(new Error("EBUSY: resource busy or locked, open '" + path + "'"), { code: 'EBUSY' });
    }
    writeFileSync(lock, String(process.pid));
    return openSync(path, ...rest);
  };
  syncBuiltinESMExports();
`;

/** Opens one; it goes when the test ends. */
export async function exclusivePort(t: ExecutionContext): Promise<ExclusivePort> {
  const pty = await openPty(t);
  const folder = temporaryFolder(t);
  const refused = join(folder, 'refused');
  return {
    ...pty,
    refusedCount: () => (existsSync(refused) ? statSync(refused).size : 0),
    env: {
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(PRELOAD)}`,
      EXCLUSIVE_PORT: pty.path,
      EXCLUSIVE_PORT_LOCK: join(folder, 'lock'),
      EXCLUSIVE_PORT_REFUSED: refused,
    },
  };
}
