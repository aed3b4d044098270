/** Encoding of requests, replies and failures. */
import test from 'ava';
import { VproxyError } from '../../lib/errors.js';
import {
  decodeAnswer,
  decodeReply,
  decodeRequest,
  encodeFailure,
  encodeReply,
  encodeRequest,
} from '../../lib/storage/wire.js';

test('a request is the line that existing emulators expect, and a reply is legible without base64', (t) => {
  const argv = ['/usr/sbin/storcli64', '/c0', 'show', 'all'];
  for (const [line, expected] of [
    [encodeRequest({ argv }), '{"argv":["/usr/sbin/storcli64","/c0","show","all"]}\n'],
    [encodeRequest({ argv: ['a'], vm: 'n1' }), '{"argv":["a"],"vm":"n1"}\n'],
    [encodeRequest({ argv: ['\u00e9\u{1f4be}'] }), '{"argv":["\\u00e9\\ud83d\\udcbe"]}\n'],
    [encodeReply({ stdout: Buffer.from('é') }), '{"stdout":"é","stderr":"","status":0}\n'],
    [
      encodeReply({ stdout: Buffer.from([0x61, 0xff]), status: 1 }),
      '{"stdout":"a\ufffd","stdoutBase64":"Yf8=","stderr":"","status":1}\n',
    ],
  ] as const)
    t.is(line.toString(), expected);
});

test('unknown fields are ignored both ways', (t) => {
  t.deepEqual(decodeRequest(Buffer.from('{"v":1,"argv":["a"],"cwd":"/"}')), { argv: ['a'] });
  const answer = Buffer.from('{"error":{"code":"a","message":"b"},"stdout":"","stderr":"","status":3,"x":[]}');
  for (const decode of [decodeReply, decodeAnswer]) t.is(decode(answer).status, 3);
});

const NO_REPLIES = [
  ...['hello', '', '[]', 'null', ' {"stdout":"","stderr":"","status":0}', '{}', '{"stdout":"","stderr":""}'],
  ...['256', '1.5', '"0"'].map((status) => `{"stdout":"","stderr":"","status":${status}}`),
  ...['{"stdout":1,"stderr":"","status":0}', '{"stdout":"","status":0}'],
  ...['"stdoutBase64":"a"', '"stdoutBase64":"ab=c"', '"stderrBase64":7'].map(
    (field) => `{"stdout":"","stderr":"","status":0,${field}}`,
  ),
];

const NO_REQUESTS = [
  ...['hello', '{}', '{"argv":[]}', '{"argv":"ls"}', '{"argv":["ls",1]}', '{"argv":["ls"],"vm":1}'],
  `{"argv":${'['.repeat(200_000)}`,
];

for (const [code, decoders, texts] of [
  ['storage-bad-reply', [decodeReply, decodeAnswer], NO_REPLIES],
  ['storage-bad-request', [decodeRequest], NO_REQUESTS],
] as const) {
  test(`invalid messages are refused with ${code}`, (t) => {
    for (const text of texts)
      for (const decode of decoders)
        t.throws(() => void decode(Buffer.from(text)), { instanceOf: VproxyError, code }, text.slice(0, 40));
  });
}

test('a failure arrives as the original error', (t) => {
  const line = encodeFailure(new VproxyError('storage-unavailable', 'gone\naway'));
  t.is(line.indexOf('\n'), line.length - 1);
  t.throws(() => decodeAnswer(line), { instanceOf: VproxyError, code: 'storage-unavailable', message: 'gone\naway' });
});

test('data from an emulator is shown escaped and truncated', (t) => {
  const { message } = t.throws(() => decodeReply(Buffer.from(`\u001b[2J${'x'.repeat(5000)}`)));
  t.true(message.includes('\\x1b[2J') && message.length < 300, message);
});

test('an invalid result is refused', (t) => {
  for (const result of [{ status: 256 }, { stdout: 'x'.repeat(64 * 1024 * 1024) }])
    t.throws(() => encodeReply(result), { code: 'storage-bad-reply' });
});
