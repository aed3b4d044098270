/** Text of a peer meant to deceive the reader of the log: escapes, forged lines, and very many of them (R-CODE-2). */
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { FLOOD, freshIds, type HostileCase, hostile } from './case.js';

const { GOAWAY, OPEN, RESET, SERVICES } = FRAME_TYPE;

/** Clears the screen, sets a title, goes back on the line, forges a line, and reverses the writing direction. */
export const POISON =
  '\u001b[2J\u001b]0;owned\u0007\r\nvproxy: forged line\u0000\u009b31m\u2028\u202e\u200b\ufeff\ud800';

const REASON = { code: 'denied', message: POISON.repeat(20) };

export const LOG_CASES: readonly HostileCase[] = [
  hostile('escapes in its name and agent', { code: null, isOpening: true }, async (peer) => {
    await peer.establish({ name: POISON.repeat(10), agent: POISON.repeat(10) });
    await peer.ping();
  }),
  hostile('escapes in every message, and streams that come and go as fast as they are opened', null, async (peer) => {
    const startedAt = performance.now();
    while (performance.now() - startedAt < FLOOD.ms) {
      const ids = freshIds(peer, 100);
      for (const id of ids) peer.send(OPEN, id, { service: 'echo', from: POISON });
      await peer.seen(new RegExp(`^ACCEPT ${ids.at(-1) ?? 0}$`));
      peer.log.take();
      for (const id of ids) peer.send(RESET, id, REASON);
      await peer.ping();
    }
  }),
  hostile('escapes in the reason of its GOAWAY', { code: 'denied', isTold: false }, (peer) =>
    peer.send(GOAWAY, 0, { ...REASON, last: 0 }),
  ),
  hostile('escapes in the name of a service', 'protocol-error', (peer) =>
    peer.send(SERVICES, 0, { services: [POISON] }),
  ),
];
