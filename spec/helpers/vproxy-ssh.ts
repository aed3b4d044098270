/** Installs `vproxy-ssh` for a test. */
import { chmodSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from './files.js';

export const VPROXY_SSH = join(PROJECT_ROOT, 'packaging/vproxy-ssh');

/** A PATH that begins with the script, and with a `vproxy` that is this line of shell. */
export function withVproxySsh(t: ExecutionContext, line: string): string {
  const folder = temporaryFolder(t);
  symlinkSync(VPROXY_SSH, join(folder, 'vproxy-ssh'));
  writeFileSync(join(folder, 'vproxy'), `#!/bin/sh\n${line}\n`);
  chmodSync(join(folder, 'vproxy'), 0o755);
  return `${folder}:${process.env['PATH'] ?? ''}`;
}
