/** What a link brings is read in order, in as many turns of the event loop as it takes. */
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { DEFAULT_LIMITS, HEADER_BYTES } from '../../lib/codec/limits.js';
import type { Link, LinkHandler } from '../../lib/link/link.js';
import { LinkRunner } from '../../lib/link/link-runner.js';
import { SessionLoop } from '../../lib/session/session-loop.js';
import { sessionSettings } from '../../lib/session/settings.js';
import { MemoryPipe, seededIdentity } from '../helpers/session-pair.js';
import { ManualClock } from '../helpers/time.js';

/** A link whose bytes come whether it is paused or not, as the output of a command does when that has ended. */
class UnpausableLink implements Link {
  readonly description = 'a link';
  readonly unwrittenBytes = 0;
  readonly written: Buffer[] = [];
  isPaused = false;
  #handler: LinkHandler | null = null;

  start(handler: LinkHandler): void {
    this.#handler = handler;
  }

  bring(bytes: Buffer): void {
    this.#handler?.onBytes(Buffer.from(bytes));
  }

  write(bytes: Buffer): boolean {
    this.written.push(Buffer.from(bytes));
    return true;
  }

  writeParts(parts: readonly Buffer[]): boolean {
    for (const part of parts) this.write(part);
    return true;
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  close(): void {}
  destroy(): void {}
}

test('what comes while the link is paused is read behind what waits for another turn', async (t) => {
  const clock = new ManualClock();
  const link = new UnpausableLink();
  const runner = new LinkRunner(link, clock, sessionSettings(seededIdentity('a', 1)));
  const sent = new MemoryPipe(1_000_000);
  const peer = new SessionLoop(sent, clock, sessionSettings(seededIdentity('b', 2)));
  runner.start();
  peer.start();
  await setImmediate();
  peer.receive(Buffer.concat(link.written));
  // The peer's flush takes many turns; behind it is the HELLO that establishes the session.
  const { bytes } = sent.take(1_000_000);
  clock.costMs = 1;
  const cut = bytes.length - 100;
  link.bring(bytes.subarray(0, cut));
  t.true(link.isPaused);
  for (let at = cut; at < bytes.length; at += 10) link.bring(bytes.subarray(at, at + 10));
  for (let turns = 0; link.isPaused && turns < 10_000; turns += 1) await setImmediate();
  t.false(link.isPaused);
  t.true(runner.loop.session?.isReady);
  t.is(runner.loop.skippedBytes, DEFAULT_LIMITS.frame + HEADER_BYTES);
});
