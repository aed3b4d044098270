/** What a peer sends to deceive the reader of the log: escapes, forged lines, and very many of them (R-CODE-2). */
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { FLOOD, type HostileCase } from './case.js';

const { GOAWAY, OPEN, RESET, SERVICES } = FRAME_TYPE;

/** Clears the screen, sets a title, goes back on the line, forges a line, and turns the direction of writing. */
export const POISON =
  '\u001b[2J\u001b]0;owned\u0007\r\nvproxy: forged line\u0000\u009b31m\u2028\u202e\u200b\ufeff\ud800';

const REASON = { code: 'denied', message: POISON.repeat(20) };

export const LOG_CASES: readonly HostileCase[] = [
  {
    what: 'escapes in its name and agent',
    code: null,
    isOpening: true,
    act: async (peer) => {
      const establish = () => peer.establish({ name: POISON.repeat(10), agent: POISON.repeat(10) });
      await establish();
      await peer.ping();
    },
  },
  {
    what: 'escapes in every message, and streams that come and go as fast as they are opened',
    code: null,
    act: async (peer) => {
      const startedAt = performance.now();
      while (performance.now() - startedAt < FLOOD.ms) {
        const first = peer.highestId + 2;
        const frames = Array.from({ length: 100 }, (_, index) =>
          peer.frame(OPEN, first + 2 * index, { service: 'echo', from: POISON }),
        );
        peer.write(Buffer.concat(frames));
        await peer.seen(new RegExp(`^ACCEPT ${first + 198}$`));
        peer.log.take();
        for (let id = first; id < first + 200; id += 2) peer.send(RESET, id, REASON);
        await peer.ping();
      }
    },
  },
  {
    what: 'escapes in the reason of its GOAWAY',
    code: 'denied',
    isTold: false,
    act: (peer) => peer.send(GOAWAY, 0, { ...REASON, last: 0 }),
  },
  {
    what: 'escapes in the name of a service',
    code: 'protocol-error',
    act: (peer) => peer.send(SERVICES, 0, { services: [POISON] }),
  },
];
