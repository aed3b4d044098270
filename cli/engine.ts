/** V8 settings for a proxy: a long-lived process that should use little memory, and be fast as soon as it is used. */
import { setFlagsFromString } from 'node:v8';
import type { Proxy } from '../lib/proxy/proxy.js';

/** Sets a flag if this version of Node is known to have it: others would print a warning to stderr. */
function setFlag(flag: string, lastMajor: number): void {
  if (Number.parseInt(process.versions.node, 10) <= lastMajor) setFlagsFromString(flag);
}

/**
 * Keeps the heap small: each half of its young generation at the initial 1 MiB, not up to 16, and the old one collected at twice
 * what it holds, not at four times (docs/decisions/0007-small-heap.md). Call it once, at the start.
 */
export function keepHeapSmall(): void {
  setFlag('--semi-space-growth-factor=1', 26);
  setFlag('--heap-growing-percent=100', 26);
}

/** A process that opened this many streams will open more. */
const FIRST_STREAMS = 2;

/**
 * Makes V8 optimize functions after 16 KiB of bytecode instead of 132, as soon as `proxy` has opened two streams: a process that
 * is hardly used does not pay for it. Only on Node 20: later versions have Maglev for that
 * (docs/decisions/0023-optimized-early.md).
 */
export function optimizeWhenUsed(proxy: Pick<Proxy, 'on' | 'off'>): void {
  let left = FIRST_STREAMS;
  const count = ({ event }: { readonly event: string }): void => {
    if (event !== 'stream-opened') return;
    left -= 1;
    if (left > 0) return;
    proxy.off('log', count);
    setFlag('--interrupt-budget=16384', 20);
  };
  proxy.on('log', count);
}
