/** Modules of Node that take milliseconds to load, and that many processes do without. */
import type tls from 'node:tls';
import type zlib from 'node:zlib';

export const loadTls = (): typeof tls => process.getBuiltinModule('node:tls');
export const loadZlib = (): Pick<typeof zlib, 'crc32'> => process.getBuiltinModule('node:zlib');
