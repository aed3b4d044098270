/** What a session that ended with a code has to look like from outside, for the specs of this folder. */
import type { ExecutionContext } from 'ava';
import { FramePeer, type FramePeerOptions } from '../helpers/frame-peer.js';

/** The codes with which a side leaves without a GOAWAY (R-CODE-3). */
const SILENT = ['peer-restarted', 'desync'];

/** Checks that the only session so far has ended with `code`, and that the peer was told so where it has to be. */
export function endedWith(t: ExecutionContext, peer: FramePeer, code: string): void {
  t.deepEqual(
    peer.endings.map((reason) => reason.code),
    [code],
    peer.endings.map((reason) => reason.message).join(),
  );
  t.is(peer.loop.session, null);
  for (const sink of peer.sinks.values()) t.true(sink.isOver);
  const goaways = peer.takeTexts().filter((text) => text.startsWith('GOAWAY'));
  t.deepEqual(goaways, SILENT.includes(code) ? [] : [`GOAWAY 0 ${code}`]);
}

/** Does something to an established side and checks that it ends the session with `code`. */
export function endsWith(
  t: ExecutionContext,
  code: string,
  act: (peer: FramePeer) => void,
  options: FramePeerOptions = {},
): void {
  const peer = FramePeer.established(options);
  act(peer);
  endedWith(t, peer, code);
}

/** Does something to an established side and checks that the session goes on: it still answers. */
export function goesOn(t: ExecutionContext, act: (peer: FramePeer) => void, options: FramePeerOptions = {}): FramePeer {
  const peer = FramePeer.established(options);
  act(peer);
  t.deepEqual(peer.endings, []);
  const before = peer.log.take();
  peer.send(0x0c, 0, Buffer.from('are you?'));
  t.deepEqual(peer.takeTexts(), ['PONG 0']);
  peer.log.frames.push(...before);
  return peer;
}
