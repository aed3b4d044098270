/** SHA-256, to compare what went in with what came out. */
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';

/** The SHA-256 of some bytes, as 64 hex digits. */
export function sha256(bytes: Buffer | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Reads a stream to its end: the SHA-256 of it as 64 hex digits, and how many bytes it had. Rejects when it fails. */
export async function sha256OfStream(stream: Readable): Promise<{ digest: string; bytes: number }> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { digest: hash.digest('hex'), bytes };
}
