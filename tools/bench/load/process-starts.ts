/**
 * Starts of processes, as a separate process: `process-starts.js MEGABYTES COUNT` holds that much memory and starts `true` COUNT
 * times each way. Prints the milliseconds for which a start takes the main thread, as JSON.
 */
import { loadSystemPipes } from '../../../lib/system/processes/pipes.js';
import { startProcess } from '../../../lib/system/processes/start-process.js';
import { percentile } from './echo.js';

const [megabytes = 0, count = 0] = process.argv.slice(2).map(Number);

const held = Buffer.alloc(megabytes * 1e6, 1);

async function medianMs(): Promise<number> {
  const times: number[] = [];
  for (let start = 0; start < count; start += 1) {
    const startedAt = performance.now();
    const started = startProcess({ file: '/bin/true', argv: ['true'], stdio: ['ignore', 'ignore', 'ignore'] });
    times.push(performance.now() - startedAt);
    await (await started).ended;
  }
  return percentile(
    times.sort((a, b) => a - b),
    0.5,
  );
}

const fork = await medianMs();
await loadSystemPipes();
process.stdout.write(JSON.stringify({ fork, spawn: await medianMs(), held: held.length }));
