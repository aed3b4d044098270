import test from 'ava';
import { encodeFrame, FRAME_TYPE, headerCheck, nextSequence } from '../../lib/codec/header.js';
import { decodeHello } from '../../lib/codec/hello.js';
import { VproxyError } from '../../lib/errors.js';
import { agree } from '../../lib/session/opening/agreement.js';
import { Session } from '../../lib/session/session.js';
import { FrameLog, formatSeen } from '../helpers/frame-log.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { MemoryPipe } from '../helpers/session-pair.js';

/** A session, without a loop, that begins with a high stream id; and a function that answers it with the next frame. */
function sessionFrom(firstStreamId: number) {
  const peer = new FramePeer({ isOdd: (firstStreamId & 1) === 0 });
  const hello = (nonce: string) => decodeHello(Buffer.from(JSON.stringify({ ...peer.helloFields, nonce })));
  const pipe = new MemoryPipe(2 ** 20);
  const agreement = agree(hello('7'.repeat(32)), hello(peer.nonce));
  const { clock, settings } = peer;
  const session = new Session(agreement, { sink: pipe, clock, settings, firstStreamId });
  const endings: VproxyError[] = [];
  session.on('end', (reason) => endings.push(reason));
  session.begin();
  session.start([]);
  const log = new FrameLog('full', () => '');
  const texts = (): string[] => {
    log.push(pipe.take(2 ** 20).bytes);
    return log.take().map(formatSeen);
  };
  texts();
  const send = (type: number, id: number, payload?: object) => session.receive(peer.frame(type, id, payload));
  return { session, clock, endings, texts, send };
}

test('R-STREAM-6: when the ids are used up opens wait, and the session is renewed when it is idle', (t) => {
  for (const firstId of [0xffff_fffd, 0xffff_fffc]) {
    const { session, endings, texts, send } = sessionFrom(firstId);
    const sinks = Array.from({ length: 3 }, () => new RecordingSink());
    for (const sink of sinks) session.open('far', null, sink);
    t.deepEqual(texts(), [`OPEN ${firstId} far`, `OPEN ${firstId + 2} far`]);
    send(FRAME_TYPE.ACCEPT, firstId);
    send(FRAME_TYPE.REFUSE, firstId + 2, { code: 'denied', message: '' });
    t.deepEqual(endings, []);
    send(FRAME_TYPE.FIN, firstId);
    session.removeAllListeners('stream');
    t.deepEqual(texts(), []);
    send(FRAME_TYPE.RESET, firstId, { code: 'cancelled', message: '' });
    t.deepEqual(
      endings.map(({ code }) => code),
      ['shutdown'],
    );
    t.deepEqual(sinks[2]?.events, ['end shutdown']);
    t.deepEqual(texts(), ['GOAWAY 0 shutdown']);
  }
});

test('R-STREAM-6: when the ids are used up the session is renewed at the latest after an hour', (t) => {
  const { session, clock, endings, texts, send } = sessionFrom(0xffff_ffff);
  const sink = new RecordingSink();
  session.open('far', null, sink);
  send(FRAME_TYPE.ACCEPT, 0xffff_ffff);
  clock.advance(3_599_999);
  t.deepEqual(endings, []);
  clock.advance(1);
  t.is(endings[0]?.code, 'shutdown');
  t.deepEqual(sink.events, ['accept', 'end shutdown']);
  t.deepEqual(texts().slice(-2), ['RESET 4294967295 shutdown', 'GOAWAY 0 shutdown']);
});

test('R-STREAM-6: frames on ids near the end of the range are told apart as ever', (t) => {
  const { endings, send } = sessionFrom(0xffff_fffe);
  send(FRAME_TYPE.FIN, 0xffff_fffe);
  t.is(endings[0]?.code, 'protocol-error');
});

test('R-FRAME-3: sequence numbers wrap from 2^32-1 to 1', (t) => {
  t.is(nextSequence(1), 2);
  t.is(nextSequence(0xffff_fffe), 0xffff_ffff);
  t.is(nextSequence(0xffff_ffff), 1);
});

test('R-FRAME-2: the check depends on every bit of the sequence number and of the header', (t) => {
  const frame = encodeFrame(FRAME_TYPE.DATA, 9, Buffer.from('x'), 1);
  const checks = new Set([headerCheck(frame, 0, 1)]);
  for (let bit = 0; bit < 32; bit += 1) checks.add(headerCheck(frame, 0, (1 ^ (1 << bit)) >>> 0));
  for (let byte = 0; byte < 16; byte += 1) {
    if (byte === 2 || byte === 3) continue;
    const other = Buffer.from(frame);
    other[byte] = (other[byte] as number) ^ 0x10;
    checks.add(headerCheck(other, 0, 1));
  }
  t.is(checks.size, 1 + 32 + 14);
});

test('a session that is over refuses to open', (t) => {
  const { session } = sessionFrom(1);
  session.end(new VproxyError('shutdown', 'bye'));
  t.throws(() => session.open('far', null, new RecordingSink()), { code: 'no-session' });
});
