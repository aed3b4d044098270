/** The process that a command steers: reaching it, and waiting for its end. */
import { type ControlClient, connectControl } from '../../lib/control/client/client.js';
import { VproxyError } from '../../lib/errors.js';
import type { Arguments } from './arguments.js';
import { findSocket } from './find-process.js';

/** The one that `--socket`, `--name` or the environment names, or the only one. Rejects as `findSocket` does. */
export async function openControl(args: Arguments): Promise<ControlClient> {
  return connectControl(await findSocket({ socket: args.text('socket'), name: args.text('name') }));
}

/** Resolved when the process has ended. Rejects with `control-unavailable` where it has not after `timeoutMs`. */
type WaitForEnd = (timeoutMs: number) => Promise<void>;

/**
 * Watches the process behind a control socket from now on, over one connection: who asked again and again whether it is
 * still there would start another one, where the socket is systemd's. Rejects with what the first request fails with.
 */
export async function watchForEnd(control: ControlClient): Promise<WaitForEnd> {
  const giveUp = new AbortController();
  // Every process has at least told that it takes requests; so the first event says that it is being watched.
  const events = control.events({ replay: 1, follow: true, signal: giveUp.signal });
  await events.next();
  const ended = readToEnd(events);
  return async (timeoutMs) => {
    const timer = setTimeout(() => giveUp.abort(), timeoutMs);
    try {
      await ended;
    } finally {
      clearTimeout(timer);
    }
    if (!giveUp.signal.aborted) return;
    throw new VproxyError('control-unavailable', `the process still runs after ${Math.round(timeoutMs / 1000)} s`);
  };
}

/** Never rejects: a stream of events that is cut off has ended as well. */
async function readToEnd(events: AsyncGenerator): Promise<void> {
  try {
    for (;;) if ((await events.next()).done === true) return;
  } catch {
    // The process was killed, or nobody waits any more.
  }
}
