/** Encoding of the messages between caller and runner of a command. */
import test from 'ava';
import fc from 'fast-check';
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
import { ANY_CHARACTER } from '../helpers/searches.js';

const payloadOf = (record: Buffer): Buffer => record.subarray(RECORD_HEADER_BYTES);

const text = fc.string({ unit: ANY_CHARACTER }).filter((value) => !value.includes('\0'));
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
  const usage = { cpuMs: 1.5, peakBytes: 4096 };
  const result = { status: null, signal: 'SIGKILL', timedOut: true, durationMs: 12.5, usage, error: null };
  t.deepEqual(decodeExit(payloadOf(encodeExit(result))), result);
  const failed = { ...result, signal: null, error: { code: 'command-not-found', message: 'x' } };
  t.deepEqual(decodeExit(payloadOf(encodeExit(failed))), failed);
  // An older peer does not tell what it used.
  const older = JSON.stringify({ ...result, usage: undefined });
  t.deepEqual(decodeExit(Buffer.from(older)), { ...result, usage: null });
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
    code: 'bad-argument',
    message: 'START has more than 65536 commas, braces and brackets',
  });
});

test('a timeout beyond the longest timer is refused by the sender', (t) => {
  t.throws(() => encodeStart({ argv: ['x'], timeoutMs: 2 ** 31 }), { code: 'bad-argument', message: /2147483647 ms/ });
  t.throws(() => encodeStart({ argv: ['x'], killAfterMs: -1 }), { code: 'bad-argument' });
});

test('unknown fields are dropped', (t) => {
  t.deepEqual(decodeStart(Buffer.from('{"argv":["a"],"root":true}')), { argv: ['a'] });
});

/** What a START is, and what is said of it. */
const BAD_STARTS: readonly (readonly [string, string])[] = [
  ['x', ' is not a JSON object'],
  ['[]', ' is not a JSON object'],
  ['{"argv":["\xff"]}', ' is not UTF-8'],
  ['{"argv":["\\ud800"]}', ' has half a surrogate pair'],
  ['{"argv":["\\ud83d\\ude00\\\\\\udfff"]}', ' has half a surrogate pair'],
  ['{"argv":["a"],"env":{"\\udc41":""}}', ' has half a surrogate pair'],
  ['{}', ': argv: not a list'],
  ['{"argv":"ls"}', ': argv: not a list'],
  ['{"argv":["a",1]}', ': argv[1]: not a string'],
  ['{"argv":[null]}', ': argv[0]: not a string'],
  ['{"argv":["a\\u0000b"]}', ': argv[0]: contains NUL'],
  ['{"argv":[],"cwd":1}', ': cwd: not a string'],
  ['{"argv":[],"cwd":"\\u0000"}', ': cwd: contains NUL'],
  ['{"argv":[],"user":[]}', ': user: not a string'],
  ['{"argv":[],"env":[]}', ': env: not an object'],
  ['{"argv":[],"env":{"A":1}}', ': env[A]: not a string'],
  ['{"argv":[],"env":{"A":null}}', ': env[A]: not a string'],
  ['{"argv":[],"env":{"A":"\\u0000"}}', ': env[A]: contains NUL'],
  ['{"argv":[],"env":{"A=B":"1"}}', ': env: a name is empty, or contains "=" or NUL'],
  ['{"argv":[],"env":{"":"1"}}', ': env: a name is empty, or contains "=" or NUL'],
  ['{"argv":[],"terminal":7}', ': terminal: not an object'],
  [
    '{"argv":[],"terminal":{"columns":0,"rows":1,"term":"x"}}',
    ': terminal.columns: not a whole number from 1 to 65535',
  ],
  [
    '{"argv":[],"terminal":{"columns":1,"rows":65536,"term":"x"}}',
    ': terminal.rows: not a whole number from 1 to 65535',
  ],
  ['{"argv":[],"terminal":{"columns":1,"rows":1}}', ': terminal.term: not a string'],
  ['{"argv":[],"hasInput":1}', ': hasInput: neither true nor false'],
  ['{"argv":[],"timeoutMs":-1}', ': timeoutMs: not a number from 0 to 2147483647'],
  ['{"argv":[],"timeoutMs":2147483648}', ': timeoutMs: not a number from 0 to 2147483647'],
  ['{"argv":[],"killAfterMs":"5"}', ': killAfterMs: not a number from 0 to 2147483647'],
  ['{"argv":[],"detach":1}', ': detach: not an object'],
  ['{"argv":[],"detach":{"tag":1}}', ': detach.tag: not a string'],
  [`{"argv":[],"detach":{"tag":"${'x'.repeat(65)}"}}`, ': detach.tag: longer than 64 bytes'],
  ['{"argv":[],"detach":{"keepBytes":-1}}', ': detach.keepBytes: not a whole number from 0 to 16777216'],
  ['{"argv":[],"detach":{"keepBytes":16777217}}', ': detach.keepBytes: not a whole number from 0 to 16777216'],
  ['{"argv":[],"detach":{"unique":1}}', ': detach.unique: neither true nor false'],
];

for (const [start, fault] of BAD_STARTS) {
  test(`R-EXEC-1: invalid START: ${start}`, (t) => {
    t.throws(() => decodeStart(Buffer.from(start, 'latin1')), { code: 'bad-argument', message: `START${fault}` });
  });
}

test('R-EXEC-1: null is as if absent, and what UTF-8 can express is no fault', (t) => {
  const text = '{"argv":["\\ud83d\\ude00","\\\\ud800","\ufffd"],"cwd":null,"env":null,"terminal":null,"detach":null}';
  t.deepEqual(decodeStart(Buffer.from(text)), { argv: ['😀', '\\ud800', '\ufffd'] });
});

test('what the runner would refuse is refused by the sender, too', (t) => {
  for (const [request, message] of [
    [{ argv: ['a\0'] }, 'argv[0]: contains NUL'],
    [{ argv: ['\ud800'] }, 'command has half a surrogate pair'],
    [{ argv: ['a'], env: { 'A=': '' } }, 'env: a name is empty, or contains "=" or NUL'],
    [{ argv: ['a'], detach: { keepBytes: -1 } }, 'detach.keepBytes: not a whole number from 0 to 16777216'],
  ] as const) {
    t.throws(() => encodeStart(request), { code: 'bad-argument', message });
  }
  t.throws(() => encodeResize({ columns: 0, rows: 1 }), { code: 'bad-argument' });
  t.throws(() => encodeResize({ columns: 1, rows: 65_536 }), { code: 'bad-argument' });
});

test('other invalid messages are refused', (t) => {
  const exit = { status: 0, signal: null, timedOut: false, durationMs: 1, error: null };
  const changes = [
    { status: 256 },
    { status: '0' },
    { signal: 9 },
    { timedOut: 0 },
    { durationMs: null },
    { usage: 1 },
    { usage: {} },
    { usage: { cpuMs: -1, peakBytes: 1 } },
    { usage: { cpuMs: 1, peakBytes: 0.5 } },
    { usage: { cpuMs: 1 } },
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
  t.is(decodeResize(Buffer.alloc(4)), null);
  t.throws(() => decodeResize(Buffer.alloc(3)), { code: 'protocol-error' });
  t.throws(() => decodeCredit(Buffer.alloc(5)), { code: 'protocol-error' });
  t.throws(() => decodeStarted(Buffer.from('{"pid":-1}')), { code: 'protocol-error' });
});
