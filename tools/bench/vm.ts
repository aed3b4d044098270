/** `npm run bench:vm`: vproxy in a real guest under QEMU, and on simulated serial lines (`--help`). */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../spec/helpers/files.js';
import { bootGuest, type Guest } from '../../spec/vm/rig/guest.js';
import { writeDocuments } from './documents/parts.js';
import { UsageError } from './options.js';
import { Results } from './results.js';
import { COMMANDS_WORK, measureCommands } from './vm/commands.js';
import { installInGuest } from './vm/guest-programs.js';
import { runGuestRounds } from './vm/guest-rounds.js';
import { parseVmOptions, VM_HELP, type VmBenchOptions } from './vm/options.js';
import { measurePauses, PAUSES_WORK } from './vm/pauses.js';
import { reportVm } from './vm/report.js';
import { BAUDS, measureSerial, SERIAL_VARIANTS, serialRows, serialWork } from './vm/serial-line.js';
import { VM_WORK } from './vm/work.js';
import type { Outcomes } from './work/work.js';

/** Exit status of a command line that is not valid, as of sysexits(3). */
const EX_USAGE = 64;

function progress(line: string): void {
  process.stderr.write(`${Math.round(performance.now() / 1000)} s: ${line}\n`);
}

/** Measures in a guest of its own; resolves with the accelerator. */
async function inGuest(measure: (guest: Guest) => Promise<void>): Promise<string> {
  const guest = await bootGuest(() => ({ processors: 2 }));
  try {
    await measure(guest);
    return guest.accelerator;
  } finally {
    await guest.stop();
  }
}

/** Resolves with the accelerator; undefined if nothing has to be measured in a guest. */
async function measureGuests({ rounds, only, amounts }: VmBenchOptions, results: Results): Promise<string | undefined> {
  const works = VM_WORK.filter(({ id }) => only.test(id));
  let accelerator: string | undefined;
  if (works.length > 0) {
    accelerator = await inGuest(async (guest) => {
      await installInGuest(guest);
      await runGuestRounds({ guest, rounds, works, amounts, progress }, results);
    });
  }
  // Of a guest that has got files, no snapshot can be taken.
  if (only.test(PAUSES_WORK)) {
    accelerator = await inGuest(async (guest) => {
      await installInGuest(guest);
      progress('pauses of the guest');
      await measurePauses(guest, rounds, results);
    });
  }
  if (only.test(COMMANDS_WORK)) {
    accelerator = await inGuest(async (guest) => {
      progress('commands in the guest');
      await measureCommands(guest, rounds, results);
    });
  }
  return accelerator;
}

function failedLine(baud: number, error: unknown): Outcomes {
  const message = error instanceof Error ? error.message : String(error);
  return Object.fromEntries(serialRows(baud).map(({ key }) => [key, message]));
}

async function measureLines({ rounds, only }: VmBenchOptions, results: Results): Promise<void> {
  const bauds = BAUDS.filter((baud) => only.test(serialWork(baud)));
  if (bauds.length === 0) return;
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-bench-'));
  try {
    for (let round = 0; round < rounds; round += 1) {
      progress(`round ${round + 1} of ${rounds}: serial lines`);
      // All at once: each carries only a few kilobytes a second.
      const pairs = bauds.flatMap((baud) => SERIAL_VARIANTS.map((variant) => ({ baud, variant })));
      const outcomes = pairs.map(async ({ baud, variant }) => {
        results.add(
          serialWork(baud),
          variant.id,
          await measureSerial(baud, variant, folder).catch((error: unknown) => failedLine(baud, error)),
        );
      });
      await Promise.all(outcomes);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

try {
  const options = parseVmOptions(process.argv.slice(2));
  if (options.help) process.stdout.write(VM_HELP);
  else {
    const results = new Results();
    const accelerator = await measureGuests(options, results);
    await measureLines(options, results);
    const { text, json, documents = [] } = reportVm(options, results, accelerator);
    console.log(text);
    writeFileSync(options.json, json);
    if (options.documents) {
      for (const { file, name } of writeDocuments(documents, PROJECT_ROOT)) progress(`written: ${name} in ${file}`);
    }
    progress(`the figures of every round are in ${options.json}`);
  }
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`bench:vm: ${error.message}\n`);
  process.exitCode = EX_USAGE;
}
