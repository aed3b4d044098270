/** Inputs for the targets of storage: requests, replies, failures and files of replies, and streams of them. */
import fc from 'fast-check';
import { after, choice, decisions, objects, tokens } from './pieces.js';

const text = fc.oneof(fc.constantFrom('', '/c0', 'show', 'é\u{1f4be}', '}"{\\'), fc.string({ maxLength: 10 }));
const base64 = fc.constantFrom('', 'Yf8=', 'YQ==', 'YWJj', 'a', 'ab=c', '====');
const status = fc.oneof(fc.nat(255), fc.constantFrom(0, 256, -1, 0.5));

const request = objects({ argv: fc.array(text, { maxLength: 5 }), vm: text });
const reply = objects({ stdout: text, stderr: text, status });
const replyOfBytes = objects({ stdout: text, stdoutBase64: base64, stderr: text, status });
const failure = objects({
  error: fc.oneof(
    fc.constant(null),
    fc.record({ code: fc.constantFrom('storage-unavailable', 'denied', 'x'), message: text }),
  ),
});
const entry = fc.record(
  {
    argv: fc.array(text, { minLength: 1, maxLength: 3 }),
    pattern: fc.array(fc.constantFrom('*', '**', '?', 'a', '/x/storcli64'), { minLength: 1, maxLength: 3 }),
    stdout: fc.oneof(text, fc.array(text, { maxLength: 3 })),
    stderrBase64: base64,
    status,
  },
  { requiredKeys: [] },
);
const file = objects({ replies: fc.array(entry, { maxLength: 3 }), default: entry });

/** One message after the choice of what it is. */
export const wireInputs = after(choice(3), fc.oneof(request, reply, replyOfBytes, failure, file));

const gap = fc.constantFrom('', '\n', '\r\n', ' \t').map((space) => Buffer.from(space));
const near = tokens(['{', '}', '"', '\\', '\n', ' ', 'a', '{"a":"b"}', '{"a":{}}\n', 'é'], 20);
const stream = fc
  .array(fc.oneof(request, reply, replyOfBytes, failure, near, gap), { maxLength: 4 })
  .map((list) => Buffer.concat(list));

/** Streams of messages after a bound. */
export const scannerInputs = after(
  choice(255),
  after(
    decisions(6).map((bytes) => bytes.subarray(1)),
    stream,
  ),
);

/** What an emulator or a wrapper sends. */
export const storageStreamInputs = after(
  decisions(3),
  fc.oneof(after(reply, gap), after(request, gap), after(reply, stream), stream),
);
