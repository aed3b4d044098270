import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { IncomingForward } from '../../lib/forward/incoming.js';
import { ServiceRegistry } from '../../lib/forward/service-registry.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { conversations, endsWith } from '../helpers/conversation.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { localServer } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const { OPEN, RESET } = FRAME_TYPE;
/** All frames of a stream that is there. */
const ALL = ['ACCEPT', 'REFUSE', 'DATA', 'CREDIT', 'FIN', 'STOP', 'RESET'];
const REASON = { code: 'denied', message: 'no' };

const WRONG = 'ends protocol-error';

conversations({
  'R-STREAM-1: an OPEN of the wrong parity is a protocol error': [
    `OPEN 2 -> ${WRONG}`,
    `given isOdd=false; OPEN 1 -> ${WRONG}`,
  ],
  'R-STREAM-1: ids rise, and need not be consecutive': [
    'OPEN 1, OPEN 5, OPEN 4000000001 -> ACCEPT 1, ACCEPT 5, ACCEPT 4000000001',
    `OPEN 5, OPEN 5 -> ${WRONG}`,
    `OPEN 5, OPEN 3 -> ${WRONG}`,
    `OPEN 1, RESET 1, OPEN 1 -> ${WRONG}`,
  ],
  'R-STREAM-2: only the side that was asked answers, and once': ['ACCEPT', 'REFUSE'].flatMap((answer) => [
    `OPEN 1, ${answer} 1 -> ${WRONG}`,
    `open far, ACCEPT 2, ${answer} 2 -> ${WRONG}`,
  ]),
  'R-STREAM-2: DATA and FIN by the side that was asked come behind its ACCEPT': [
    `open far, DATA 2 early -> ${WRONG}`,
    `open far, FIN 2 -> ${WRONG}`,
  ],
  'R-STREAM-2: CREDIT and STOP may come before ACCEPT': `
    open far, CREDIT 2 100000, STOP 2, ACCEPT 2 -> OPEN 2 far, FIN 2
    2 is told stop denied, accept`,
  'R-STREAM-2: what is sent on a stream before its answer waits behind ACCEPT': `
    given holds=true
    OPEN 1, send 1 soon, finish 1 -> nothing
    accept 1 -> ACCEPT 1, DATA 1 4, FIN 1
    FIN 1
    1 is told sent, fin, end`,
  'R-STREAM-4: an opener sends at once, and no more than 16 KiB before the answer, its FIN behind all DATA': `
    open far, send 2 20000, finish 2 -> OPEN 2 far, DATA 2 16384
    ACCEPT 2 -> DATA 2 3616, FIN 2
    2 is told accept, sent`,
  'R-STREAM-5: opens beyond `streams` are refused, until a stream has ended': `
    given limits.streams=2
    OPEN 1, OPEN 3, OPEN 5 -> ACCEPT 1, ACCEPT 3, REFUSE 5 too-many-streams
    RESET 1, OPEN 7 -> ACCEPT 7`,
  'R-STREAM-5: opens beyond `opens` are refused, until one is answered': `
    given limits.opens=2, holds=true
    OPEN 1, OPEN 3, OPEN 5 -> REFUSE 5 too-many-streams
    accept 3, OPEN 7 -> ACCEPT 3
    OPEN 9 -> REFUSE 9 too-many-streams`,
  'R-STREAM-5: a stream that ended keeps its place while its bytes still lie on this side': `
    given limits.streams=1
    OPEN 1, DATA 1 unread, FIN 1, finish 1, OPEN 3 -> ACCEPT 1, FIN 1, REFUSE 3 too-many-streams
    release 1 6, OPEN 5 -> ACCEPT 5`,
  'R-STREAM-5: this side holds its opens back within the bounds of its peer': `
    given peerLimits.streams=3, peerLimits.opens=2
    open a, open b, open c, open d, open e -> OPEN 2 a, OPEN 4 b
    ACCEPT 2 -> OPEN 6 c
    ACCEPT 4 -> nothing
    REFUSE 6 -> OPEN 8 d
    RESET 2 -> OPEN 10 e
    ACCEPT 8, open f -> nothing
    reset 4 -> RESET 4 cancelled, OPEN 12 f
    c is told end denied`,
  'a stream that is held back can be sent to, finished, stopped and given up': `
    given peerLimits.streams=1
    open first, open second, open third -> OPEN 2 first
    send second hello, finish second, stop second, reset third -> nothing
    third is told end cancelled
    REFUSE 2 -> OPEN 4 second, STOP 4 local-error, DATA 4 5, FIN 4`,
  'R-STREAM-7: each direction ends by itself, and nothing of it follows its FIN': [
    `OPEN 1, DATA 1 question, FIN 1, send 1 answer, finish 1 -> ACCEPT 1, DATA 1 6, FIN 1
     1 is told data, fin, end`,
    `OPEN 1, DATA 1 question, FIN 1, DATA 1 more -> ${WRONG}`,
    `OPEN 1, DATA 1 question, FIN 1, FIN 1 -> ${WRONG}`,
  ],
  'R-STREAM-8: RESET ends both directions and drops what waits': `
    given peerLimits.streamCredit=1024
    OPEN 1, send 1 5000, RESET 1 -> ACCEPT 1, DATA 1 1024
    1 is told end denied
    CREDIT 1 10000 -> nothing`,
  'R-STREAM-8: giving up an incoming stream before its answer is a REFUSE': `
    given holds=true
    OPEN 1, reset 1 local-error -> REFUSE 1 local-error`,
  'R-STREAM-9: STOP is answered with FIN, and with RESET where the other direction has ended': `
    given peerLimits.streamCredit=1024
    OPEN 1, OPEN 3, send 1 5000, send 3 5000, FIN 3 -> ...
    STOP 1, STOP 1, STOP 3 -> FIN 1, RESET 3 denied
    1 is told stop denied
    3 is told fin, end denied
    send 1 swallowed -> nothing
    DATA 1 read, FIN 1
    1 is told stop denied, data, fin, end`,
  'R-STREAM-9: the sender of STOP drops what still arrives, up to the FIN': `
    OPEN 1, stop 1, stop 1, DATA 1 late, FIN 1, finish 1 -> ACCEPT 1, STOP 1 local-error, FIN 1
    1 is told end`,
  'R-STREAM-10: an opening without an answer is reset after 30 s, and a late answer is dropped': `
    open far, wait 29999 -> ...
    2 is told nothing
    wait 1 -> RESET 2 open-timeout
    2 is told end open-timeout
    ACCEPT 2, DATA 2 late, FIN 2 -> nothing`,
  'R-STREAM-11: frames on an id that was never opened are protocol errors': ALL.flatMap((name) =>
    [2, 3].map((id) => `OPEN 1, ${name} ${id} -> ${WRONG}`),
  ),
  'R-STREAM-11: frames for a stream that has ended are dropped, also for an id that was passed over': `
    OPEN 5, RESET 5, open far, REFUSE 2 -> ACCEPT 5, OPEN 2 far
    ${[2, 3, 5].flatMap((id) => ALL.map((name) => `${name} ${id}`)).join(', ')} -> nothing`,
  'R-CODE-3: the end of a session ends all its streams, also those that are held back': `
    given peerLimits.streams=1
    open a, open b, OPEN 1, OPEN 1 -> ${WRONG}
    a is told end protocol-error
    b is told end protocol-error`,
});

