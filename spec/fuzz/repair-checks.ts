/** Corrects the checks of frames, so that fuzzed input gets past them. */
import { crc32 } from 'node:zlib';
import { FRAME_TYPE, headerCheck, TRAILER_BYTES } from '../../lib/codec/header.js';
import { MAGIC } from '../../lib/codec/hello.js';

const HEADER_BYTES = 16;

/**
 * Rewrites the checks of the frames that follow each other from the start of `bytes`; `hasPayloads`: those of payloads too.
 * DATA has trailers made from `tag`; none if it is null.
 */
export function repairFrames(bytes: Buffer, hasPayloads: boolean, tag: number | null): void {
  let sequence = 1;
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const isMagic = MAGIC.compare(bytes, at, at + HEADER_BYTES) === 0;
    if (isMagic) at += HEADER_BYTES;
    if (at + HEADER_BYTES > bytes.length) return;
    at = repairFrame(bytes, at, isMagic ? 0 : sequence, hasPayloads, isMagic ? null : tag);
    if (!isMagic) sequence += 1;
  }
}

/** Rewrites the checks of every HELLO that follows a magic. */
export function repairHellos(bytes: Buffer): void {
  for (let at = bytes.indexOf(MAGIC); at !== -1; at = bytes.indexOf(MAGIC, at + 1)) {
    const header = at + MAGIC.length;
    if (header + HEADER_BYTES <= bytes.length) repairFrame(bytes, header, 0, true, null);
  }
}

/** Returns the end of the frame. */
function repairFrame(bytes: Buffer, at: number, sequence: number, hasPayload: boolean, tag: number | null): number {
  const end = at + HEADER_BYTES + bytes.readUInt32BE(at + 8);
  const isTrailed = tag !== null && bytes[at] === FRAME_TYPE.DATA;
  const trailedEnd = isTrailed ? end + TRAILER_BYTES : end;
  if (hasPayload && !isTrailed) bytes.writeUInt32BE(crc32(bytes.subarray(at + HEADER_BYTES, end)), at + 12);
  if (hasPayload && isTrailed && trailedEnd <= bytes.length) bytes.writeUInt32BE((tag ^ sequence) >>> 0, end);
  bytes.writeUInt16BE(headerCheck(bytes, at, sequence), at + 2);
  return trailedEnd;
}
