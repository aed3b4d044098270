/** What this program says of itself. */
import { readFileSync } from 'node:fs';
import { PROTOCOL_VERSION } from '../lib/codec/limits.js';

/** Set where all of vproxy is one file, which has no package.json beside it: see packaging/bundle.mjs. */
declare const VPROXY_VERSION: string | undefined;

/** The version in package.json. */
export function packageVersion(): string {
  if (typeof VPROXY_VERSION === 'string') return VPROXY_VERSION;
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** The line of `--version`: program, protocol, Node. */
export function describeVersion(): string {
  return `vproxy ${packageVersion()} (protocol ${PROTOCOL_VERSION}, node ${process.version})`;
}

/** What a peer is told: program and version. */
export function describeAgent(): string {
  return `vproxy ${packageVersion()}`;
}
