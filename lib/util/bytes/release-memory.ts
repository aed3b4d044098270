/** Frees memory outside V8's heap at once, which would otherwise trigger the garbage collector every few megabytes. */
import type { MessagePort } from 'node:worker_threads';

/** Smaller buffers are cheaper to collect. */
const LEAST_BYTES = 16_384;

/** A buffer transferred to a closed port is freed. */
let nowhere: MessagePort | null = null;

function closedPort(): MessagePort {
  const { port1 } = new MessageChannel();
  port1.close();
  return port1;
}

/**
 * Frees the memory of a buffer without an owner: it, and every view of the same memory, then has no bytes. A workaround, as Node
 * 20 has no `ArrayBuffer.prototype.transfer`.
 */
export function releaseMemory({ buffer, byteLength }: Buffer): void {
  // A part of a larger piece of memory has neighbours.
  if (byteLength < LEAST_BYTES || byteLength < buffer.byteLength) return;
  nowhere ??= closedPort();
  nowhere.postMessage(null, [buffer as ArrayBuffer]);
}
