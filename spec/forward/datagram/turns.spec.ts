/** Many small messages in few frames: their cost per turn of the event loop, and their arrival. */
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../../lib/codec/header.js';
import { IncomingForward } from '../../../lib/forward/incoming.js';
import { ServiceRegistry } from '../../../lib/forward/service-registry.js';
import { parseForwardSpec } from '../../../lib/forward/spec.js';
import { FramePeer } from '../../helpers/frame-peer.js';
import { eventually } from '../../helpers/time.js';
import { bestTurnMs } from '../../helpers/turn-time.js';
import { UdpProgram } from '../../helpers/udp.js';

/** A side that connects flows to a program, with N of them open: 1, 3, 5, … */
async function setUp(t: ExecutionContext, flowCount: number) {
  const program = await UdpProgram.open(t);
  const peer = FramePeer.established({ features: ['datagram'] });
  const registry = new ServiceRegistry();
  const spec = parseForwardSpec('incoming', `log:udp:${program.port}`);
  const forward = new IncomingForward(spec, { registry, log: () => undefined, clock: peer.clock, maxStreams: 1000 });
  t.teardown(() => forward.stop());
  await forward.start();
  peer.session.server = registry;
  const ids = Array.from({ length: flowCount }, (_, index) => 2 * index + 1);
  for (const id of ids) peer.sendOpenFlow(id, 'log');
  let accepted = 0;
  await eventually(() => {
    peer.pump();
    accepted += peer.takeTexts().filter((text) => text.startsWith('ACCEPT')).length;
    return accepted === flowCount;
  });
  return { program, peer, forward, ids };
}

/** N messages of one byte, which is their number. */
const messages = (count: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, index) => Buffer.from([0, 1, index % 256])));

test('all 256 messages of a frame arrive in order, even if the flow ends right after them', async (t) => {
  const { program, peer, forward } = await setUp(t, 1);
  const end = peer.frame(FRAME_TYPE.DATA, 1, messages(256));
  peer.write(Buffer.concat([end, peer.frame(FRAME_TYPE.FIN, 1)]));
  await program.came(256);
  t.deepEqual(
    program.messages.map(({ bytes }) => bytes[0]),
    Array.from({ length: 256 }, (_, index) => index),
  );
  t.like(forward.messages, { received: 256, receiveDropped: 0 });
});

test('10,000 messages of one byte, and 400,000 beyond the limit of a frame, hold up no turn of the event loop', async (t) => {
  const { peer, forward, ids } = await setUp(t, 40);
  const body = messages(10_000);
  const frames = () => Buffer.concat(ids.map((id) => peer.frame(FRAME_TYPE.DATA, id, body)));
  const { received = 0, receiveDropped = 0 } = forward.messages ?? {};
  t.deepEqual([received, receiveDropped], [0, 0]);
  let rounds = 0;
  const longestMs = await bestTurnMs(80, async () => {
    rounds += 1;
    peer.loop.receive(frames());
    peer.pump();
    const seen = () => (forward.messages?.received ?? 0) + (forward.messages?.receiveDropped ?? 0);
    await eventually(() => seen() === rounds * ids.length * 10_000);
  });
  t.true(longestMs < 80, `${longestMs} ms`);
});
