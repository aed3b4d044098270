/** The FIFOs of QEMU's pipe chardev. They are never opened here: other processes would notice. */
import { realpathSync } from 'node:fs';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, failure, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { whyUnusable } from '../path.js';
import { formatHolders, heldOpen } from '../process-list.js';

/** Checks whether the FIFOs of `path` (without `.in` and `.out`) exist, and which processes have them open. */
export async function checkPipe(machine: Machine, path: string, isOurs: boolean): Promise<Finding[]> {
  const files = [`${path}.in`, `${path}.out`];
  const plain = path.replace(/\.(in|out)$/, '');
  const fifo = { subject: 'fifos', kind: 'a FIFO', words: { PATH: escapeText(plain) } } as const;
  const obstacles = await Promise.all(files.map((file) => whyUnusable(machine, file, fifo)));
  const problems = obstacles.filter((found) => found !== null);
  if (problems.some(({ id }) => id === 'channel-missing') && plain !== path) {
    const hint = `${escapeText(path)} ends in ${path.slice(plain.length)}, which vproxy adds itself`;
    return [failure('fifos', 'channel-missing', hint, fifo.words)];
  }
  if (problems.length > 0) return problems;
  const processes = await machine.processes();
  const holders = files.flatMap((file) => processes.holdersOf(realpathSync(file)));
  const unique = [...new Map(holders.map((holder) => [holder.pid, holder])).values()];
  const [qemus, others] = [true, false].map((wanted) =>
    unique.filter(({ program }) => program.startsWith('qemu') === wanted),
  );
  const shown = `${escapeText(path)}.in and .out`;
  if (!isOurs && others !== undefined && others.length > 0) {
    return [heldOpen(`${shown} are open in ${formatHolders(others, false)}`, others)];
  }
  if (qemus !== undefined && qemus.length > 0)
    return [finding('fifo-qemu', `${shown} are open in ${formatHolders(qemus, false)}`)];
  const visible = processes.isPartial ? ' visible to this user' : '';
  return [finding('fifo-alone', `no QEMU${visible} has ${shown} open`)];
}
