/** Requests, replies and failures as bytes. */
import test from 'ava';
import fc from 'fast-check';
import { VproxyError } from '../../lib/errors.js';
import {
  decodeAnswer,
  decodeReply,
  decodeRequest,
  encodeFailure,
  encodeReply,
  encodeRequest,
} from '../../lib/storage/wire.js';

test('a request is the line that emulators in the field expect', (t) => {
  const request = { argv: ['/usr/sbin/storcli64', '/c0', 'show', 'all'] };
  t.is(encodeRequest(request).toString(), '{"argv":["/usr/sbin/storcli64","/c0","show","all"]}\n');
  t.is(
    encodeRequest({ ...request, vm: 'n1' }).toString(),
    '{"argv":["/usr/sbin/storcli64","/c0","show","all"],"vm":"n1"}\n',
  );
  t.is(encodeRequest({ argv: ['\u00e9\u{1f4be}'] }).toString(), '{"argv":["\\u00e9\\ud83d\\udcbe"]}\n');
});

test('any request survives the way, in ASCII and on one line', (t) => {
  const requests = fc.record(
    { argv: fc.array(fc.string({ unit: 'binary' }), { minLength: 1 }), vm: fc.string() },
    { requiredKeys: ['argv'] },
  );
  fc.assert(
    fc.property(requests, (request) => {
      const line = encodeRequest(request);
      t.is(line.indexOf('\n'), line.length - 1);
      t.true(line.every((byte) => byte < 0x7f));
      t.deepEqual(decodeRequest(line), request);
    }),
  );
});

test('any bytes survive as output, and text stays legible for those who know no base64', (t) => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.string(), fc.integer({ min: 0, max: 255 }), (stdout, stderr, status) => {
      const line = encodeReply({ stdout, stderr, status });
      t.is(line.indexOf('\n'), line.length - 1);
      t.deepEqual(decodeReply(line), { stdout: Buffer.from(stdout), stderr: Buffer.from(stderr), status });
    }),
  );
  t.is(encodeReply({ stdout: Buffer.from('é') }).toString(), '{"stdout":"é","stderr":"","status":0}\n');
  t.is(
    encodeReply({ stdout: Buffer.from([0x61, 0xff]), status: 1 }).toString(),
    '{"stdout":"a\ufffd","stdoutBase64":"Yf8=","stderr":"","status":1}\n',
  );
});

test('unknown fields are ignored both ways', (t) => {
  t.deepEqual(decodeRequest(Buffer.from('{"v":1,"argv":["a"],"cwd":"/"}')), { argv: ['a'] });
  const reply = decodeReply(
    Buffer.from('{"error":{"code":"a","message":"b"},"stdout":"","stderr":"","status":3,"x":[]}'),
  );
  t.is(reply.status, 3);
  const answer = '{"error":{"code":"a","message":"b"},"stdout":"","stderr":"","status":3}';
  t.is(decodeAnswer(Buffer.from(answer)).status, 3);
});

test('what is no reply is refused', (t) => {
  for (const text of [
    'hello',
    '',
    '[]',
    'null',
    ' {"stdout":"","stderr":"","status":0}',
    '{}',
    '{"stdout":"","stderr":""}',
    '{"stdout":"","stderr":"","status":256}',
    '{"stdout":"","stderr":"","status":1.5}',
    '{"stdout":"","stderr":"","status":"0"}',
    '{"stdout":1,"stderr":"","status":0}',
    '{"stdout":"","status":0}',
    '{"stdout":"","stderr":"","status":0,"stdoutBase64":"a"}',
    '{"stdout":"","stderr":"","status":0,"stdoutBase64":"ab=c"}',
    '{"stdout":"","stderr":"","status":0,"stderrBase64":7}',
  ]) {
    for (const decode of [decodeReply, decodeAnswer]) {
      t.throws(() => decode(Buffer.from(text)), { instanceOf: VproxyError, code: 'storage-bad-reply' }, text);
    }
  }
});

test('what is no request is refused', (t) => {
  for (const text of [
    'hello',
    '{}',
    '{"argv":[]}',
    '{"argv":"ls"}',
    '{"argv":["ls",1]}',
    '{"argv":["ls"],"vm":1}',
    `{"argv":${'['.repeat(200_000)}`,
  ]) {
    const expected = { instanceOf: VproxyError, code: 'storage-bad-request' };
    t.throws(() => decodeRequest(Buffer.from(text)), expected, text.slice(0, 40));
  }
});

test('a failure arrives as the error that it was', (t) => {
  const line = encodeFailure(new VproxyError('storage-unavailable', 'gone\naway'));
  t.is(line.indexOf('\n'), line.length - 1);
  t.throws(() => decodeAnswer(line), { instanceOf: VproxyError, code: 'storage-unavailable', message: 'gone\naway' });
});

test('what an emulator sent is shown escaped and short', (t) => {
  const { message } = t.throws(() => decodeReply(Buffer.from(`\u001b[2J${'x'.repeat(5000)}`)));
  t.true(message.includes('\\x1b[2J'));
  t.true(message.length < 300);
});

test('a result that cannot be a reply is refused', (t) => {
  t.throws(() => encodeReply({ status: 256 }), { code: 'storage-bad-reply' });
  t.throws(() => encodeReply({ stdout: 'x'.repeat(64 * 1024 * 1024) }), { code: 'storage-bad-reply' });
});
