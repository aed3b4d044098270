/** The check of a frame's header: CRC-16/CCITT-FALSE over a counted sequence number and the header (R-FRAME-2). */

const TABLE = new Uint16Array(256);
for (let index = 0; index < 256; index += 1) {
  let value = index << 8;
  for (let bit = 0; bit < 8; bit += 1) value = value & 0x8000 ? (value << 1) ^ 0x1021 : value << 1;
  TABLE[index] = value & 0xffff;
}

const step = (crc: number, byte: number): number => ((crc << 8) & 0xffff) ^ (TABLE[(crc >> 8) ^ byte] as number);

/** CRC-16/CCITT-FALSE (polynomial 1021, start FFFF, not reflected) of some bytes; of `123456789` it is 29B1. */
export function crc16(bytes: Uint8Array): number {
  let crc = 0xffff;
  for (const byte of bytes) crc = step(crc, byte);
  return crc;
}

/** The check of the header that begins at `offset`, for the frame with this sequence number. */
export function headerCheck(buffer: Buffer, offset: number, sequence: number): number {
  let crc = step(0xffff, sequence >>> 24);
  crc = step(crc, (sequence >>> 16) & 0xff);
  crc = step(crc, (sequence >>> 8) & 0xff);
  crc = step(crc, sequence & 0xff);
  crc = step(crc, buffer[offset] as number);
  crc = step(crc, buffer[offset + 1] as number);
  for (let index = offset + 4; index < offset + 16; index += 1) crc = step(crc, buffer[index] as number);
  return crc;
}
