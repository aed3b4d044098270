/** `vproxy drain`: lets the process end when its streams have. */
import type { ControlClient } from '../../lib/control/client/client.js';
import type { Arguments } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { openControl, watchForEnd } from '../command/control-client.js';
import { formatCount } from '../ui/print.js';
import { showProgress } from '../ui/progress.js';

/** The command. */
export const command: Command = {
  usage: 'drain [--timeout SECONDS]',
  about:
    'Lets the process end when its streams have ended; no new ones are opened. What is still open at the timeout is reset. The command ends when the process has.',
  options: { timeout: { value: 'SECONDS', describe: 'How long the streams have [default: 30]' } },
  run: drain,
};

const DEFAULT_TIMEOUT_S = 30;
const MAX_TIMEOUT_S = 86_400;

/** What the end takes when the streams are gone, and a machine may be slow: in milliseconds. */
const GRACE_MS = 10_000;

async function drain(args: Arguments): Promise<void> {
  const timeoutS = args.number('timeout', 'seconds', 0, MAX_TIMEOUT_S) ?? DEFAULT_TIMEOUT_S;
  const control = await openControl(args);
  const waitForEnd = await watchForEnd(control);
  await control.drain({ timeoutS });
  await showProgress(() => describeRest(control), waitForEnd(timeoutS * 1000 + GRACE_MS));
}

async function describeRest(control: ControlClient): Promise<string> {
  return `waiting for ${formatCount((await control.status()).streams, 'stream')}`;
}
