/** What this process did to its machine, for `vproxy info`, the status and the metrics. */

/** Times are in milliseconds since 1970; null: never. */
interface MachineHistory {
  restores: number;
  restoredAtMs: number | null;
  clockSteps: number;
  clockSteppedAtMs: number | null;
  /** By how much the last step moved the clock. */
  clockSteppedByMs: number | null;
  freezes: number;
  frozenAtMs: number | null;
}

/** Of the process, as all channels lead to the same machine. */
export const machineHistory: MachineHistory = {
  restores: 0,
  restoredAtMs: null,
  clockSteps: 0,
  clockSteppedAtMs: null,
  clockSteppedByMs: null,
  freezes: 0,
  frozenAtMs: null,
};

export function describeHistory() {
  const { restoredAtMs, clockSteppedAtMs, clockSteppedByMs, frozenAtMs } = machineHistory;
  const moment = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
  return {
    restoredAt: moment(restoredAtMs),
    clockSteppedAt: moment(clockSteppedAtMs),
    clockSteppedByMs,
    frozenAt: moment(frozenAtMs),
  };
}
