/** Makes vproxy-guest the far side of the copies of a spec file. Import it before them. */
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { farSide } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { startProxy } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';
import { AS_GUEST } from './build.js';

/** A host in this process, and a guest that allows copies. */
export async function startCopies(t: ExecutionContext, root: string | null) {
  const path = join(temporaryFolder(t), 'channel');
  const host = await startProxy(t, `unix-listen:${path}`);
  const allowed = root === null ? '--allow-copy' : `--allow-copy=${root}`;
  const guest = spawnVproxy(t, ['-c', `unix-connect:${path}`, allowed], AS_GUEST);
  await host.event('session-established');
  return { guest, open: (service = 'copy') => host.proxy.connect(service) };
}

farSide.start = async (t, root) => (await startCopies(t, root)).open;
farSide.program = AS_GUEST;
farSide.testWith = (...names) => serialTestWith('go', ...names);
