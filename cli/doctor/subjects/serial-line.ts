/** A serial line: a terminal, and nobody else's. */

import { closeSync, constants, openSync, realpathSync } from 'node:fs';
import path from 'node:path';
import tty from 'node:tty';
import { locateProgram } from '../../../lib/system/find-program.js';
import { describeError, escapeText } from '../../../lib/util/escape.js';

import { type Finding, type FindingRows, fail, findingsOf, ok } from '../finding.js';
import type { Machine } from '../machine.js';
import { describeKind, formatAccess, isAllowed, lookAtPath } from '../path.js';
import { formatHolders, type Holder } from '../process-list.js';

export const LINE_FINDINGS = {
  'line-missing': fail(
    'There is no device at the path of a serial line.',
    'give the VM a serial port, or correct the path',
  ),
  'line-not': fail('What is there is no terminal line.', 'name the device of a serial line, such as /dev/ttyS1'),
  'line-denied': fail(
    'This user may not open the serial line.',
    'run as root, or join the group of the device (often dialout)',
  ),
  'line-console': fail(
    'The kernel writes its own messages to the line.',
    'use another line, or take console= of this one from the kernel’s command line',
  ),
  'line-getty': fail(
    'A getty has the line open, and would take a part of the bytes.',
    'systemctl disable --now serial-getty@ttyS1',
  ),
  'line-taken': fail('Another process has the line open, and would take a part of the bytes.', 'end that process'),
  'line-no-stty': fail('There is no stty(1), which makes a line 8-bit clean.', 'install coreutils or busybox'),
  'line-free': ok('The line is there, and nobody is seen to have it open.'),
} as const satisfies FindingRows;

const finding = findingsOf(LINE_FINDINGS);

/** A line. `isOurs`: a vproxy that runs has it. */
export interface LineSubject {
  readonly path: string;
  readonly isOurs: boolean;
}

/** Looks at the device, and at who has it; it is opened for a moment, and nothing is read or set. */
export async function checkTty(machine: Machine, { path: device, isOurs }: LineSubject): Promise<Finding[]> {
  const look = await lookAtPath(machine, device);
  if (look.problem !== null) return [look.problem];
  const shown = escapeText(device);
  const { stats } = look;
  if (stats === null) return [finding('line-missing', `there is no ${shown}`)];
  if (!stats.isCharacterDevice()) return [finding('line-not', `${shown} is ${describeKind(stats)}`)];
  const real = realpathSync(device);
  const consoles = (machine.readSys('class/tty/console/active') ?? '').split(/\s+/);
  if (consoles.includes(path.basename(real)))
    return [finding('line-console', `the kernel writes its own messages to ${shown}`)];
  if (!isAllowed(device, constants.R_OK | constants.W_OK)) {
    return [finding('line-denied', `this user may not open ${shown} (${formatAccess(stats)})`)];
  }
  const stty = locateProgram('stty', machine.options.searchPath);
  const tools = path.isAbsolute(stty) ? [] : [finding('line-no-stty', 'there is no stty in PATH')];
  if (isOurs) return tools;
  const problem = openForAMoment(device);
  if (problem !== null) return [...tools, problem];
  const processes = await machine.processes();
  const others = processes.holdersOf(real);
  if (others.length > 0) return [...tools, describeOthers(shown, others)];
  const seen = processes.isPartial ? 'who can be seen from here ' : '';
  return [...tools, finding('line-free', `${shown} is a serial line that nobody ${seen}has open`)];
}

function describeOthers(shown: string, others: readonly Holder[]): Finding {
  const getty = others.find(({ program, unit }) => /getty|login/.test(program) || unit?.includes('getty@') === true);
  const message = `${shown} is open in ${formatHolders(others, false)}`;
  if (getty === undefined) return finding('line-taken', message);
  return finding(
    'line-getty',
    message,
    `systemctl disable --now ${getty.unit ?? `serial-getty@${path.basename(shown)}`}`,
  );
}

function openForAMoment(device: string): Finding | null {
  const shown = escapeText(device);
  try {
    const fd = openSync(device, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
    const isTerminal = tty.isatty(fd);
    closeSync(fd);
    return isTerminal ? null : finding('line-not', `${shown} is a device, and no terminal line`);
  } catch (error) {
    return finding('line-not', `${shown} cannot be opened: ${describeError(error)}`);
  }
}
