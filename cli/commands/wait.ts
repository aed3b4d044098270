/** `vproxy wait`: waits for a session, or a service; for scripts that boot VMs. */
import { setTimeout as delay } from 'node:timers/promises';
import type { WaitRequest } from '../../lib/control/client/client.js';
import { VproxyError } from '../../lib/errors.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf, servicePlace } from '../command/labels.js';
import { describeWait } from '../command/open-service.js';
import { printJson } from '../ui/print.js';
import { showProgress } from '../ui/waiting-line.js';

export const command: Command = {
  usage: 'wait [LABEL[/SERVICE]] [--service SERVICE] [--timeout SECONDS] [--json]',
  about:
    'Ends as soon as there is a session, and the peer offers the service in it; with status 69 where that takes too long, or there is no channel LABEL. The process itself may be started later, too.',
  examples: [
    ['vproxy wait vm1 --timeout 5m && vproxy exec vm1: uname -r', 'For a VM that boots'],
    ['vproxy wait vm1/ssh', 'For a service'],
  ],
  options: {
    service: { value: 'SERVICE', describe: 'That the peer has to offer; also LABEL/SERVICE' },
    channel: { value: 'LABEL', describe: 'The channel [default: any]' },
    timeout: { value: 'SECONDS', describe: 'How long to wait [default: 60]' },
    json: { describe: 'Print the channel, as JSON' },
  },
  operands: ['[LABEL[/SERVICE]]'],
  run: wait,
};

const DEFAULT_TIMEOUT_S = 60;
const MAX_TIMEOUT_S = 86_400;

/** Until the next look for a process that is not there, in milliseconds. */
const RETRY_MS = 100;

async function wait(args: Arguments): Promise<void> {
  const place = waitedFor(args);
  const timeoutS = args.seconds('timeout', 0, MAX_TIMEOUT_S) ?? DEFAULT_TIMEOUT_S;
  const deadline = performance.now() + timeoutS * 1000;
  for (;;) {
    const leftMs = deadline - performance.now();
    try {
      const channel = await attempt(args, place, leftMs);
      if (args.has('json')) printJson(channel);
      return;
    } catch (error) {
      if (!(error instanceof VproxyError) || error.code !== 'control-unavailable') throw error;
      if (leftMs <= RETRY_MS) throw new VproxyError(error.code, `not within ${timeoutS} s: ${error.message}`);
      await delay(RETRY_MS);
    }
  }
}

async function attempt(args: Arguments, place: WaitedFor, leftMs: number): Promise<ChannelStatus> {
  const control = await openControl(args);
  const timeoutS = Math.ceil(Math.max(0, leftMs)) / 1000;
  return showProgress(() => describeWait(control.path, place.channel), control.waitFor({ ...place, timeoutS }));
}

/** A channel and a service of it, each of which may be left out. */
type WaitedFor = Pick<WaitRequest, 'service' | 'channel'>;

/** What the words say, each of which may have a label, or none. Throws `bad-argument`. */
function waitedFor(args: Arguments): WaitedFor {
  const [operand] = args.operands;
  const named = operand?.includes('/') === true ? operand : undefined;
  const option = args.text('service');
  if (named !== undefined && option !== undefined) {
    throw new VproxyError('bad-argument', `--service: cannot be used with ${escapeText(named, 128)}`);
  }
  const text = named ?? option;
  const { service, channel } = text === undefined ? { service: text, channel: text } : servicePlace(args, text);
  return { service, channel: channelOf(args, channel, named === undefined ? operand : undefined) };
}
