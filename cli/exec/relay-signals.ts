/** Signals to this process, for the command at the peer. */
import type { ExecCall } from '../../lib/exec/exec-call.js';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

/** So many interrupts within so long, in milliseconds, mean that nothing answers any more. */
const GIVE_UP_COUNT = 3;
const GIVE_UP_MS = 1000;

/** Passes signals on. `onGiveUp` is called at the third SIGINT within a second. */
export function relaySignals(call: ExecCall, onGiveUp: () => void): void {
  const interruptedAt: number[] = [];
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      call.signal(signal);
      if (signal !== 'SIGINT') return;
      interruptedAt.push(performance.now());
      const first = interruptedAt.at(-GIVE_UP_COUNT);
      if (first !== undefined && performance.now() - first <= GIVE_UP_MS) onGiveUp();
    });
  }
}
