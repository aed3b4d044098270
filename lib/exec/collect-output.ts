/** All that a command writes, kept until it has ended. */
import type { Readable } from 'node:stream';
import type { CommandEnd, ExecCall } from './exec-call.js';

/** So much of each output is kept by default, in bytes. */
export const MAX_COLLECTED_BYTES = 67_108_864;

/** How a command ended, and what it wrote. */
export interface CommandOutput extends CommandEnd {
  /** Standard output; of a command in a terminal, everything. */
  readonly stdout: Buffer;
  /** Standard error. */
  readonly stderr: Buffer;
  /** Whether there was more standard output than is kept. */
  readonly stdoutTruncated: boolean;
  /** The same for standard error. */
  readonly stderrTruncated: boolean;
}

/**
 * Takes both outputs of a command to their end. Of each, `maxBytes` (default 64 MiB) are kept; the rest is read and dropped, so that
 * the command is never held up. Rejects as `ExecCall.result` does.
 */
export async function collectOutput(
  call: ExecCall,
  { maxBytes = MAX_COLLECTED_BYTES }: { readonly maxBytes?: number } = {},
): Promise<CommandOutput> {
  const stdout = keep(call.stdout, maxBytes);
  const stderr = keep(call.stderr, maxBytes);
  const end = await call.result;
  return {
    ...end,
    stdout: Buffer.concat(stdout.chunks),
    stderr: Buffer.concat(stderr.chunks),
    stdoutTruncated: stdout.isTruncated,
    stderrTruncated: stderr.isTruncated,
  };
}

interface Kept {
  readonly chunks: Buffer[];
  isTruncated: boolean;
}

function keep(output: Readable, maxBytes: number): Kept {
  const kept: Kept = { chunks: [], isTruncated: false };
  let leftBytes = maxBytes;
  output.on('data', (chunk: Buffer) => {
    kept.isTruncated ||= chunk.length > leftBytes;
    if (leftBytes > 0) kept.chunks.push(chunk.subarray(0, leftBytes));
    leftBytes -= Math.min(leftBytes, chunk.length);
  });
  return kept;
}
