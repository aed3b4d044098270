/** A serial line: whether it is a terminal, and free. */

import { closeSync, constants, openSync, realpathSync } from 'node:fs';
import path from 'node:path';
import tty from 'node:tty';
import { activeConsoles } from '../../../lib/channel/tty-open.js';
import { locateProgram } from '../../../lib/system/processes/find-program.js';
import { describeError, escapeText } from '../../../lib/util/escape.js';

import { type Finding, failure, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { whyUnusable } from '../path.js';
import { formatHolders, type Holder, heldOpen } from '../process-list.js';

/** Checks the device and which processes have it open. Opens it for a moment, without reading or setting anything. */
export async function checkTty(machine: Machine, device: string, isOurs: boolean): Promise<Finding[]> {
  const obstacle = await whyUnusable(machine, device, { subject: 'serial-line', kind: 'a device' });
  if (obstacle !== null) return [obstacle];
  const [shown, real] = [escapeText(device), realpathSync(device)];
  if (activeConsoles(machine.options.sys).includes(path.basename(real)))
    return [unusable(`the kernel writes its own messages to ${shown}`)];
  const stty = locateProgram('stty', machine.options.searchPath);
  const tools = path.isAbsolute(stty) ? [] : [failure('stty', 'channel-unusable', 'stty not found in PATH')];
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
  if (getty === undefined) return heldOpen(message, others);
  // After a login its unit is the scope of that session.
  const unit = getty.unit?.includes('getty') === true ? getty.unit : `serial-getty@${path.basename(shown)}`;
  return finding('line-getty', message, { UNIT: unit });
}

const unusable = (message: string): Finding => failure('serial-line', 'channel-unusable', message);

function openForAMoment(device: string): Finding | null {
  const shown = escapeText(device);
  try {
    const fd = openSync(device, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
    const isTerminal = tty.isatty(fd);
    closeSync(fd);
    return isTerminal ? null : unusable(`${shown} is a device, but not a terminal`);
  } catch (error) {
    return unusable(`cannot open ${shown}: ${describeError(error)}`);
  }
}
