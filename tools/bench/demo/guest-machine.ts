/** A guest under QEMU as a place for the programs of the demonstration. */
import { readFileSync } from 'node:fs';
import { eventually } from '../../../spec/helpers/time.js';
import type { Guest } from '../../../spec/vm/rig/guest.js';
import { GUEST_VPROXY } from '../../../spec/vm/rig/initramfs.js';
import type { CommandResult, Machine, Program, ProgramName } from './machine.js';

const POLL_MS = 100;

/** Runs everything in `guest`, whose agent starts it. */
export class GuestMachine implements Machine {
  readonly #guest: Guest;

  constructor(guest: Guest) {
    this.#guest = guest;
  }

  async start(program: ProgramName, args: readonly string[]): Promise<Program> {
    const job = await this.#guest.agent.spawn(['node', ...formatScript(program), ...args]);
    const lines = async () => (await job.log()).split('\n');
    const ended = job.waitForEnd(0x7fff_0000);
    let hasEnded = false;
    ended
      .catch(() => undefined)
      .finally(() => {
        hasEnded = true;
      });
    return {
      waitForLine: async (pattern, timeoutMs) => {
        const match = await eventually(
          async () => {
            const wasEnded = hasEnded;
            const log = await lines();
            const found = log.map((line) => pattern.exec(line)).find((result) => result !== null);
            return found ?? (wasEnded && new Error(`the guest's ${program} ended:\n${log.join('\n')}`));
          },
          { timeoutMs, intervalMs: POLL_MS, what: `a line like ${String(pattern)} of the guest's ${program}` },
        );
        if (match instanceof Error) throw match;
        return match;
      },
      lastLine: async () => (await lines()).at(-1) ?? '',
      kill: async () => {
        await job.kill('KILL');
        await ended.catch(() => undefined);
      },
      stop: async () => {
        if (!hasEnded) await job.kill('TERM').catch(() => undefined);
        await ended.catch(() => undefined);
      },
    };
  }

  runUtility(args: readonly string[]): Promise<CommandResult> {
    return this.#guest.agent.run(`storcli64 ${args.join(' ')}`);
  }
}

/** The programs of the demonstration are not in the guest's file system: they are passed as text. */
function formatScript(program: ProgramName): string[] {
  if (program === 'vproxy') return [GUEST_VPROXY];
  const source = readFileSync(new URL(`${program}.js`, import.meta.url), 'utf8');
  return ['--input-type=module', '--eval', source, '--'];
}
