/** Encoding of the messages between caller and runner of a command. */
import test from 'ava';
import fc from 'fast-check';
import { VproxyError } from '../../lib/errors.js';
import {
  decodeCredit,
  decodeEof,
  decodeExit,
  decodeResize,
  decodeSignal,
  decodeStart,
  decodeStarted,
  type ExecRequest,
  encodeCredit,
  encodeEof,
  encodeExit,
  encodeResize,
  encodeStart,
  MAX_ARGUMENTS_AND_VARIABLES,
  MAX_REQUEST_BYTES,
} from '../../lib/services/exec/exec-messages.js';
import { RECORD_HEADER_BYTES } from '../../lib/util/bytes/records.js';

const payloadOf = (record: Buffer): Buffer => record.subarray(RECORD_HEADER_BYTES);

const text = fc.string({ unit: 'binary' }).filter((value) => !value.includes('\0'));
const size = fc.integer({ min: 1, max: 65_535 });

test('any request survives encoding and decoding', (t) => {
  const requests: fc.Arbitrary<ExecRequest> = fc.record(
    {
      argv: fc.array(text),
      cwd: text,
      env: fc.dictionary(fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]*$/), text),
      user: text,
      terminal: fc.record({ columns: size, rows: size, term: text }),
      hasInput: fc.boolean(),
      timeoutMs: fc.nat(),
      killAfterMs: fc.nat(),
    },
    { requiredKeys: ['argv'] },
  );
  fc.assert(
    fc.property(requests, (request) => {
      t.deepEqual(decodeStart(payloadOf(encodeStart(request))), request);
    }),
  );
});

test('the other messages survive encoding and decoding', (t) => {
  const result = { status: null, signal: 'SIGKILL', timedOut: true, durationMs: 12.5, error: null };
  t.deepEqual(decodeExit(payloadOf(encodeExit(result))), result);
  const failed = { ...result, signal: null, error: { code: 'command-not-found', message: 'x' } };
  t.deepEqual(decodeExit(payloadOf(encodeExit(failed))), failed);
  t.deepEqual(decodeResize(payloadOf(encodeResize({ columns: 300, rows: 65_535 }))), { columns: 300, rows: 65_535 });
  t.is(decodeCredit(payloadOf(encodeCredit(4_000_000_000))), 4_000_000_000);
  for (const fd of [0, 1, 2] as const) t.is(decodeEof(payloadOf(encodeEof(fd))), fd);
  t.is(decodeSignal(Buffer.from('SIGRTMIN+1')), 'SIGRTMIN+1');
  t.is(decodeStarted(Buffer.from('{"pid":7}')), 7);
});

test('a command that is too long is refused by the sender', (t) => {
  t.throws(() => encodeStart({ argv: ['x'.repeat(MAX_REQUEST_BYTES)] }), { code: 'bad-argument' });
});

test('a command with too many values is refused by the sender, and by the reader before parsing', (t) => {
  const argv = (count: number): string[] => Array.from({ length: count }, () => 'a');
  const most = MAX_ARGUMENTS_AND_VARIABLES;
  const whole = { cwd: '/', user: 'a', terminal: { columns: 1, rows: 1, term: 'x' }, hasInput: true } as const;
  const request = { argv: argv(most - 2), env: { A: '1', B: '2' }, ...whole, timeoutMs: 1, killAfterMs: 1 };
  t.deepEqual(decodeStart(payloadOf(encodeStart(request))), request);
  t.throws(() => encodeStart({ ...request, argv: argv(most - 1) }), {
    code: 'bad-argument',
    message: `too many arguments and variables: ${most + 1} (max ${most})`,
  });
  const values = Buffer.from(`{"argv":["a"],"more":[${'1,'.repeat(400_000)}1]}`);
  t.throws(() => decodeStart(values), {
    code: 'protocol-error',
    message: 'exec: START has more than 65536 commas, braces and brackets',
  });
});

test('a timeout beyond the longest timer is refused by the sender', (t) => {
  t.throws(() => encodeStart({ argv: ['x'], timeoutMs: 2 ** 31 }), { code: 'bad-argument', message: /2147483647 ms/ });
  t.throws(() => encodeStart({ argv: ['x'], killAfterMs: -1 }), { code: 'bad-argument' });
});

test('unknown fields are dropped', (t) => {
  t.deepEqual(decodeStart(Buffer.from('{"argv":["a"],"root":true}')), { argv: ['a'] });
});

const BAD_STARTS = [
  ...['x', '[]', '{}', '{"argv":"ls"}', '{"argv":[1]}', '{"argv":["a\\u0000b"]}', '{"argv":[],"cwd":1}'],
  ...['{"argv":[],"user":null}', '{"argv":[],"env":[]}', '{"argv":[],"env":{"A":1}}'],
  ...['{"argv":[],"env":{"A=B":"1"}}', '{"argv":[],"env":{"":"1"}}'],
  ...['{"argv":[],"terminal":{"columns":0,"rows":1,"term":"x"}}'],
  ...['{"argv":[],"terminal":{"columns":1,"rows":65536,"term":"x"}}'],
  ...['{"argv":[],"terminal":{"columns":1,"rows":1}}', '{"argv":[],"hasInput":1}', '{"argv":[],"timeoutMs":-1}'],
  ...['{"argv":[],"timeoutMs":2147483648}', '{"argv":[],"killAfterMs":"5"}', '{"argv":[],"killAfterMs":1e300}'],
];

for (const start of BAD_STARTS) {
  test(`invalid START: ${start}`, (t) => {
    t.throws(() => decodeStart(Buffer.from(start)), { instanceOf: VproxyError, code: 'protocol-error' });
  });
}

test('other invalid messages are refused', (t) => {
  const exit = { status: 0, signal: null, timedOut: false, durationMs: 1, error: null };
  const changes = [
    { status: 256 },
    { status: '0' },
    { signal: 9 },
    { timedOut: 0 },
    { durationMs: null },
    { error: { code: 'denied' } },
    { error: { message: 'no' } },
  ];
  for (const change of changes) {
    t.throws(() => decodeExit(Buffer.from(JSON.stringify({ ...exit, ...change }))), { code: 'protocol-error' });
  }
  for (const payload of ['', '\u0003', '\u0000\u0000']) {
    t.throws(() => decodeEof(Buffer.from(payload)), { code: 'protocol-error' });
  }
  for (const name of ['', 'INT', 'SIGINT ', 'sigint', '-9']) {
    t.throws(() => decodeSignal(Buffer.from(name)), { code: 'protocol-error' });
  }
  t.throws(() => decodeResize(Buffer.alloc(4)), { code: 'protocol-error' });
  t.throws(() => decodeResize(Buffer.alloc(3)), { code: 'protocol-error' });
  t.throws(() => decodeCredit(Buffer.alloc(5)), { code: 'protocol-error' });
  t.throws(() => decodeStarted(Buffer.from('{"pid":-1}')), { code: 'protocol-error' });
});
