/** `vproxy -c CHANNEL …`: runs one side of a channel until it is told to stop. */
import { setTimeout as delay } from 'node:timers/promises';
import type { CommandModule } from 'yargs';
import { toVproxyError } from '../../lib/errors.js';
import { deferred } from '../../lib/util/deferred.js';
import { openDebugLog } from '../debug-log.js';
import { EXIT_OK, exitOnDefect, exitStatusOf } from '../exit.js';
import { RUN_OPTIONS } from '../options.js';
import { Output } from '../output.js';
import { describeAgent } from '../package-info.js';
import { parseRunOptions, type RawArguments, type RunOptions } from '../run-options.js';
import { boundYoungGeneration } from '../young-generation.js';

/** How long an end may take that a signal asked for, in milliseconds: a second with the time to get here. */
const STOP_MS = 900;

/** The command for yargs. */
export const runCommand: CommandModule<object, RawArguments> = {
  command: '$0',
  describe: 'Carry forwards, and storage calls, over one channel',
  builder: (yargs) =>
    yargs.usage('Usage: vproxy -c CHANNEL [-o FORWARD]… [-i FORWARD]… [options]').options(RUN_OPTIONS),
  handler: async (args) => {
    process.exit(await runProxy(parseRunOptions(args)));
  },
};

/** Runs a proxy until SIGINT, SIGTERM, the end of an inherited channel, or a failure that no waiting can mend; gives the exit status. */
async function runProxy(options: RunOptions): Promise<number> {
  boundYoungGeneration();
  const output = new Output(options.output, await openDebugLog(process.env['DEBUG']));
  exitOnDefect((error) => output.defect(error));
  const { Proxy } = await import('../../lib/proxy/proxy.js');
  const runtimeDirectory = process.env['XDG_RUNTIME_DIR'] ?? null;
  const channels = options.channels.map((channel) => ({
    ...channel,
    storage: { ...channel.storage, runtimeDirectory },
  }));
  const proxy = new Proxy({ channels, agent: describeAgent() });
  const ended = deferred<number>();
  const fail = (reason: unknown) => {
    const status = exitStatusOf(reason);
    const { code, message } = toVproxyError(reason);
    if (status === EXIT_OK) output.log({ level: 'info', event: 'ended', message, fields: { code } });
    else output.failure(reason);
    ended.resolve(status);
  };
  proxy.on('log', (event) => output.log(event));
  proxy.on('fatal', fail);
  process.on('SIGHUP', () => proxy.retryNow());
  const end = () => {
    // Without a listener a second signal ends the process at once.
    process.off('SIGINT', end).off('SIGTERM', end);
    ended.resolve(EXIT_OK);
  };
  process.on('SIGINT', end).on('SIGTERM', end);
  proxy.start().catch(fail);
  const status = await ended.promise;
  await Promise.race([proxy.stop(), delay(STOP_MS)]);
  return status;
}
