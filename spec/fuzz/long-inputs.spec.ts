/** Input without an end takes time in proportion to its length, in large chunks and byte by byte. */
import test from 'ava';
import { FrameReader } from '../../lib/codec/frame-reader.js';
import { DataCheck, encodeFrame } from '../../lib/codec/header.js';
import { encodeHello, HelloScanner, MAGIC } from '../../lib/codec/hello.js';
import { DEFAULT_FRAME_BYTES } from '../../lib/codec/limits.js';
import { VproxyError } from '../../lib/errors.js';
import { LineBuffer } from '../../lib/forward/endpoints/file-endpoint.js';
import { JsonScanner } from '../../lib/util/bytes/json-scanner.js';
import { knownHello } from './inputs/frame-inputs.js';
import { repairHellos } from './repair-checks.js';

const MESSAGE_BYTES = 2 ** 20;
const CHUNK_BYTES = 65_536;
/** The number of bytes that come in chunks, and then again one by one. */
const LONG_BYTES = 2 * MESSAGE_BYTES;
const SINGLE_BYTES = 32_768;

/** In linear time it is a few hundred milliseconds; in quadratic time, many seconds. */
const MAX_CPU_MS = 3000;

/** Takes bytes. */
type Feed = (chunk: Buffer) => void;

/** A parser that throws when it refuses what came, and is then replaced by a new one. */
function restarting(start: () => Feed): Feed {
  let feed = start();
  return (chunk) => {
    try {
      feed(chunk);
    } catch (error) {
      if (!(error instanceof VproxyError)) throw error;
      feed = start();
    }
  };
}

function startFrameReader(): Feed {
  const handler = { handleFrame: () => undefined, handleData: () => false, handleHello: () => true };
  const reader = new FrameReader({ handler, check: new DataCheck('full', '', ''), maxDataBytes: DEFAULT_FRAME_BYTES });
  return (chunk) => void reader.push(chunk);
}

function startHelloScanner(): Feed {
  const scanner = new HelloScanner();
  return (chunk) => {
    for (let found = scanner.scan(chunk); found !== null; found = scanner.scan(found.rest));
  };
}

function startJsonScanner(): Feed {
  const scanner = new JsonScanner(MESSAGE_BYTES, 'storage-bad-request', 'it');
  return (chunk) => {
    scanner.push(chunk);
    while (scanner.next() !== undefined);
  };
}

function startLineBuffer(): Feed {
  const lines = new LineBuffer();
  return (chunk) => void lines.add(chunk);
}

const PARSERS = { startFrameReader, startHelloScanner, startJsonScanner, startLineBuffer };

/** A HELLO header that announces the longest payload. */
const longHello = Buffer.concat([MAGIC, encodeFrame(1, 0, Buffer.alloc(4096), 0).subarray(0, 16)]);
const brokenHello = Buffer.concat([MAGIC, encodeFrame(1, 0, Buffer.from('{"version":'), 0)]);
repairHellos(brokenHello);

/** What is repeated, and what precedes it. */
const STREAMS: Readonly<Record<string, readonly [head: Buffer, piece: Buffer]>> = {
  'a magic': [Buffer.alloc(0), MAGIC],
  'the header of a longest HELLO': [Buffer.alloc(0), longHello],
  'a HELLO that is none': [Buffer.alloc(0), brokenHello],
  'a valid HELLO': [Buffer.alloc(0), encodeHello(knownHello)],
  'DATA of the greatest length': [encodeFrame(7, 1, Buffer.alloc(DEFAULT_FRAME_BYTES, 1), 1), Buffer.from('x')],
  'letters of one text': [Buffer.from('{"a":"'), Buffer.from('x')],
  backslashes: [Buffer.from('{"a":"'), Buffer.from('\\')],
  'opening braces': [Buffer.alloc(0), Buffer.from('{"a":')],
  'small objects': [Buffer.alloc(0), Buffer.from('{}')],
  'white space': [Buffer.alloc(0), Buffer.from(' \n')],
  zeros: [Buffer.alloc(0), Buffer.alloc(1)],
};

for (const [name, start] of Object.entries(PARSERS)) {
  test.serial(`${name}: no endless input takes more than its share of time`, (t) => {
    for (const [what, [head, piece]] of Object.entries(STREAMS)) {
      const chunk = Buffer.alloc(CHUNK_BYTES - (CHUNK_BYTES % piece.length), piece);
      const feed = restarting(start);
      const since = process.cpuUsage();
      feed(head);
      for (let fed = 0; fed < LONG_BYTES; fed += chunk.length) feed(chunk);
      feed(head);
      const cpuMs = (): number => process.cpuUsage(since).user / 1000;
      for (let fed = 0; fed < SINGLE_BYTES; fed += 1) {
        const at = fed % chunk.length;
        feed(chunk.subarray(at, at + 1));
        if (fed % 1024 === 0 && cpuMs() > MAX_CPU_MS) break;
      }
      t.true(cpuMs() < MAX_CPU_MS, `${what}: ${cpuMs()} ms`);
    }
  });
}
