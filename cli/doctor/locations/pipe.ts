/** The FIFOs of QEMU's pipe chardev. Nothing opens them: that alone would change what others see of them. */
import { constants, realpathSync } from 'node:fs';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { describeKind, formatAccess, isAllowed, lookAtPath } from '../path.js';
import { formatHolders } from '../process-list.js';

/** Whether the FIFOs at a path without `.in` and `.out` are there, and who has them. */
export async function checkPipe(machine: Machine, path: string, isOurs: boolean): Promise<Finding[]> {
  const files = [`${path}.in`, `${path}.out`];
  const problems = (await Promise.all(files.map((file) => checkFifo(machine, file)))).filter((found) => found !== null);
  const plain = path.replace(/\.(in|out)$/, '');
  if (problems.some(({ id }) => id === 'fifo-missing') && plain !== path) {
    const hint = `${escapeText(path)} has ${path.slice(plain.length)} at its end, which is added by itself`;
    return [finding('fifo-suffix', hint, `write ${escapeText(plain)}`)];
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
  const seen = processes.isPartial ? ' (of those that can be seen from here)' : '';
  return [finding('fifo-alone', `no QEMU${seen} has ${shown} open`)];
}

async function checkFifo(machine: Machine, file: string): Promise<Finding | null> {
  const look = await lookAtPath(machine, file);
  if (look.problem !== null) return look.problem;
  const shown = escapeText(file);
  if (look.stats === null) {
    const path = file.replace(/\.(in|out)$/, '');
    return finding('fifo-missing', `there is no ${shown}`, `vproxy pipe-create ${escapeText(path)}`);
  }
  if (!look.stats.isFIFO()) return finding('fifo-not', `${shown} is ${describeKind(look.stats)}, not a FIFO`);
  if (isAllowed(file, constants.R_OK | constants.W_OK)) return null;
  return finding('fifo-denied', `this user may not read and write ${shown} (${formatAccess(look.stats)})`);
}
