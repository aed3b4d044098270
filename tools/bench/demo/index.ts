/** `npm start`: demonstrates streams over one channel, and its automatic recovery; `--vm` uses a real guest. */
import { findTools } from '../../../spec/vm/rig/tools.js';
import { Demonstration } from './demonstration.js';
import { formatTable, say, showProgress } from './report.js';
import { openLocalStage, openVmStage, type Stage } from './stage.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 64;
const EXIT_UNAVAILABLE = 69;

/** What to do next, with the commands that a clone has. */
const NEXT_AFTER_LOCAL = '  npm start -- --vm        the same with a guest under QEMU\n';
const NEXT = `\
  npm run vm               a small VM of your own, without root
  npm link                 vproxy on the PATH; vproxy --help
  README.md                a Debian in a VM of your own, in two terminals
  docs/getting-started.md  libvirt, other hypervisors, two processes by hand
`;

const args = process.argv.slice(2);
const unknown = args.find((arg) => arg !== '--vm');
if (unknown === undefined) process.exitCode = await demonstrate(args.includes('--vm'));
else {
  console.error(`demonstration: ${JSON.stringify(unknown)}: expected nothing, or --vm`);
  process.exitCode = EXIT_USAGE;
}

/** Resolves with the exit status. */
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
    if (withVm) showProgress('booting a guest…');
    stage = withVm ? await openVmStage() : openLocalStage();
    say(`A demonstration of vproxy: ${stage.title}.\n`);
    demonstration = new Demonstration(stage);
    await Promise.race([demonstration.run(), interrupted]);
    say(`\n${formatTable(demonstration.outcomes)}`);
    say(`Next:\n\n${withVm ? '' : NEXT_AFTER_LOCAL}${NEXT}`);
    return 0;
  } catch (error) {
    say(`The demonstration failed: ${error instanceof Error ? error.message : String(error)}`);
    return EXIT_FAILED;
  } finally {
    await demonstration?.stop();
    await stage?.close();
  }
}

/** Returns what must be installed for a guest, as one line, or null. */
function lackingTools(): string | null {
  try {
    findTools();
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
