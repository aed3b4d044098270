/** `vproxy freeze` and `vproxy thaw`: for a snapshot of a machine whose file systems are consistent. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import type { ControlClient } from '../../lib/control/client/client.js';
import { toVproxyError, VproxyError } from '../../lib/errors.js';
import type { ThawedAnswer } from '../../lib/status/types.js';
import { spawned } from '../../lib/system/processes/children.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import { badArgument } from '../command/arguments.js';
import { CHANNEL_OPTION, type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf } from '../command/labels.js';
import { waitThrough } from '../command/open-service.js';
import { formatDuration, printAnswer } from '../ui/print.js';

export const freeze: Command = {
  usage: 'freeze [LABEL] [PATH]... [--for SECONDS] [--json] [-- COMMAND [ARG]...]',
  about:
    "Freezes file systems of a peer's machine, which must run vproxy with --allow-freeze: those mounted at PATH, or all that can be frozen. With COMMAND it runs that here, thaws, and ends with its status; otherwise vproxy thaw thaws. In any case the machine thaws by itself after --for, and when the session ends.",
  examples: [
    ['vproxy freeze vm1 -- virsh snapshot-create-as vm1 --disk-only', 'A consistent snapshot'],
    ['vproxy freeze vm1 /srv --for 30s', 'One file system, until vproxy thaw'],
  ],
  options: {
    for: { value: 'SECONDS', describe: 'The longest time that it stays frozen, from 1 to 60 [default: 10]' },
    ...CHANNEL_OPTION,
    ...JSON_OPTION,
  },
  operands: ['[LABEL]', '[PATH…]'],
  async run(args) {
    const { label, paths, command } = readOperands(args);
    const forS = args.seconds('for', 1, 60);
    if (forS !== undefined && !Number.isInteger(forS)) throw badArgument('--for: expected whole seconds');
    if (command.length > 0 && args.has('json')) throw badArgument('--json: not allowed with a command');
    const channel = channelOf(args, label);
    const control = await openControl(args);
    const request = { channel, paths, forS };
    const frozen = await waitThrough(control.path, channel, control.freeze(request));
    if (command.length > 0) return runFrozen(control, frozen.channel, command);
    printAnswer(args, frozen, () => [
      `${escapeText(frozen.channel)}: froze ${frozen.paths.map((path) => escapeText(path)).join(', ')} for at most ${formatDuration(frozen.forS * 1000)}`,
    ]);
    return 0;
  },
};

export const thaw: Command = {
  usage: 'thaw [LABEL] [--json]',
  about:
    'Thaws the file systems that vproxy freeze froze. It fails if the machine had thawed by itself, since its time was over: a snapshot of that time may not be consistent.',
  examples: [['vproxy thaw vm1', 'After a snapshot']],
  options: { ...CHANNEL_OPTION, ...JSON_OPTION },
  operands: ['[LABEL]'],
  async run(args) {
    const channel = channelOf(args, args.operands[0]);
    const control = await openControl(args);
    const thawed = await waitThrough(control.path, channel, control.thaw({ channel }));
    requireHeld(thawed);
    printAnswer(args, thawed, () => [`${escapeText(thawed.channel)}: thawed after ${formatDuration(thawed.heldMs)}`]);
  },
};

function readOperands({ operands, separatorAt }: Arguments) {
  const [first, ...rest] = operands.slice(0, separatorAt ?? operands.length);
  const label = first?.startsWith('/') === true ? undefined : first;
  const paths = label === undefined && first !== undefined ? [first, ...rest] : rest;
  const wrong = paths.find((path) => !path.startsWith('/'));
  if (wrong !== undefined)
    throw badArgument(`"${escapeText(wrong, 128)}" is not an absolute path; a command follows --`);
  return { label, paths, command: operands.slice(separatorAt ?? operands.length) };
}

/** Runs a command, and thaws, whatever happened. Returns the status of the command. */
async function runFrozen(control: ControlClient, channel: string, command: readonly string[]): Promise<number> {
  const status = await runHere(command).then(
    (found) => found,
    (error: unknown) => error as Error,
  );
  const thawed = await control.thaw({ channel }).catch((error: unknown) => toVproxyError(error));
  if (status instanceof Error) throw status;
  const how = `; the command ended with status ${status}`;
  if (!(thawed instanceof VproxyError)) requireHeld(thawed, how);
  // The machine thawed when the process that froze it went, such as for an upgrade; or it could not thaw.
  else throw new VproxyError('freeze-failed', `${thawed.code === 'not-found' ? lost(channel) : thawed.message}${how}`);
  return status;
}

async function runHere([program = '', ...args]: readonly string[]): Promise<number> {
  const child = spawn(program, args, { stdio: 'inherit' });
  // Ctrl-C reaches the command, too; this process still has to thaw.
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  try {
    await spawned(child);
  } catch (error) {
    throw new VproxyError('command-not-found', `${escapeText(program, 128)}: ${describeError(error)}`, {
      cause: error,
    });
  }
  const [status, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  return status ?? 128 + constants.signals[signal ?? 'SIGKILL'];
}

const lost = (channel: string): string =>
  `${escapeText(channel)} thawed by itself, since another process of vproxy has taken its place here`;

function requireHeld({ channel, cause, heldMs }: ThawedAnswer, how = ''): void {
  if (cause === 'asked') return;
  const message = `${escapeText(channel)} had thawed by itself after ${formatDuration(heldMs)}; give a longer --for${how}`;
  throw new VproxyError('freeze-failed', message);
}
