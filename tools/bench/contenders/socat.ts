/** socat without a multiplexer: a process and a unix socket for each connection. */
import { join } from 'node:path';
import { findProgram } from '../process/find-program.js';
import { findFreePort } from '../process/free-port.js';
import type { Contender } from './contender.js';

/** socat with `fork`, with its default buffer of 8 KiB. */
export const socat: Contender = {
  id: 'socat',
  title: 'socat',
  descriptorsPerStream: Infinity,
  missing: () => (findProgram('socat') === undefined ? 'apt-get install socat' : undefined),
  async start({ programs, folder, target, through }) {
    const path = join(folder, 'socat.sock');
    const address = await findFreePort();
    // Its default backlog of 5 would lose connections that come at once, and it has no TCP_NODELAY by default.
    const listening = `TCP-LISTEN:${address},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=1024`;
    return {
      address,
      near: [programs.start('socat', [listening, `UNIX-CONNECT:${through?.(path) ?? path}`])],
      far: [programs.start('socat', [`UNIX-LISTEN:${path},fork,backlog=1024`, `TCP:127.0.0.1:${target},nodelay`])],
    };
  },
};
