/** Reads text files of any length in turns of the event loop. */
import { constants, promises as fs } from 'node:fs';

/** Bytes per read: what is done with the lines of one must not take long. */
const READ_BYTES = 32_768;

const NEWLINE = 0x0a;

/**
 * The lines of a file, in texts of whole lines. Stops, and calls `onCut`, after about `maxBytes` or before a longer line than
 * `maxLineBytes`. Throws a system error.
 */
export async function* wholeLines(
  path: string,
  { maxBytes = Number.POSITIVE_INFINITY, maxLineBytes = READ_BYTES, onCut = (): void => undefined } = {},
): AsyncGenerator<string, void, undefined> {
  // Without waiting for the writer of a FIFO.
  const file = await fs.open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    let block = Buffer.allocUnsafe(READ_BYTES);
    let keptBytes = 0;
    for (let byteCount = 0; byteCount <= maxBytes && keptBytes < maxLineBytes; ) {
      if (keptBytes === block.length) block = Buffer.concat([block], 2 * keptBytes);
      const { bytesRead } = await file.read(block, keptBytes, Math.min(READ_BYTES, block.length - keptBytes));
      const filled = block.subarray(0, keptBytes + bytesRead);
      const end = bytesRead === 0 ? keptBytes : filled.lastIndexOf(NEWLINE) + 1;
      if (end > 0) yield filled.toString('utf8', 0, end);
      if (bytesRead === 0) return;
      byteCount += bytesRead;
      keptBytes = filled.length - end;
      block.copyWithin(0, end, filled.length);
    }
    onCut();
  } finally {
    await file.close();
  }
}
