/** Input of a peer, an origin or a DNS server is read in time proportional to its length, whatever byte is repeated in it. */
import test from 'ava';
import { FrameReader } from '../../lib/codec/frame-reader.js';
import { DataCheck, encodeFrame } from '../../lib/codec/header.js';
import { decodeHello, encodeHello, HelloScanner, MAGIC } from '../../lib/codec/hello.js';
import { DEFAULT_FRAME_BYTES, MAX_CONTROL_BYTES } from '../../lib/codec/limits.js';
import { decodeGoaway, decodeOpen, decodeReasonPayload, decodeServices } from '../../lib/codec/payloads.js';
import { parseDestination } from '../../lib/forward/egress/admission.js';
import { endToEnd, formatHead, isClosing, parseRequestHead, parseResponseHead } from '../../lib/forward/egress/head.js';
import { HttpReader, responseFraming } from '../../lib/forward/egress/message.js';
import { HEAD_BYTES, httpAnswer, Refusal } from '../../lib/forward/egress/refusal.js';
import { originRequestHead, parseProxyRequest } from '../../lib/forward/egress/request.js';
import { LineBuffer } from '../../lib/forward/endpoints/file-endpoint.js';
import * as copy from '../../lib/services/copy/copy-messages.js';
import { parseHeader } from '../../lib/services/copy/tar/entry.js';
import { TarBounds } from '../../lib/services/copy/tar/tar-bounds.js';
import * as exec from '../../lib/services/exec/exec-messages.js';
import { decodeTold } from '../../lib/services/info/info-messages.js';
import { machineSchema } from '../../lib/status/machine-schemas.js';
import { parseMessage } from '../../lib/system/dns/dns-message.js';
import { JsonScanner } from '../../lib/util/bytes/json-scanner.js';
import { escapeText } from '../../lib/util/escape.js';
import { parseXml } from '../../lib/util/xml.js';
import { knownHello } from '../fuzz/inputs/protocol.js';
import { repairHellos } from '../fuzz/repair-checks.js';
import { workMs } from '../helpers/turn-time.js';

const SHORT_BYTES = 2048;
const LONG_BYTES = 65_536;
/** Limit on any turn for 64 KiB. */
const MAX_CPU_MS = 20;
/** Compilation and garbage collection in one try need not happen in another: the best counts. */
const TRIES = 20;
/** Anything that takes so much longer needs no further try. */
const HOPELESS_MS = 10 * MAX_CPU_MS;

/** The beginning of a HELLO of the greatest length, and one that is none. */
const longHello = Buffer.concat([MAGIC, encodeFrame(1, 0, Buffer.alloc(4096), 0).subarray(0, 16)]);
const brokenHello = Buffer.concat([MAGIC, encodeFrame(1, 0, Buffer.from('{"version":'), 0)]);
repairHellos(brokenHello);

const RUNS: readonly string[] = [
  ...Array.from(' \t09aAfFzZ:[],;"\'%.{}-_=/\\#@?*+()<>|&~^`$!', String),
  ...['\0', '\x01', '\x1b', '\x7f', '\x80', '\xa0', '\xc0', '\xff', '\r', '\n', '\r\n', '\n\n', '\r\n\r\n'],
  ...['::', '[:', ':]', '1:', 'a.', '..', '%0', ', ', ' ,', ' :', ' \t', '\t:'],
  ...['a: b\r\n', 'a:\r\n', '0\r\n', '1\r\na\r\n'],
  ...['[[', '[]', '{"a":', '{},', '\\"', '\\u0000', '"",', '[0,', '12 a=b\n', '../', 'a/'],
  ...['<', '<a ', '<a b="', '<!--', '<a/>', '<a b=""', '<![CDATA[', '</a', '<a>&lt;'],
  ...['\x01a', '\xc0\x0c', '\x00\x01\x00\x01', '{}'],
  ...[MAGIC, longHello, brokenHello, encodeHello(knownHello)].map((bytes) => bytes.toString('latin1')),
];

/** Marks the run in a form of the input. */
const HERE = '█';

interface Parser {
  /** The input before and after a run. */
  readonly forms: readonly string[];
  readonly read: (bytes: Buffer) => unknown;
  /** Limit on the input, in bytes. Default: 64 KiB. */
  readonly maxBytes?: number;
}

const sourceOf = (bytes: Buffer): HttpReader => {
  const left = [bytes];
  return new HttpReader({ read: () => Promise.resolve(left.pop() ?? null) });
};

async function readRequest(bytes: Buffer): Promise<void> {
  const text = await sourceOf(bytes).head({ maxBytes: LONG_BYTES });
  if (text !== null) originRequestHead(parseProxyRequest(parseRequestHead(text)));
}

async function readResponse(bytes: Buffer): Promise<void> {
  const reader = sourceOf(bytes);
  const text = await reader.head({ maxBytes: LONG_BYTES });
  if (text === null) return;
  const head = parseResponseHead(text);
  for await (const piece of reader.body(responseFraming(head, 'GET'))) bytes = piece;
  formatHead(head.phrase, isClosing(head.fields) ? [] : endToEnd(head.fields));
}

