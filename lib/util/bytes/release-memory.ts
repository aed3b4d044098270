/** Giving back memory outside of V8's heap at once, where the garbage collector would be set to work for each few megabytes of it. */
import type { MessagePort } from 'node:worker_threads';

/** What is smaller is cheaper to collect. */
const LEAST_BYTES = 16_384;

/** What is moved to a closed port is gone. */
let nowhere: MessagePort | null = null;

function closedPort(): MessagePort {
  const { port1 } = new MessageChannel();
  port1.close();
  return port1;
}

/**
 * Frees the memory of a buffer that is nobody's any more: it has no bytes from then on, and neither has any view of the same
 * memory. By a way around, as Node 20 has no `ArrayBuffer.prototype.transfer`.
 */
export function releaseMemory({ buffer, byteLength }: Buffer): void {
  // A part of a larger piece of memory has neighbours.
  if (byteLength < LEAST_BYTES || byteLength < buffer.byteLength) return;
  nowhere ??= closedPort();
  nowhere.postMessage(null, [buffer as ArrayBuffer]);
}
