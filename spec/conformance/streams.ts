import test from 'ava';
import { FrameLog, formatSeen } from '../../conformance/frame-log.js';
import { framesOf } from '../../conformance/frame-maker.js';
import { decodeHello } from '../../lib/codec/hello.js';
import { VproxyError } from '../../lib/errors.js';
import { IncomingForward } from '../../lib/forward/incoming.js';
import { ServiceRegistry } from '../../lib/forward/service-registry.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { agree } from '../../lib/session/opening/agreement.js';
import { Session } from '../../lib/session/session.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { localServer } from '../helpers/proxies.js';
import { MemoryPipe } from '../helpers/session-pair.js';
import { eventually } from '../helpers/time.js';

test('R-STREAM-5: RESET frees a slot for an OPEN in the same write, even if a socket has to be closed; up to `opens` of those may be closing', async (t) => {
  const { port } = await localServer(t, () => undefined);
  const peer = FramePeer.established({ limits: { streams: 2 } });
  const registry = new ServiceRegistry();
  const spec = parseForwardSpec('incoming', `target:${port}`);
  const forward = new IncomingForward(spec, { registry, log: () => undefined, clock: peer.clock, maxStreams: 2 });
  t.teardown(() => forward.stop());
  await forward.start();
  peer.session.server = registry;
  for (const frames of ['OPEN 1, OPEN 3', 'RESET 1, RESET 3, OPEN 5, OPEN 7']) {
    peer.write(Buffer.concat(framesOf(frames).map((frame) => peer.frame(...frame))));
    const texts: string[] = [];
    await eventually(() => {
      peer.pump();
      texts.push(...peer.takeTexts());
      return texts.length >= 2;
    });
    t.deepEqual(texts.sort(), frames.startsWith('OPEN') ? ['ACCEPT 1', 'ACCEPT 3'] : ['ACCEPT 5', 'ACCEPT 7']);
  }
  peer.say('RESET 5, RESET 7');
  await eventually(() => forward.openCount === 0);
  for (let id = 9; id < 1009; id += 2) peer.say(`OPEN ${id}, RESET ${id}`);
  t.is(forward.openCount, 2 + 256);
  t.deepEqual(peer.takeTexts().slice(-1), ['REFUSE 1007 too-many-streams']);
  await eventually(() => forward.openCount === 0);
});

// ---- the end of the ids --------------------------------------------------------------------------------------------------

/** A session, without a loop, that begins with a high stream id, and a function that answers it with the next frames. */
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

test('R-STREAM-6: when the ids run out opens wait, and the session is renewed when it is idle', (t) => {
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

test('R-STREAM-6: when the ids run out the session is renewed after an hour at the latest', (t) => {
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

test('R-STREAM-6: frames on ids near the end of the range are told apart as before', (t) => {
  const { codes, say } = sessionFrom(0xffff_fffe);
  say('FIN 4294967294');
  t.deepEqual(codes, ['protocol-error']);
});

test('a session that is over refuses to open', (t) => {
  const { session } = sessionFrom(1);
  session.end(new VproxyError('shutdown', 'bye'));
  t.throws(() => session.open('far', null, new RecordingSink()), { code: 'no-session' });
});
