/** Connects to the process that a command controls, and waits for it to exit. */
import { type ControlClient, connectControl } from '../../lib/control/client/client.js';
import { VproxyError } from '../../lib/errors.js';
import type { Arguments } from './arguments.js';
import { findSocket } from './find-process.js';

/** Connects to the process named by `--socket`, `--name` or the environment, or the only one. Rejects like `findSocket`. */
export async function openControl(args: Arguments): Promise<ControlClient> {
  return connectControl(await findSocket({ socket: args.text('socket'), name: args.text('name') }));
}

/** Resolves when the process has exited. Rejects with `control-unavailable` after `timeoutMs`. */
type WaitForEnd = (timeoutMs: number) => Promise<void>;

/**
 * Watches the process behind a control socket over one connection: polling the socket would start a new process if the
 * socket is systemd's. Rejects if the first request fails.
 */
export async function watchForEnd(control: ControlClient): Promise<WaitForEnd> {
  const giveUp = new AbortController();
  // Every process has logged at least that it takes requests, so the first event confirms the watch.
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
    throw new VproxyError('control-unavailable', `still running after ${Math.round(timeoutMs / 1000)} s`);
  };
}

/** Never rejects: a stream of events that is cut off has ended too. */
async function readToEnd(events: AsyncGenerator): Promise<void> {
  try {
    for (;;) if ((await events.next()).done === true) return;
  } catch {
    // The process was killed, or the wait was aborted.
  }
}
