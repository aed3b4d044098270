/** How a machine follows the clock of its peer. */
export interface ClockFollowing {
  /** A smaller difference is left to others, such as an NTP client, in milliseconds. */
  readonly thresholdMs: number;
  /** How far the clock may be set back in all, in milliseconds. */
  readonly maxBackMs: number;
}

/** What a channel lets its peer do after a restore: random numbers are taken from it in any case. */
export interface ClockPermission {
  /** Null: the clock is left alone. */
  readonly following: ClockFollowing | null;
}

export const DEFAULT_THRESHOLD_MS = 1000;
