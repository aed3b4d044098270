/** What a side is set to: its identity, what it accepts, and the times that bound it. */

import type { Integrity } from '../codec/integrity.js';
import { DEFAULT_LIMITS, type Limits } from '../codec/limits.js';
import { Budget, type FairBudget } from '../util/bounds.js';
import type { SecretKey, SecureLayerFactory } from './auth.js';
import type { KeptSessions } from './resume/kept-sessions.js';

/** How sessions outlive their links. */
export interface ResumeSettings {
  /** Those of the channel, on all of its links. */
  readonly kept: KeptSessions;
  /** What it keeps of what it sent before data waits, in bytes. */
  readonly memoryBytes: number;
  /** What all that share it keep together. Default: the session's own. */
  readonly budget?: FairBudget;
}

/** Settings of the sessions on one channel. */
export interface SessionSettings {
  /** 32 lowercase hex digits, one for the life of the process, the same on all its channels. */
  readonly instance: string;
  /** Program and version. */
  readonly agent: string;
  /** The operator's name for this side, or null. */
  readonly name: string | null;
  /** What this side accepts. Its `frame` is also the largest DATA payload that it sends. */
  readonly limits: Limits;
  /** How this side asks DATA to be checked (R-INTEGRITY-2). Default `frame`. */
  readonly integrity: Integrity;
  /** The keys that this side has now, preferred first; with one it accepts no peer without (R-AUTH-2). Default: none. */
  readonly keys: () => readonly SecretKey[];
  /** Puts each session on a layer that protects it, which the peer then has to do as well (R-AUTH-3). Default null. */
  readonly secure: SecureLayerFactory | null;
  /** Silence for so long ends a session; null: never (R-LIVE-2). */
  readonly deadAfterMs: number | null;
  /** How sessions outlive their links; null: they do not (R-RESUME-1). Default null. */
  readonly resume: ResumeSettings | null;
  /** An open without an answer is given up after this time. */
  readonly openTimeoutMs: number;
  /** After GOAWAY `shutdown`, streams may go on for this time. */
  readonly drainTimeoutMs: number;
  /** What all windows of this channel's streams may grow by together, beyond their first credits. */
  readonly receiveBudget: Budget;
  /** The time of day in milliseconds since 1970, which the peer is told (R-SERVICES-1); null: it is not told. Default null. */
  readonly timeOfDay: (() => number) | null;
  /** Random bytes for nonces. */
  readonly randomBytes: (size: number) => Buffer;
}

/** The receive budget of a channel, in bytes. */
export const CHANNEL_BUDGET_BYTES = 64 * 2 ** 20;

/** The receive budget of a process, in bytes. */
export const PROCESS_BUDGET_BYTES = 512 * 2 ** 20;

/** What the sessions of a process keep for other links, in bytes, where no channel may keep more than half of it. */
export const PROCESS_KEPT_BYTES = 256 * 2 ** 20;

/** Settings with the defaults for what is not given. */
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
    openTimeoutMs: 30_000,
    drainTimeoutMs: 30_000,
    receiveBudget: new Budget(CHANNEL_BUDGET_BYTES),
    ...given,
  };
}
