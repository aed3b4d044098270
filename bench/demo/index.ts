/** `npm start`: shows forwards both ways and the storage emulation over one channel; `--vm` does it with a real guest. */
import { findTools } from '../../spec/vm/rig/tools.js';
import { Demonstration } from './demonstration.js';
import { formatTable, say, showProgress } from './report.js';
import { openLocalStage, openVmStage, type Stage } from './stage.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 64;
const EXIT_UNAVAILABLE = 69;

const args = process.argv.slice(2);
const unknown = args.find((arg) => arg !== '--vm');
if (unknown === undefined) process.exitCode = await demonstrate(args.includes('--vm'));
else {
  console.error(`demonstration: ${JSON.stringify(unknown)}: expected nothing, or --vm`);
  process.exitCode = EXIT_USAGE;
}

/** Gives the exit status. */
async function demonstrate(withVm: boolean): Promise<number> {
  const lacking = withVm ? lackingTools() : null;
  if (lacking !== null) {
    console.error(`demonstration: ${lacking}`);
    return EXIT_UNAVAILABLE;
  }
  const interrupted = new Promise<never>((_resolve, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => reject(new Error(signal)));
  });
  interrupted.catch(() => undefined);
  let stage: Stage | undefined;
  let demonstration: Demonstration | undefined;
  try {
    if (withVm) showProgress('a guest boots…');
    stage = withVm ? await openVmStage() : openLocalStage();
    say(`A demonstration of vproxy: ${stage.title}.\n`);
    demonstration = new Demonstration(stage);
    await Promise.race([demonstration.run(), interrupted]);
    say(formatTable(demonstration.outcomes));
    return 0;
  } catch (error) {
    say(`The demonstration failed: ${error instanceof Error ? error.message : String(error)}`);
    return EXIT_FAILED;
  } finally {
    await demonstration?.stop();
    await stage?.close();
  }
}

/** What has to be installed for a guest, as one line, or null. */
function lackingTools(): string | null {
  try {
    findTools();
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
