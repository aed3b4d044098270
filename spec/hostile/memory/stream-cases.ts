/** The largest number of the smallest pieces: everything that the process keeps for a peer, at the greatest cost per byte. */
import { Credits, dribble, openAll } from '../../helpers/credits.js';
import { type HostileCase, hostile, resetAll } from '../case.js';

/** The number of streams, and the bytes sent on each. */
export interface StreamScale {
  readonly streams: number;
  readonly bytesPerStream: number;
}

/** The memory allowed per byte of payload, whatever the frames. */
const GROWTH = 1.3;

/** In addition: garbage not collected yet, and the memory of many streams themselves. */
const REST_BYTES = 24 * 2 ** 20;
const STREAM_BYTES = 32_768;

/** DATA in frames of `frameBytes` on many streams to a service that reads none of it. */
function tinyFrames(service: string, why: string, frameBytes: number, scale: StreamScale): HostileCase {
  const { streams, bytesPerStream } = scale;
  const what = `${streams} streams DATA in frames of ${frameBytes} bytes, ${bytesPerStream} bytes each, for ${why}`;
  const memoryBytes = REST_BYTES + streams * (STREAM_BYTES + GROWTH * bytesPerStream);
  return hostile(what, { code: null, memoryBytes }, async (peer) => {
    const credits = new Credits();
    peer.onFrame = (frame) => credits.take(frame);
    const ids = await openAll(peer, service, streams);
    for (const id of ids) await dribble(peer, credits, id, bytesPerStream, frameBytes);
    await peer.ping(30_000);
    await resetAll(peer, ids);
  });
}

/** The cases at a scale. The services are those of `target-process.ts`. */
export function streamCases(scale: StreamScale): readonly HostileCase[] {
  // Each is one process of the machine, or two.
  const fewer = { ...scale, streams: Math.min(scale.streams, 100) };
  return [
    tinyFrames('deaf', 'local programs that do not read', 1, scale),
    tinyFrames('sleep', 'commands that do not read', 1, fewer),
    tinyFrames('stuck', 'a file that cannot be written', 1, scale),
    tinyFrames('stuck', 'a file that cannot be written', 3, scale),
  ];
}
