/** `vproxy wait`: waits for a session, or a service; for scripts that boot VMs. */
import { setTimeout as delay } from 'node:timers/promises';
import { VproxyError } from '../../lib/errors.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import type { Arguments } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { printJson } from '../ui/print.js';

export const command: Command = {
  usage: 'wait [--service SERVICE] [--channel LABEL] [--timeout SECONDS] [--json]',
  about:
    'Ends as soon as there is a session, and the peer offers the service in it; with status 69 where that takes too long. The process itself, too, may be started later.',
  options: {
    service: { value: 'SERVICE', describe: 'That the peer has to offer' },
    channel: { value: 'LABEL', describe: 'The channel [default: any]' },
    timeout: { value: 'SECONDS', describe: 'How long to wait [default: 60]' },
    json: { describe: 'Print the channel, as JSON' },
  },
  run: wait,
};

const DEFAULT_TIMEOUT_S = 60;
const MAX_TIMEOUT_S = 86_400;

/** Until the next look for a process that is not there, in milliseconds. */
const RETRY_MS = 100;

async function wait(args: Arguments): Promise<void> {
  const timeoutS = args.number('timeout', 'seconds', 0, MAX_TIMEOUT_S) ?? DEFAULT_TIMEOUT_S;
  const deadline = performance.now() + timeoutS * 1000;
  for (;;) {
    const leftMs = deadline - performance.now();
    try {
      const channel = await attempt(args, leftMs);
      if (args.has('json')) printJson(channel);
      return;
    } catch (error) {
      if (!(error instanceof VproxyError) || error.code !== 'control-unavailable') throw error;
      if (leftMs <= RETRY_MS) throw new VproxyError(error.code, `not within ${timeoutS} s: ${error.message}`);
      await delay(RETRY_MS);
    }
  }
}

async function attempt(args: Arguments, leftMs: number): Promise<ChannelStatus> {
  const control = await openControl(args);
  const request = { service: args.text('service'), channel: args.text('channel') };
  return control.waitFor({ ...request, timeoutS: Math.ceil(Math.max(0, leftMs)) / 1000 });
}
