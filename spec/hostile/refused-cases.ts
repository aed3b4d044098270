/** All that a peer can do repeatedly that is refused, or has no effect, and is logged each time. */
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { COPY_KIND, encodeMessage } from '../../lib/copy/copy-messages.js';
import type { LogEventName } from '../../lib/events.js';
import { encodeStart } from '../../lib/exec/exec-messages.js';
import { SocketPeer } from '../helpers/socket-peer.js';

const { DATA, FIN, GOAWAY, OPEN, RESET, SERVICES } = FRAME_TYPE;

/** One way to cause log lines. */
export interface RefusedCase {
  readonly what: string;
  /** The event that each turn logs. */
  readonly event: LogEventName;
  /** Whether it is in the audit log, too. */
  readonly isAudited: boolean;
  /** Does it `count` times, on the channel at `path`; resolved when this side is done. */
  readonly flood: (path: string, count: number) => Promise<void>;
}

/** A text that takes six times its length in a line of JSON, and still more in a line of text. */
const FAT = '\u202e'.repeat(1000);

/** The number of streams that are opened at a time: fewer than may be without an answer. */
const BATCH = 20;

export const REFUSED_CASES: readonly RefusedCase[] = [
  {
    what: 'streams to a service that is not offered',
    event: 'stream-refused',
    isAudited: true,
    flood: eachStream('none', /^REFUSE/, () => []),
  },
  {
    what: 'streams to a service that a rule forbids',
    event: 'stream-denied',
    isAudited: true,
    flood: eachStream('forbidden', /^REFUSE/, () => []),
  },
  {
    what: 'commands that it may not run',
    event: 'exec-refused',
    isAudited: true,
    flood: eachStream('exec', /^FIN/, (peer, id) => [
      peer.frame(DATA, id, encodeStart({ argv: Array<string>(15).fill(FAT), cwd: FAT })),
      peer.frame(FIN, id),
    ]),
  },
  {
    what: 'copies of files that it may not read',
    event: 'copy-refused',
    isAudited: true,
    flood: eachStream('copy', /^FIN/, (peer, id) => [
      peer.frame(DATA, id, encodeMessage(COPY_KIND.START, { direction: 'get', sources: SECRETS, ...NO_MORE })),
      peer.frame(FIN, id),
    ]),
  },
  {
    what: 'copies to where it may not write',
    event: 'copy-refused',
    isAudited: true,
    flood: eachStream('copy', /^FIN/, (peer, id) => [
      peer.frame(DATA, id, encodeMessage(COPY_KIND.START, { direction: 'put', target: `/etc/${FAT}`, ...NO_MORE })),
      peer.frame(DATA, id, encodeMessage(COPY_KIND.PLAN, { roots: [{ name: 'x', kind: 'file' }], totals: null })),
      peer.frame(FIN, id),
    ]),
  },
  {
    what: 'storage emulators that come and go',
    event: 'storage-emulator',
    isAudited: false,
    flood: eachStream('storage', /^ACCEPT/, (peer, id) => [peer.frame(RESET, id, { code: 'cancelled', message: FAT })]),
  },
  {
    what: 'ever new lists of its services',
    event: 'services',
    isAudited: false,
    flood: async (path, count) => {
      const peer = await SocketPeer.established(path);
      for (let turn = 0; turn < count; turn += 1) {
        const services = Array.from({ length: 40 }, (_, index) => `${'s'.repeat(60)}-${turn % 2}${index}`);
        peer.send(SERVICES, 0, { services });
      }
      await peer.ping();
      peer.close();
    },
  },
  {
    what: 'sessions that it begins and ends',
    event: 'session-ended',
    isAudited: true,
    flood: async (path, count) => {
      for (let turn = 0; turn < count; turn += 1) {
        const peer = await SocketPeer.established(path, {});
        peer.send(GOAWAY, 0, { code: 'denied', message: FAT, last: 0 });
        await peer.drain();
        peer.close();
      }
    },
  },
];

const NO_MORE = { isResumed: false, hasTotals: false };
const SECRETS = Array.from({ length: 15 }, (_, index) => ({ path: `/etc/${FAT}`, name: `secret-${index}` }));

/** Opens streams to a service, says something on each, and waits until each got its answer. */
function eachStream(service: string, answer: RegExp, say: (peer: SocketPeer, id: number) => readonly Buffer[]) {
  return async (path: string, count: number): Promise<void> => {
    const peer = await SocketPeer.established(path);
    for (let turn = 0; turn < count; turn += BATCH) {
      peer.log.take();
      const ids = Array.from({ length: BATCH }, (_, index) => 1 + 2 * (turn + index));
      const frames = ids.flatMap((id) => [peer.frame(OPEN, id, { service, from: FAT }), ...say(peer, id)]);
      peer.write(Buffer.concat(frames));
      for (const id of ids) await peer.seen(new RegExp(`${answer.source} ${id}\\b`));
    }
    await peer.ping();
    peer.close();
  };
}
