/** Streams that a program opens: they are the program's when the peer has accepted them. */
import { VproxyError } from '../errors.js';
import type { MuxStream } from '../session/mux-stream.js';
import { deferred } from '../util/concurrency.js';

/**
 * Resolved with a stream that was opened just now, when the peer has accepted it; rejects with why it does not. What ends the
 * stream in the same piece as the answer rejects, too: its `error` would be emitted before the program has the stream. From
 * then on an `error` that nobody listens for ends nothing, so that no peer can end a program that waits for something else.
 */
export async function acceptedStream(stream: MuxStream): Promise<MuxStream> {
  const answer = deferred();
  stream.holdStop();
  stream
    // Stays there.
    .on('error', (error) => answer.reject(error))
    .once('close', () => answer.reject(new VproxyError('cancelled', 'the stream was closed before it was accepted')))
    // Node emits the `error` of this turn before microtasks run.
    .once('connect', () => queueMicrotask(() => answer.resolve()));
  await answer.promise;
  // The program listens by then.
  process.nextTick(() => stream.releaseStop());
  return stream;
}