const HEAD = 'GET http://one.test/ HTTP/1.1\r\nHost: one.test\r\n';

const REQUEST_FORMS: readonly string[] = [
  ...['█\r\n\r\n', 'GET █ HTTP/1.1\r\n\r\n', 'GET http://█/ HTTP/1.1\r\n\r\n'],
  ...['CONNECT █ HTTP/1.1\r\n\r\n', 'CONNECT [█]:443 HTTP/1.1\r\n\r\n', 'GET http://[█]/ HTTP/1.1\r\n\r\n'],
  'GET http://one.test/█ HTTP/1.1\r\nHost: one.test\r\n\r\n',
  'GET http://one.test/ HTTP/1.1\r\nHost: █\r\n\r\n',
  'GET http://one.test/ HTTP/1.1\r\nHost: [█\r\n\r\n',
  ...['█', 'X:█', 'X:█\0', 'X: a█b', 'X: a█b\x01', 'X█: b'].map((field) => `${HEAD}${field}\r\n\r\n`),
  ...['Connection: █', 'Connection: a█b', 'Transfer-Encoding: █', 'Content-Length: █'].map(
    (field) => `${HEAD}${field}\r\n\r\n`,
  ),
];

const ANSWER = 'HTTP/1.1 200 OK\r\n';
const CHUNKED = `${ANSWER}Transfer-Encoding: chunked\r\n\r\n`;

/** JSON objects with a text, a list, or anything in a field. */
const jsonForms = (...fields: readonly string[]): string[] => [
  ...['█', '{█}', '{"a":"█"}'],
  ...fields.flatMap((field) => {
    const deep = `${'['.repeat(999)}█${']'.repeat(999)}`;
    return ['█', '"█"', '[█]', '["█"]', deep].map((value) => `{${field}:${value}}`);
  }),
];

/** A parser that keeps the beginning of what is not complete: fed byte by byte, and in one chunk. */
const streaming = (start: () => (chunk: Buffer) => unknown, ...forms: readonly string[]): Parser => ({
  forms: ['█', ...forms],
  maxBytes: 8192,
  read(bytes) {
    for (const size of [1, bytes.length]) {
      const feed = start();
      for (let at = 0; at < bytes.length; at += size) feed(bytes.subarray(at, at + size));
    }
  },
});

const longData = encodeFrame(7, 1, Buffer.alloc(DEFAULT_FRAME_BYTES, 1), 1).toString('latin1', 0, 16);

function frameReader(): (chunk: Buffer) => unknown {
  const handler = { handleFrame: () => undefined, handleData: () => false, handleHello: () => true };
  const check = new DataCheck('full', '', '');
  const reader = new FrameReader({ handler, check, maxDataBytes: DEFAULT_FRAME_BYTES });
  return (chunk) => reader.push(chunk);
}

function helloScanner(): (chunk: Buffer) => unknown {
  const scanner = new HelloScanner();
  return (chunk) => {
    for (let found = scanner.scan(chunk); found !== null; found = scanner.scan(found.rest));
  };
}

function jsonScanner(): (chunk: Buffer) => unknown {
  const scanner = new JsonScanner(2 ** 20, 'storage-bad-request', 'it');
  return (chunk) => {
    scanner.push(chunk);
    while (scanner.next() !== undefined);
  };
}

function lineBuffer(): (chunk: Buffer) => unknown {
  const lines = new LineBuffer();
  return (chunk) => lines.add(chunk);
}

const DNS_ANSWER = '\x00\x01\x81\x80\x00\x01\xff\xff\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01';

