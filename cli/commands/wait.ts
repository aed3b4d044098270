/** `vproxy wait`: waits for a session, a service, or the end of a boot; for scripts that boot VMs. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ControlClient } from '../../lib/control/client/client.js';
import type { WaitRequest } from '../../lib/control/client/client-options.js';
import { VproxyError } from '../../lib/errors.js';
import { listInsteadOf } from '../../lib/session/services.js';
import type { BootStatus, ChannelStatus } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatDuration } from '../../lib/util/units.js';
import { type Arguments, badArgument } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf, servicePlace } from '../command/labels.js';
import { describeWait } from '../command/open-service.js';
import { printJson } from '../ui/print.js';
import { showProgress } from '../ui/waiting-line.js';

export const command: Command = {
  usage: 'wait [LABEL[/SERVICE]] [--service SERVICE] [--booted] [--timeout SECONDS] [--json]',
  about:
    "Waits for a session in which the peer offers the service, and ends with status 69 if that takes too long, or if there is no channel LABEL. The vproxy process itself may start later, too. With --booted it waits until the peer's machine has booted, and ends with status 1 if something in its boot failed.",
  examples: [
    ['vproxy wait vm1 --timeout 30m && vproxy exec vm1: uname -r', 'For a VM that boots'],
    ['vproxy wait vm1/ssh', 'For a service'],
    ['vproxy wait vm1 --booted', 'For the end of a boot'],
  ],
  options: {
    service: { value: 'SERVICE', describe: 'The service to wait for; also LABEL/SERVICE' },
    channel: { value: 'LABEL', describe: 'The channel [default: any]' },
    booted: { describe: "Wait until the peer's systemd has started everything, and its cloud-init is done" },
    timeout: { value: 'SECONDS', describe: 'How long to wait [default: 60]' },
    json: { describe: 'Print the channel as JSON; with --booted the state of the boot' },
  },
  operands: ['[LABEL[/SERVICE]]'],
  foreign: { '-t': 'use --timeout SECONDS', '-w': 'use --timeout SECONDS' },
  async run(args) {
    const place = waitedFor(args);
    const timeoutS = args.seconds('timeout', 0, MAX_TIMEOUT_S) ?? DEFAULT_TIMEOUT_S;
    const deadline = performance.now() + timeoutS * 1000;
    for (;;) {
      const leftMs = deadline - performance.now();
      try {
        const control = await openControl(args);
        const channel = await waitForChannel(control, place, leftMs);
        if (args.has('booted')) return await waitForBoot(control, args, place.channel, deadline - performance.now());
        if (args.has('json')) printJson(channel);
        return 0;
      } catch (error) {
        if (!(error instanceof VproxyError) || !MAY_BE_LATE.has(error.code)) throw error;
        const isLate = deadline - performance.now() <= RETRY_MS;
        const late = `timed out after ${formatDuration(timeoutS * 1000)}: ${error.message}`;
        if (isLate && timeoutS > 0) throw new VproxyError(error.code, late, { cause: error });
        if (isLate || error.code === 'no-session') throw error;
        await delay(RETRY_MS);
      }
    }
  },
};

const DEFAULT_TIMEOUT_S = 60;
const MAX_TIMEOUT_S = 86_400;

/** The interval between searches for a missing process, in milliseconds. */
const RETRY_MS = 100;

/** The codes of what may still come. */
const MAY_BE_LATE: ReadonlySet<string> = new Set(['control-unavailable', 'no-session']);

/** The status if something in the boot has failed, as `systemctl is-system-running` has it. */
const EXIT_FLAWED = 1;

function waitForChannel(control: ControlClient, place: WaitedFor, leftMs: number): Promise<ChannelStatus> {
  const waited = control.waitFor({ ...place, timeoutS: secondsOf(leftMs) });
  const { service } = place;
  const describeOffer = ({ label, session }: ChannelStatus): string =>
    `waiting for ${service}; ${label} offers: ${listInsteadOf(service ?? '', new Set(session?.peer.services))}`;
  const describeReady = service === undefined ? undefined : describeOffer;
  return showProgress(() => describeWait(control.path, place.channel, describeReady), waited);
}

/** Prints remarks about the boot on stderr, and resolves with the exit status. */
async function waitForBoot(
  control: ControlClient,
  args: Arguments,
  channel: string | undefined,
  leftMs: number,
): Promise<number> {
  let line: string | null = null;
  const onBooting = (status: BootStatus) => {
    line = `waiting for ${escapeText(status.channel)}: ${status.remarks.join('; ')}`;
  };
  const waited = control.waitForBoot({ channel, timeoutS: secondsOf(leftMs), onBooting });
  const status = await showProgress(() => Promise.resolve(line), waited);
  for (const remark of status.remarks) process.stderr.write(`vproxy: ${escapeText(status.channel)}: ${remark}\n`);
  if (args.has('json')) printJson(status);
  return status.verdict === 'failed' ? EXIT_FLAWED : 0;
}

const secondsOf = (ms: number): number => Math.ceil(Math.max(0, ms)) / 1000;

/** A channel and a service of it, each of which may be left out. */
type WaitedFor = Pick<WaitRequest, 'service' | 'channel'>;

/** Parses the operand and the options, each with or without a label. Throws `bad-argument`. */
function waitedFor(args: Arguments): WaitedFor {
  const [operand] = args.operands;
  const named = operand?.includes('/') === true ? operand : undefined;
  const option = args.text('service');
  if (named !== undefined && option !== undefined) {
    throw badArgument(`--service: not allowed with ${escapeText(named, 128)}`);
  }
  const text = named ?? option;
  const { service, channel } = text === undefined ? { service: text, channel: text } : servicePlace(args, text);
  return { service, channel: channelOf(args, channel, named === undefined ? operand : undefined) };
}
