/** A serial line: whether it is a terminal, and free. */

import { closeSync, constants, openSync, realpathSync } from 'node:fs';
import path from 'node:path';
import tty from 'node:tty';
import { activeConsoles } from '../../../lib/channel/tty-open.js';
import { locateProgram } from '../../../lib/system/processes/find-program.js';
import { describeError, escapeText } from '../../../lib/util/escape.js';

import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { describeKind, formatAccess, isAllowed, lookAtPath } from '../path.js';
import { formatHolders, type Holder } from '../process-list.js';

/** Checks the device and which processes have it open. Opens it for a moment, without reading or setting anything. */
export async function checkTty(machine: Machine, device: string, isOurs: boolean): Promise<Finding[]> {
  const look = await lookAtPath(machine, device);
  if (look.problem !== null) return [look.problem];
  const shown = escapeText(device);
  const { stats } = look;
  if (stats === null) return [finding('line-missing', `${shown} does not exist`)];
  if (!stats.isCharacterDevice()) return [finding('line-not', `${shown} is ${describeKind(stats)}`)];
  const real = realpathSync(device);
  if (activeConsoles(machine.options.sys).includes(path.basename(real)))
    return [finding('line-console', `the kernel writes its own messages to ${shown}`)];
  if (!isAllowed(device, constants.R_OK | constants.W_OK)) {
    return [finding('line-denied', `this user cannot open ${shown} (${formatAccess(stats)})`)];
  }
  const stty = locateProgram('stty', machine.options.searchPath);
  const tools = path.isAbsolute(stty) ? [] : [finding('line-no-stty', 'stty not found in PATH')];
  if (isOurs) return tools;
  const problem = openForAMoment(device);
  if (problem !== null) return [...tools, problem];
  const processes = await machine.processes();
  const others = processes.holdersOf(real);
  if (others.length > 0) return [...tools, describeOthers(shown, others)];
  const visible = processes.isPartial ? ' visible to this user' : '';
  return [...tools, finding('line-free', `${shown} is a serial line that no process${visible} has open`)];
}

function describeOthers(shown: string, others: readonly Holder[]): Finding {
  const getty = others.find(({ program, unit }) => /getty|login/.test(program) || unit?.includes('getty@') === true);
  const message = `${shown} is open in ${formatHolders(others, false)}`;
  if (getty === undefined) return finding('line-taken', message);
  return finding('line-getty', message, `systemctl mask --now ${getty.unit ?? `serial-getty@${path.basename(shown)}`}`);
}

function openForAMoment(device: string): Finding | null {
  const shown = escapeText(device);
  try {
    const fd = openSync(device, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
    const isTerminal = tty.isatty(fd);
    closeSync(fd);
    return isTerminal ? null : finding('line-not', `${shown} is a device, but not a terminal`);
  } catch (error) {
    return finding('line-not', `cannot open ${shown}: ${describeError(error)}`);
  }
}
