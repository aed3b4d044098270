/** How V8 runs a proxy: a process that lives long, in little memory, and is to be quick as soon as it is used. */
import { setFlagsFromString } from 'node:v8';
import type { Proxy } from '../lib/proxy/proxy.js';

/** Sets a flag where the version of Node is one whose V8 is known to have it: any other would write a complaint to stderr. */
function setFlag(flag: string, firstMajor: number, lastMajor: number): void {
  const major = Number.parseInt(process.versions.node, 10);
  if (major >= firstMajor && major <= lastMajor) setFlagsFromString(flag);
}

/**
 * Keeps the young generation of the heap at its first size, 1 MiB a half, where it would grow to 16 MiB
 * (docs/decisions/0007-young-generation.md). Called once, at the start.
 */
export function boundYoungGeneration(): void {
  setFlag('--semi-space-growth-factor=1', 20, 24);
}

/** Where there was a second stream there will be more. */
const FIRST_STREAMS = 2;

/**
 * Has V8 optimize functions when they have run 16 KiB of bytecode, and not 132, as soon as `proxy` has opened two streams: a
 * process that is hardly used does not pay for it. Only Node 20: later ones have Maglev for that
 * (docs/decisions/0023-optimized-early.md).
 */
export function optimizeWhenUsed(proxy: Pick<Proxy, 'on' | 'off'>): void {
  let left = FIRST_STREAMS;
  const count = ({ event }: { readonly event: string }): void => {
    if (event !== 'stream-opened') return;
    left -= 1;
    if (left > 0) return;
    proxy.off('log', count);
    setFlag('--interrupt-budget=16384', 20, 20);
  };
  proxy.on('log', count);
}
