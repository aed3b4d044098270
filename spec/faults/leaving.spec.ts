/** Faults at the end of a session: what is lost or sent too late when a side ends while much is under way. */
import test from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { VproxyError } from '../../lib/errors.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { RecordingSink } from '../helpers/local-ends.js';

test('R-LIVE-3: a side that stops while the channel is far behind still resets every stream before its GOAWAY', (t) => {
  const peer = FramePeer.established({ capacityBytes: 4096, peerLimits: { streamCredit: 2 ** 20 } });
  for (const id of [1, 3]) peer.sendOpen(id);
  peer.log.take();
  peer.isReading = false;
  for (const id of [1, 3]) peer.streams.get(id)?.send(Buffer.alloc(2 ** 18), 0, 2 ** 18, false);
  t.true(peer.outbound.unwrittenBytes >= 131_072, `${peer.outbound.unwrittenBytes}`);
  peer.loop.stop(new VproxyError('shutdown', 'SIGTERM'));
  peer.isReading = true;
  peer.pump();
  const texts = peer.takeTexts().filter((text) => !text.startsWith('DATA'));
  t.deepEqual(texts, ['RESET 1 shutdown', 'RESET 3 shutdown', 'GOAWAY 0 shutdown']);
});

test('R-LIVE-3: the place of a stream that a GOAWAY ends goes to no open that was held back', (t) => {
  const peer = FramePeer.established({ peerLimits: { streams: 2 } });
  const sinks = [new RecordingSink(), new RecordingSink(), new RecordingSink()];
  for (const sink of sinks) peer.session.open('far', null, sink);
  peer.pump();
  t.deepEqual(peer.takeTexts(), ['OPEN 2 far', 'OPEN 4 far']);
  peer.send(FRAME_TYPE.GOAWAY, 0, { code: 'shutdown', message: 'bye', last: 2 });
  t.deepEqual(peer.takeTexts(), []);
  t.deepEqual(
    sinks.map(({ events }) => events),
    [[], ['end shutdown'], ['end shutdown']],
  );
});
