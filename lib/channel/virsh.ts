/** What virsh(1) says of a domain of libvirt. */
import { type ErrorCode, VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { Turns } from '../util/turns.js';
import { type ProgramResult, runProgram } from './run-program.js';

/** How virsh is run. */
export interface VirshOptions {
  /** Kills it when it is aborted; `shutdown` is what comes of it. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** Its name, or its path. */
  readonly program: string;
  /** The hypervisor that it asks, such as `qemu:///system`; null: what it asks by itself. */
  readonly uri: string | null;
}

const TIMEOUT_MS = 10_000;
const MAX_XML_BYTES = 1_048_576;

/** Of a process with hundreds of domains, for each of which a virsh of some 20 MB would be started at once. */
const turns = new Turns(4);

/**
 * The XML of a domain by its name, uuid or id, as it is now. Rejects with `channel-missing` (no such domain),
 * `channel-refused` (no libvirtd), `channel-denied`, `channel-unusable` (no virsh), or `channel-failed`: no answer for
 * 10 s, more than 1 MiB of it, or what virsh says else.
 */
export function dumpDomain(domain: string, options: VirshOptions): Promise<string> {
  const { program, uri, signal, clock } = options;
  const connect = uri === null ? [] : [`--connect=${uri}`];
  const words = ['/usr/bin/env', 'LC_ALL=C', program, '--readonly', ...connect, 'dumpxml', '--', domain];
  const limits = { signal, clock, timeoutMs: TIMEOUT_MS, maxBytes: MAX_XML_BYTES };
  return turns.run(signal, async () => {
    const result = await runProgram(words, limits);
    if (result.end === 0) return result.stdout;
    throw virshError(result, options);
  });
}

function virshError({ end, stderr }: ProgramResult, { program, uri }: VirshOptions): VproxyError {
  const failed = (code: ErrorCode, what: string) => new VproxyError(code, what);
  if (end === 'given-up') return failed('shutdown', 'asking virsh was given up');
  if (end === 'too-slow') return failed('channel-failed', `virsh did not answer for ${TIMEOUT_MS / 1000} s`);
  if (end === 'too-long') return failed('channel-failed', `virsh printed more than ${MAX_XML_BYTES} bytes`);
  // By these env(1) says that it found nothing to run, or nothing that can be run.
  if (end === 127) return failed('channel-unusable', `${escapeText(program)} is missing (Debian: libvirt-clients)`);
  if (end === 126) return failed('channel-unusable', `${escapeText(program)} cannot be run`);
  const said = sayings(stderr);
  if (said === '') return failed('channel-failed', `virsh ended with ${end} and said nothing`);
  const { code, hint } = MEANINGS.find(({ pattern }) => pattern.test(said)) ?? { code: 'channel-failed', hint: '' };
  const elsewhere =
    code === 'channel-missing' && uri === null ? 'it asked its default; uri=qemu:///system is another' : '';
  const advice = hint === '' ? elsewhere : hint;
  return failed(code, `virsh: ${escapeText(said, 400)}${advice === '' ? '' : ` (${advice})`}`);
}

/** What virsh says with LC_ALL=C; the first that fits counts. */
const MEANINGS: readonly { readonly pattern: RegExp; readonly code: ErrorCode; readonly hint: string }[] = [
  { pattern: /^failed to get domain |^Domain not found/, code: 'channel-missing', hint: '' },
  {
    pattern: /permission denied|access denied|authentication (?:failed|unavailable|cancelled)|not authorized/i,
    code: 'channel-denied',
    hint: '',
  },
  {
    pattern: /^failed to connect to the hypervisor|Failed to connect socket|Connection refused/,
    code: 'channel-refused',
    hint: 'does libvirtd run?',
  },
];

/** The lines of its errors as one. */
function sayings(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.trim().replace(/^error: */, ''));
  return lines.filter((line) => line !== '').join(': ');
}
