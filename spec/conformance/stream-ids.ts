import test from 'ava';
import { decodeHello } from '../../lib/codec/hello.js';
import { VproxyError } from '../../lib/errors.js';
import { agree } from '../../lib/session/opening/agreement.js';
import { Session } from '../../lib/session/session.js';
import { FrameLog, formatSeen } from '../helpers/frame-log.js';
import { framesOf } from '../helpers/frame-maker.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { MemoryPipe } from '../helpers/session-pair.js';

/** A session, without a loop, that begins with a high stream id, and what answers it with the next frames. */
function sessionFrom(firstStreamId: number) {
  const peer = new FramePeer({ isOdd: (firstStreamId & 1) === 0 });
  const hello = (nonce: string) => decodeHello(Buffer.from(JSON.stringify({ ...peer.helloFields, nonce })));
  const pipe = new MemoryPipe(2 ** 20);
  const agreement = agree(hello('7'.repeat(32)), hello(peer.nonce));
  const { clock, settings } = peer;
  const session = new Session(agreement, { sink: pipe, clock, settings, firstStreamId });
  const codes: string[] = [];
  session.on('end', ({ code }) => codes.push(code));
  session.begin();
  session.start([]);
  const log = new FrameLog('full', () => '');
  const texts = (): string[] => {
    log.push(pipe.take(2 ** 20).bytes);
    return log.take().map(formatSeen);
  };
  texts();
  const say = (frames: string): void => {
    for (const frame of framesOf(frames)) session.receive(peer.frame(...frame));
  };
  return { session, clock, codes, texts, say };
}

test('R-STREAM-6: when the ids are used up opens wait, and the session is renewed when it is idle', (t) => {
  for (const firstId of [0xffff_fffd, 0xffff_fffc]) {
    const { session, codes, texts, say } = sessionFrom(firstId);
    const sinks = Array.from({ length: 3 }, () => new RecordingSink());
    for (const sink of sinks) session.open('far', null, sink);
    t.deepEqual(texts(), [`OPEN ${firstId} far`, `OPEN ${firstId + 2} far`]);
    say(`ACCEPT ${firstId}, REFUSE ${firstId + 2}, FIN ${firstId}`);
    t.deepEqual([texts(), codes], [[], []]);
    say(`RESET ${firstId}`);
    t.deepEqual([texts(), codes, sinks[2]?.events], [['GOAWAY 0 shutdown'], ['shutdown'], ['end shutdown']]);
  }
});

test('R-STREAM-6: when the ids are used up the session is renewed at the latest after an hour', (t) => {
  const { session, clock, codes, texts, say } = sessionFrom(0xffff_ffff);
  const sink = new RecordingSink();
  session.open('far', null, sink);
  say('ACCEPT 4294967295');
  clock.advance(3_599_999);
  t.deepEqual(codes, []);
  clock.advance(1);
  t.deepEqual([codes, sink.events], [['shutdown'], ['accept', 'end shutdown']]);
  t.deepEqual(texts().slice(-2), ['RESET 4294967295 shutdown', 'GOAWAY 0 shutdown']);
});

test('R-STREAM-6: frames on ids near the end of the range are told apart as ever', (t) => {
  const { codes, say } = sessionFrom(0xffff_fffe);
  say('FIN 4294967294');
  t.deepEqual(codes, ['protocol-error']);
});

test('a session that is over refuses to open', (t) => {
  const { session } = sessionFrom(1);
  session.end(new VproxyError('shutdown', 'bye'));
  t.throws(() => session.open('far', null, new RecordingSink()), { code: 'no-session' });
});
