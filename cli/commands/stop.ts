/** `vproxy stop`: lets the process end. */
import type { Arguments } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { openControl, watchForEnd } from '../command/control-client.js';

/** The command. */
export const command: Command = {
  usage: 'stop',
  about: 'Lets the process end in order, as SIGTERM does. The command ends when it has.',
  options: {},
  run: stop,
};

/** The end takes a second at most, and a machine may be slow: in milliseconds. */
const TIMEOUT_MS = 10_000;

async function stop(args: Arguments): Promise<void> {
  const control = await openControl(args);
  const waitForEnd = await watchForEnd(control);
  await control.stop();
  await waitForEnd(TIMEOUT_MS);
}
