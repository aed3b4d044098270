/** What this process did to its machine, for `vproxy info`, the status and the metrics. */

/** Times are in milliseconds since 1970; null: never. */
export interface MachineHistory {
  restores: number;
  restoredAtMs: number | null;
  clockSteps: number;
  clockSteppedAtMs: number | null;
  /** By how much the last step moved the clock. */
  clockSteppedByMs: number | null;
  /** How far steps have set the clock back in all, less later steps forward, and when that was last updated (monotonic). */
  clockBackMs: number;
  clockBackAtMs: number;
  freezes: number;
  frozenAtMs: number | null;
  /** What is in effect instead of the service's options, if these were refused. */
  refusedOptions: 'last' | 'none' | null;
}

/** Of the process, as all channels lead to the same machine; handed over to a successor. */
export const machineHistory: MachineHistory = {
  restores: 0,
  restoredAtMs: null,
  clockSteps: 0,
  clockSteppedAtMs: null,
  clockSteppedByMs: null,
  clockBackMs: 0,
  clockBackAtMs: 0,
  freezes: 0,
  frozenAtMs: null,
  refusedOptions: null,
};

export function describeHistory() {
  const { restoredAtMs, clockSteppedAtMs, clockSteppedByMs, frozenAtMs, refusedOptions } = machineHistory;
  const moment = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
  return {
    restoredAt: moment(restoredAtMs),
    clockSteppedAt: moment(clockSteppedAtMs),
    clockSteppedByMs,
    frozenAt: moment(frozenAtMs),
    refusedOptions,
  };
}
