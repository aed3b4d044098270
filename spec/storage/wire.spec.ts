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

const badReply = test.macro({
  exec: (t, text: string) => {
    t.throws(() => decodeReply(Buffer.from(text)), { instanceOf: VproxyError, code: 'storage-bad-reply' });
    t.throws(() => decodeAnswer(Buffer.from(text)), { instanceOf: VproxyError, code: 'storage-bad-reply' });
  },
  title: (_title, text: string) => `${text} is no reply`,
});

test(badReply, 'hello');
test(badReply, '');
test(badReply, '[]');
test(badReply, 'null');
test(badReply, ' {"stdout":"","stderr":"","status":0}');
test(badReply, '{}');
test(badReply, '{"stdout":"","stderr":""}');
test(badReply, '{"stdout":"","stderr":"","status":256}');
test(badReply, '{"stdout":"","stderr":"","status":-1}');
test(badReply, '{"stdout":"","stderr":"","status":1.5}');
test(badReply, '{"stdout":"","stderr":"","status":"0"}');
test(badReply, '{"stdout":"","stderr":"","status":true}');
test(badReply, '{"stdout":1,"stderr":"","status":0}');
test(badReply, '{"stdout":"","status":0}');
test(badReply, '{"stdout":"","stderr":"","status":0,"stdoutBase64":"a"}');
test(badReply, '{"stdout":"","stderr":"","status":0,"stdoutBase64":"ab=c"}');
test(badReply, '{"stdout":"","stderr":"","status":0,"stderrBase64":7}');

const badRequest = test.macro({
  exec: (t, text: string) => {
    t.throws(() => decodeRequest(Buffer.from(text)), { instanceOf: VproxyError, code: 'storage-bad-request' });
  },
  title: (_title, text: string) => `${text.slice(0, 40)} is no request`,
});

test(badRequest, 'hello');
test(badRequest, '{}');
test(badRequest, '{"argv":[]}');
test(badRequest, '{"argv":"ls"}');
test(badRequest, '{"argv":["ls",1]}');
test(badRequest, '{"argv":["ls"],"vm":1}');
test(badRequest, `{"argv":${'['.repeat(200_000)}`);

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

test('arbitrary bytes give nothing but the error of the protocol', (t) => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array(),
        fc.json().map((text) => Buffer.from(text)),
      ),
      (bytes) => {
        for (const decode of [decodeReply, decodeRequest, decodeAnswer]) {
          try {
            decode(Buffer.from(bytes));
          } catch (error) {
            if (!(error instanceof VproxyError)) throw error;
          }
        }
        t.pass();
      },
    ),
  );
});

test('a result that cannot be a reply is refused', (t) => {
  t.throws(() => encodeReply({ status: 256 }), { code: 'storage-bad-reply' });
  t.throws(() => encodeReply({ stdout: 'x'.repeat(64 * 1024 * 1024) }), { code: 'storage-bad-reply' });
});