const PARSERS: Readonly<Record<string, Parser>> = {
  'the head of a request': { forms: REQUEST_FORMS, maxBytes: HEAD_BYTES, read: readRequest },
  'the head of an answer': {
    forms: ['█', 'HTTP/1.1 200 █', `${ANSWER}X: █\x01`, `${ANSWER}X: a█b`, `${ANSWER}Connection: a,█b`].map(
      (head) => `${head}\r\n\r\n`,
    ),
    read: readResponse,
  },
  'the lines of a chunked body': {
    forms: [
      ...['█', '1;█\r\na\r\n0\r\n\r\n', '1█\r\na\r\n0\r\n\r\n'],
      ...['0\r\n█\r\n\r\n', '0\r\nX: a█b\r\n\r\n', '0\r\nX█: b\r\n\r\n'],
    ].map((body) => `${CHUNKED}${body}`),
    read: readResponse,
  },
  'a destination, and how it is refused': {
    forms: ['█', 'a█a', '1.1.1.█', '::█1'],
    read(bytes) {
      for (const encoding of ['latin1', 'utf8'] as const) {
        try {
          parseDestination(bytes.toString(encoding), 80);
        } catch (error) {
          httpAnswer(new Refusal('bad-destination', String(error)), { isLast: true });
        }
      }
      httpAnswer(new Refusal('bad-destination', bytes.toString('latin1')), { isLast: true });
    },
  },
  'a message of DNS': {
    forms: [
      '',
      DNS_ANSWER.slice(0, 12),
      DNS_ANSWER,
      `${DNS_ANSWER}\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x00\xff\x00`,
    ].map((before) => `${before}█`),
    maxBytes: 65_535,
    read: parseMessage,
  },
  'a HELLO': {
    forms: jsonForms('"version"', '"nonce"', '"auth"', '"features"'),
    maxBytes: MAX_CONTROL_BYTES,
    read: decodeHello,
  },
  'bytes that may contain a HELLO': streaming(helloScanner),
  frames: streaming(frameReader, `${longData}█`),
  'JSON of storage calls': streaming(jsonScanner, '{"a":"█'),
  'lines for a file': streaming(lineBuffer),
  SERVICES: {
    forms: jsonForms('"services"', '"services":[],"ports"'),
    maxBytes: MAX_CONTROL_BYTES,
    read: decodeServices,
  },
  OPEN: { forms: jsonForms('"service"'), maxBytes: MAX_CONTROL_BYTES, read: decodeOpen },
  'a reason': {
    forms: jsonForms('"code"', '"code":"a","message"'),
    maxBytes: MAX_CONTROL_BYTES,
    read: (bytes) => decodeReasonPayload(bytes, 'RESET'),
  },
  GOAWAY: {
    forms: jsonForms('"code"', '"code":"a","last":1,"message"'),
    maxBytes: MAX_CONTROL_BYTES,
    read: decodeGoaway,
  },
  'the answer of info': {
    forms: jsonForms(
      '"version":1,"machine"',
      '"version":1,"machine":{"hostname"',
      '"version":1,"machine":{"filesystems"',
    ),
    read: (bytes) => machineSchema.safeParse(decodeTold(bytes, 'machine')),
  },
  'START of a command': { forms: jsonForms('"argv"', '"argv":["a"],"env"'), read: exec.decodeStart },
  'START of a copy': {
    forms: jsonForms(
      '"isResumed":true,"direction":"put","target"',
      '"isResumed":true,"direction":"get","hasTotals":true,"sources"',
    ),
    read: copy.decodeStart,
  },
  'STAGED of a copy': { forms: jsonForms('"files"', '"files":[["a",1,"b"]],"x"'), read: copy.decodeStaged },
  'the headers of a tar': {
    forms: ['█', `${paxBlock(8192)}█`, `${paxBlock(8192)}16 path=█`],
    read: (bytes) => new TarBounds().check(bytes),
  },
  'an entry of a tar': {
    forms: ['█', 'a/█/b'],
    read(bytes) {
      const text = bytes.toString('latin1');
      for (const type of ['file', 'directory', 'symlink'] as const)
        parseHeader({ name: text, type, linkname: text, size: 0, pax: { mtime: text, path: text } });
    },
  },
  'a document of XML': {
    forms: ['█', '<r>█', '<r>█</r>', '<r x="█'],
    read: (bytes) => parseXml(bytes.toString('latin1')),
  },
  'a displayed text of a peer': { forms: ['█'], read: (bytes) => escapeText(bytes.toString(), LONG_BYTES) },
};

/** The block that announces a pax header. */
function paxBlock(bytes: number): string {
  const block = Buffer.alloc(512);
  block.write(`${bytes.toString(8).padStart(11, '0')} `, 124, 'latin1');
  block.write('x', 156, 'latin1');
  return block.toString('latin1');
}

function inputOf(form: string, run: string, maxBytes: number): Buffer {
  const [before = '', after = ''] = form.split(HERE);
  const bytes = Buffer.alloc(maxBytes, run, 'latin1');
  bytes.write(before, 0, 'latin1');
  bytes.write(after, Math.max(0, maxBytes - after.length), 'latin1');
  return bytes;
}

/** CPU time in milliseconds of a reader, which may refuse its input. */
const cpuMsOf = ({ read }: Parser, bytes: Buffer): Promise<number> =>
  workMs(async () => {
    try {
      await read(bytes);
    } catch {
      // Refusing is fine, too.
    }
  });

for (const [name, parser] of Object.entries(PARSERS)) {
  test.serial(`${name}: no run of bytes takes more than ${MAX_CPU_MS} ms of the processor`, async (t) => {
    const { forms, maxBytes = LONG_BYTES } = parser;
    const long: string[] = [];
    for (const form of forms) {
      for (const run of RUNS) {
        // The short one first: a cubic parser would take days for the long one.
        for (const byteCount of [Math.min(SHORT_BYTES, maxBytes), maxBytes]) {
          const bytes = inputOf(form, run, byteCount);
          let cpuMs = await cpuMsOf(parser, bytes);
          for (let tries = 1; cpuMs > MAX_CPU_MS && cpuMs < HOPELESS_MS && tries < TRIES; tries += 1)
            cpuMs = Math.min(cpuMs, await cpuMsOf(parser, bytes));
          if (cpuMs <= MAX_CPU_MS) continue;
          long.push(`${byteCount} bytes, ${JSON.stringify([form.slice(-60), run])}: ${cpuMs} ms`);
          break;
        }
      }
    }
    t.deepEqual(long, []);
  });
}
