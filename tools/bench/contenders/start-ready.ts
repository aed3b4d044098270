/** Starting a contender and waiting until it carries data. */

import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { within } from '../../../spec/helpers/time.js';
import { exchangeOneByte } from '../load/connections.js';
import type { Contender, ContenderSetting, RunningContender } from './contender.js';

/** The deadline of a start, in milliseconds. */
const START_TIMEOUT_MS = 20_000;
/** A connection that is accepted but leads nowhere yet is abandoned after this time. */
const TRY_TIMEOUT_MS = 10_000;
const PAUSE_MS = 2;

/** Starts it in a new folder within `setting.folder`. Resolves when a byte has made the round trip to the target. */
export async function startReady(contender: Contender, setting: ContenderSetting): Promise<RunningContender> {
  const folder = mkdtempSync(join(setting.folder, `${contender.id}-`));
  const running = await contender.start({ ...setting, folder });
  const programs = [...running.near, ...running.far];
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      await within(TRY_TIMEOUT_MS, `the first echo of ${contender.id}`, exchangeOneByte(running.address));
      return running;
    } catch (error) {
      const dead = programs.find(({ hasEnded }) => hasEnded);
      if (dead === undefined && performance.now() < deadline) {
        await delay(PAUSE_MS);
        continue;
      }
      await Promise.all(programs.map((program) => program.stop()));
      const line = (dead ?? programs[0])?.lastLine() ?? '';
      throw new Error(`${contender.id} did not start: ${line || String(error)}`, { cause: error });
    }
  }
}
