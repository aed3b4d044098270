/** Waits for the end of a boot, over sessions that come and go. */
import { type ErrorCode, toVproxyError, VproxyError } from '../../errors.js';
import type { BootStatus } from '../../status/types.js';
import { sleep, systemClock } from '../../util/clock.js';
import type { BootRequest, MachineRequest, WaitRequest } from './client-options.js';

/** The part of a `ControlClient` used here. */
interface Control {
  boot(request: MachineRequest): Promise<BootStatus>;
  waitFor(request: WaitRequest): Promise<unknown>;
}

/** The default timeout, in seconds. */
const WAIT_S = 60;

/** The interval for polling a machine that is booting. */
const BOOT_LOOK_MS = 1000;

/** See `ControlClient.waitForBoot`. */
export async function waitForBoot(
  control: Control,
  { channel, timeoutS = WAIT_S, onBooting, signal }: BootRequest,
): Promise<BootStatus> {
  const deadlineMs = systemClock.now() + timeoutS * 1000;
  const leftMs = (): number => Math.max(0, deadlineMs - systemClock.now());
  // The last attempt, possibly the only one, needs some time, too.
  const late = AbortSignal.timeout(Math.max(timeoutS * 1000, BOOT_LOOK_MS));
  const anySignal = signal === undefined ? late : AbortSignal.any([late, signal]);
  let remarks: readonly string[] = [];
  for (;;) {
    await control.waitFor({ channel, timeoutS: Math.ceil(leftMs()) / 1000, ...(signal && { signal }) });
    try {
      const status = await control.boot({ channel, signal: anySignal });
      if (status.verdict !== 'booting') return status;
      remarks = status.remarks;
      onBooting?.(status);
    } catch (error) {
      if (signal?.aborted === true || (!late.aborted && !isSessionLost(error))) throw error;
      if (remarks.length === 0) remarks = [late.aborted ? 'no answer' : toVproxyError(error).message];
    }
    if (leftMs() <= BOOT_LOOK_MS)
      throw new VproxyError('not-booted', `${channel ?? 'the machine'} is not booted yet: ${remarks.join('; ')}`);
    await sleep(systemClock, BOOT_LOOK_MS, signal);
  }
}

/** Codes of requests that failed because the session ended or the peer was too slow; a retry may succeed. */
const LOST: ReadonlySet<string> = new Set<ErrorCode>([
  ...([
    'no-session',
    'peer-restarted',
    'shutdown',
    'desync',
    'channel-closed',
    'channel-silent',
    'channel-failed',
  ] as const),
  ...([
    'channel-busy',
    'channel-displaced',
    'resume-expired',
    'resume-refused',
    'stalled',
    'open-timeout',
    'cancelled',
  ] as const),
]);

export const isSessionLost = (error: unknown): boolean => error instanceof VproxyError && LOST.has(error.code);
