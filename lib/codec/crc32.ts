/** The CRC-32 of payloads (R-FRAME-1), as in zlib. */
import { loadZlib } from '../util/bytes/load-zlib.js';

/** Longer texts are left to zlib, which is faster, but need not be loaded for control frames. */
const MAX_OWN_BYTES = 512;

/** The remainders of each byte, for the reflected polynomial EDB88320. */
const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb8_8320 : value >>> 1;
  return value;
});

/** The CRC-32 of some bytes; of `123456789` it is CBF43926. */
export function crc32(bytes: Uint8Array): number {
  if (bytes.length > MAX_OWN_BYTES) return loadZlib().crc32(bytes);
  let crc = -1;
  for (let index = 0; index < bytes.length; index += 1) {
    crc = (crc >>> 8) ^ (TABLE[(crc ^ (bytes[index] as number)) & 0xff] as number);
  }
  return ~crc >>> 0;
}
