/** The FIFOs of QEMU's pipe chardev. They are never opened here: other processes would notice. */
import { constants, realpathSync } from 'node:fs';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { describeKind, formatAccess, isAllowed, lookAtPath } from '../path.js';
import { formatHolders } from '../process-list.js';

/** Checks whether the FIFOs of `path` (without `.in` and `.out`) exist, and which processes have them open. */
export async function checkPipe(machine: Machine, path: string, isOurs: boolean): Promise<Finding[]> {
  const files = [`${path}.in`, `${path}.out`];
  const problems = (await Promise.all(files.map((file) => checkFifo(machine, file)))).filter((found) => found !== null);
  const plain = path.replace(/\.(in|out)$/, '');
  if (problems.some(({ id }) => id === 'fifo-missing') && plain !== path) {
    const hint = `${escapeText(path)} ends in ${path.slice(plain.length)}, which vproxy adds itself`;
    return [finding('fifo-suffix', hint, `use ${escapeText(plain)}`)];
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
    return [finding('fifo-taken', `${shown} are open in ${formatHolders(others, false)}`)];
  }
  if (qemus !== undefined && qemus.length > 0)
    return [finding('fifo-qemu', `${shown} are open in ${formatHolders(qemus, false)}`)];
  const visible = processes.isPartial ? ' visible to this user' : '';
  return [finding('fifo-alone', `no QEMU${visible} has ${shown} open`)];
}

async function checkFifo(machine: Machine, file: string): Promise<Finding | null> {
  const look = await lookAtPath(machine, file);
  if (look.problem !== null) return look.problem;
  const shown = escapeText(file);
  if (look.stats === null) {
    const path = file.replace(/\.(in|out)$/, '');
    return finding('fifo-missing', `${shown} does not exist`, `vproxy pipe-create ${escapeText(path)}`);
  }
  if (!look.stats.isFIFO()) return finding('fifo-not', `${shown} is ${describeKind(look.stats)}, not a FIFO`);
  if (isAllowed(file, constants.R_OK | constants.W_OK)) return null;
  return finding('fifo-denied', `this user cannot read and write ${shown} (${formatAccess(look.stats)})`);
}
