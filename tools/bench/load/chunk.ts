/** The bytes that the load generator writes, and the buffer that it reads into: both are allocated once. */

/**
 * The bytes per write. Another such chunk waits in the kernel, so that the writer is seldom woken.
 */
export const CHUNK_BYTES = 262_144;

const chunk = Buffer.alloc(CHUNK_BYTES, 0x5a);

/** The first `bytes` of the chunk that is written repeatedly. No writer may change it. */
export const chunkOf = (bytes: number): Buffer => (bytes >= CHUNK_BYTES ? chunk : chunk.subarray(0, bytes));

/**
 * The buffer of every socket of the process, one read at a time: bytes are only counted. 64 KiB, as Node's own
 * reads: a larger one costs a little less for bulk, but libuv reads a socket up to 32 times before it looks at the next.
 */
export const READ_BUFFER = Buffer.alloc(65_536);
