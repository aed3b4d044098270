import type zlib from 'node:zlib';

/** Takes milliseconds, which processes that only handle short texts do without. */
export const loadZlib = (): Pick<typeof zlib, 'crc32'> => process.getBuiltinModule('node:zlib');
