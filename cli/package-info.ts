/** Version and location of this program. */

import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { PROTOCOL_VERSION } from '../lib/codec/limits.js';
import { orElse } from '../lib/util/or-else.js';
import { print } from './ui/print.js';

/** Defined in the single-file program, which has no package.json beside it: see packaging/bundle.mjs. */
declare const VPROXY_VERSION: string | undefined;

export function packageVersion(): string {
  if (typeof VPROXY_VERSION === 'string') return VPROXY_VERSION;
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** The folder of the documents installed by the Debian package, the RPM or the npm package; null without one. */
export function documentsFolder(): string | null {
  const folders = [join(programFolder(), '../../docs'), '/usr/share/doc/vproxy'];
  return folders.find((folder) => existsSync(join(folder, 'cli.md'))) ?? null;
}

/** The folder of the running file, with links resolved. */
const programFolder = (): string => orElse('/', () => dirname(realpathSync(process.argv[1] ?? '')));

/** Prints program, protocol and Node, for `--version`. */
export function printVersion(): void {
  print(`vproxy ${packageVersion()} (protocol ${PROTOCOL_VERSION}, node ${process.version})\n`);
}

/** Program and version, as announced to a peer. */
export function describeAgent(): string {
  return `vproxy ${packageVersion()}`;
}
