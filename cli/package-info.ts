/** What this program says of itself. */
import { readFileSync } from 'node:fs';
import { PROTOCOL_VERSION } from '../lib/codec/limits.js';

/** The version in package.json. */
export function packageVersion(): string {
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
