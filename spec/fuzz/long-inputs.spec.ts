/** Endless input takes time proportional to its length, in large chunks and byte by byte. */
import test from 'ava';
import { FrameReader } from '../../lib/codec/frame-reader.js';
import { DataCheck, encodeFrame } from '../../lib/codec/header.js';
import { encodeHello, HelloScanner, MAGIC } from '../../lib/codec/hello.js';
import { DEFAULT_FRAME_BYTES } from '../../lib/codec/limits.js';
import { VproxyError } from '../../lib/errors.js';
import { LineBuffer } from '../../lib/forward/endpoints/file-endpoint.js';
import { JsonScanner } from '../../lib/util/bytes/json-scanner.js';
import { knownHello } from './inputs/protocol.js';
import { repairHellos } from './repair-checks.js';

const MESSAGE_BYTES = 2 ** 20;
const CHUNK_BYTES = 65_536;
/** The number of bytes fed in chunks, and then again one by one. */
const LONG_BYTES = 2 * MESSAGE_BYTES;
const SINGLE_BYTES = 32_768;

/** In linear time it is a few hundred milliseconds; in quadratic time, many seconds. */
const MAX_CPU_MS = 3000;

/** Each creates a parser, and returns the function that feeds it. */
const PARSERS: Readonly<Record<string, () => (chunk: Buffer) => unknown>> = {
  'the reader of frames'() {
    const handler = { handleFrame: () => undefined, handleData: () => false, handleHello: () => true };
    const check = new DataCheck('full', '', '');
    const reader = new FrameReader({ handler, check, maxDataBytes: DEFAULT_FRAME_BYTES });
    return (chunk) => reader.push(chunk);
  },
  'the scanner of HELLOs'() {
    const scanner = new HelloScanner();
    return (chunk) => {
      for (let found = scanner.scan(chunk); found !== null; found = scanner.scan(found.rest));
    };
  },
  'the scanner of JSON'() {
    const scanner = new JsonScanner(MESSAGE_BYTES, 'storage-bad-request', 'it');
    return (chunk) => {
      scanner.push(chunk);
      while (scanner.next() !== undefined);
    };
  },
  'the buffer of lines'() {
    const lines = new LineBuffer();
    return (chunk) => lines.add(chunk);
  },
};

/** A HELLO header that announces the longest payload. */
const longHello = Buffer.concat([MAGIC, encodeFrame(1, 0, Buffer.alloc(4096), 0).subarray(0, 16)]);
const brokenHello = Buffer.concat([MAGIC, encodeFrame(1, 0, Buffer.from('{"version":'), 0)]);
repairHellos(brokenHello);

/** The repeated input, and its beginning. */
const STREAMS: readonly (readonly [what: string, piece: Buffer | string, head?: Buffer | string])[] = [
  ['a magic', MAGIC],
  ['the header of a longest HELLO', longHello],
  ['a HELLO that is none', brokenHello],
  ['a valid HELLO', encodeHello(knownHello)],
  ['DATA of the greatest length', 'x', encodeFrame(7, 1, Buffer.alloc(DEFAULT_FRAME_BYTES, 1), 1)],
  ['letters of one text', 'x', '{"a":"'],
  ['backslashes', '\\', '{"a":"'],
  ['opening braces', '{"a":'],
  ['small objects', '{}'],
  ['white space', ' \n'],
  ['zeros', '\0'],
];

for (const [name, start] of Object.entries(PARSERS)) {
  test.serial(`${name}: no endless input takes more than its share of time`, (t) => {
    for (const [what, piece, head = ''] of STREAMS) {
      const chunk = Buffer.alloc(CHUNK_BYTES - (CHUNK_BYTES % piece.length), piece);
      let parse = start();
      // A parser that refused its input is replaced.
      const feed = (bytes: Buffer): void => {
        try {
          parse(bytes);
        } catch (error) {
          if (!(error instanceof VproxyError)) throw error;
          parse = start();
        }
      };
      const since = process.cpuUsage();
      const cpuMs = (): number => process.cpuUsage(since).user / 1000;
      feed(Buffer.from(head));
      for (let fed = 0; fed < LONG_BYTES; fed += chunk.length) feed(chunk);
      feed(Buffer.from(head));
      for (let fed = 0; fed < SINGLE_BYTES; fed += 1) {
        feed(chunk.subarray(fed % chunk.length, (fed % chunk.length) + 1));
        if (fed % 1024 === 0 && cpuMs() > MAX_CPU_MS) break;
      }
      t.true(cpuMs() < MAX_CPU_MS, `${what}: ${cpuMs()} ms`);
    }
  });
}
