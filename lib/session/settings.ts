/** The settings of a side: its identity, its limits and its timeouts. */

import type { Integrity } from '../codec/header.js';
import type { Hello } from '../codec/hello.js';
import { DEFAULT_LIMITS, type Limits } from '../codec/limits.js';
import { Budget } from '../util/bounds.js';
import type { SecureLayerFactory } from './opening/auth.js';
import type { KeptBounds } from './resume/continuity.js';
import type { KeptSessions } from './resume/kept-sessions.js';
import type { EstablishedSettings } from './session-state.js';

/** How sessions outlive their links. */
interface ResumeSettings extends KeptBounds {
  /** The resumable sessions of the channel, on all of its links. */
  readonly kept: KeptSessions;
}

/** Settings of the sessions on one channel. */
export interface SessionSettings extends EstablishedSettings {
  /** 32 lowercase hex digits, one for the life of the process, the same on all its channels. */
  readonly instance: string;
  /** Program and version. */
  readonly agent: string;
  /** The operator's name for this side, or null. */
  readonly name: string | null;
  /** The limits of this side. `frame` is also the largest DATA payload that it sends. */
  readonly limits: Limits;
  /** The integrity level that this side asks for (R-INTEGRITY-2). Default `frame`. */
  readonly integrity: Integrity;
  /** Puts each session on a secure layer, which the peer must use as well (R-AUTH-3). Default null. */
  readonly secure: SecureLayerFactory | null;
  readonly resume: ResumeSettings | null;
  /** Whether the channel is another peer's for now: this one is refused unless it resumes a session (R-CHANNEL-3). Default never. */
  readonly isTaken: (peer: Hello) => boolean;
}

export const CHANNEL_BUDGET_BYTES = 64 * 2 ** 20;

export const PROCESS_BUDGET_BYTES = 512 * 2 ** 20;

/** The bytes that all sessions of a process keep for resumption; a channel may keep at most half of it. */
export const PROCESS_KEPT_BYTES = 256 * 2 ** 20;

/** Completes the given settings with defaults. */
export function sessionSettings(
  given: Pick<SessionSettings, 'instance' | 'randomBytes'> & Partial<SessionSettings>,
): SessionSettings {
  return {
    agent: 'vproxy',
    name: null,
    limits: DEFAULT_LIMITS,
    integrity: 'frame',
    keys: () => [],
    secure: null,
    resume: null,
    timeOfDay: null,
    deadAfterMs: null,
    isTaken: () => false,
    openTimeoutMs: 30_000,
    receiveBudget: new Budget(CHANNEL_BUDGET_BYTES),
    ...given,
  };
}
