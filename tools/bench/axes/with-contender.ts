/** A contender started for one point of an axis. */
import type { Contender, RunningContender } from '../contenders/contender.js';
import { startReady } from '../contenders/start-ready.js';
import { warmUp } from '../contenders/warm-up.js';
import { LoadClient } from '../load/load-client.js';
import type { BenchOptions } from '../options.js';
import type { RunSetting } from '../run-table.js';

/** The means of measuring a point. */
export interface AxisContext {
  readonly running: RunningContender;
  readonly load: LoadClient;
  /** A second process, which holds the other connections. */
  readonly secondLoad: LoadClient;
}

/** Starts a contender, warms it up, and stops it. A failure is reported and ends this contender's points. */
export async function withContender(
  contender: Contender,
  { amounts }: BenchOptions,
  { setting, progress }: RunSetting,
  use: (context: AxisContext) => Promise<void>,
  options: { readonly through?: (path: string) => string; readonly isCold?: boolean } = {},
): Promise<void> {
  const load = new LoadClient();
  const secondLoad = new LoadClient();
  let running: RunningContender | undefined;
  try {
    running = await startReady(contender, { ...setting, through: options.through });
    if (!options.isCold) await warmUp(running.address, load, amounts);
    await use({ running, load, secondLoad });
  } catch (error) {
    progress(`${contender.id}: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    load.stop();
    secondLoad.stop();
    await Promise.all([...(running?.near ?? []), ...(running?.far ?? [])].map((program) => program.stop()));
  }
}