test('R-STREAM-3: a service that is not offered, or that is no name, is refused with unknown-service', (t) => {
  const peer = FramePeer.established();
  const names = ['', 'Echo', '-a', 'a b', 'x'.repeat(65), '../etc', 'ä', '\u001b[31m'];
  for (const [index, name] of names.entries()) peer.sendOpen(2 * index + 1, name);
  const answers = peer.log.take();
  t.is(answers.length, names.length);
  for (const answer of answers) {
    t.regex(answer.payload.toString(), /unknown-service/);
    t.notRegex(answer.payload.toString(), /\\u001b/);
  }
  peer.session.removeAllListeners('stream');
  peer.sendOpen(101, 'nobody');
  t.deepEqual(peer.takeTexts(), ['REFUSE 101 unknown-service']);
  t.is(peer.session.streams.size, 0);
});

/** A side that takes two streams, and dials a server for each. */
async function dialling(t: ExecutionContext): Promise<{ peer: FramePeer; forward: IncomingForward }> {
  const { port } = await localServer(t, () => undefined);
  const peer = FramePeer.established({ limits: { streams: 2 } });
  const registry = new ServiceRegistry();
  const spec = parseForwardSpec('incoming', `echo:${port}`);
  const forward = new IncomingForward(spec, { registry, log: () => undefined, clock: peer.clock, maxStreams: 2 });
  t.teardown(() => forward.stop());
  await forward.start();
  peer.session.removeAllListeners('stream');
  peer.session.on('stream', (stream) => registry.serve(stream, peer.session));
  return { peer, forward };
}

test('R-STREAM-5: RESET frees a place for an OPEN in the same write, also where a socket has to be closed', async (t) => {
  const { peer, forward } = await dialling(t);
  const answers = async (count: number): Promise<string[]> => {
    const texts: string[] = [];
    await eventually(() => {
      peer.pump();
      texts.push(...peer.takeTexts());
      return texts.length >= count;
    });
    return texts.sort();
  };
  for (const id of [1, 3]) peer.sendOpen(id);
  t.deepEqual(await answers(2), ['ACCEPT 1', 'ACCEPT 3']);
  const resets = [1, 3].map((id) => peer.frame(RESET, id, REASON));
  const opens = [5, 7].map((id) => peer.frame(OPEN, id, { service: 'echo' }));
  peer.write(Buffer.concat([...resets, ...opens]));
  t.deepEqual(await answers(2), ['ACCEPT 5', 'ACCEPT 7']);
  await eventually(() => forward.openCount === 2);
});

test('R-STREAM-5: a peer that opens and resets without a pause has the sockets of `streams`, and of `opens` that are closing', async (t) => {
  const { peer, forward } = await dialling(t);
  for (let id = 1; id < 1000; id += 2) {
    peer.sendOpen(id);
    peer.send(RESET, id, REASON);
  }
  t.is(forward.openCount, 2 + 256);
  t.deepEqual(peer.takeTexts().slice(-1), ['REFUSE 999 too-many-streams']);
  await eventually(() => forward.openCount === 0);
});

test('a malformed frame is a protocol error even where its stream has ended', (t) => {
  endsWith(t, 'protocol-error', (peer) => {
    peer.sendOpen(1);
    peer.send(RESET, 1, REASON);
    peer.send(RESET, 1, {});
  });
});
