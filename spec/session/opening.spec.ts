import test from 'ava';

import { FramePeer } from '../helpers/frame-peer.js';

/** How long a side hears nothing before it says so. */
const QUIET_MS = 5000;
/** The longest time that it waits for what its first answer leads to (R-OPEN-11). */
const ATTEMPT_MS = 1.25 * 5000;

/** A side that begins to open, with the number of times that it has said that it hears nothing. */
function opening(): { peer: FramePeer; silences: () => number } {
  const peer = new FramePeer();
  let silences = 0;
  peer.loop.on('quiet', () => (silences += 1));
  peer.loop.start();
  peer.pump();
  return { peer, silences: () => silences };
}

test('a peer that was answered is not silent, however slow it is: it may be established by then', (t) => {
  const { peer, silences } = opening();
  peer.clock.advance(QUIET_MS - 1);
  peer.write(peer.hello());
  peer.clock.advance(1);
  t.is(silences(), 0);
  peer.establish();
  t.is(peer.sessions.length, 1);
  peer.clock.advance(QUIET_MS);
  t.is(silences(), 0);
});

test('a peer that says no more behind the answer is silent in the next attempt', (t) => {
  const { peer, silences } = opening();
  peer.write(peer.hello());
  peer.clock.advance(QUIET_MS);
  t.is(silences(), 0);
  peer.clock.advance(ATTEMPT_MS);
  t.is(silences(), 1);
});
