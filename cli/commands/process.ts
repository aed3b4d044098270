/** `vproxy status`, `log-level`, `reload`, `drain` and `stop`: the process itself, as a running vproxy. */

import { resolve } from 'node:path';
import type { ControlClient } from '../../lib/control/client/client.js';
import { LOG_LEVELS } from '../../lib/events.js';
import type { ChannelStatus, ReloadAnswer } from '../../lib/status/types.js';
import { whatThereIs } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';
import { badArgument } from '../command/arguments.js';
import { type Command, JSON_OPTION } from '../command/command.js';
import { openControl, watchForEnd } from '../command/control-client.js';
import { formatChannel, formatChannels, formatProcess } from '../ui/channels.js';
import { paintFor } from '../ui/color.js';
import { formatCount, outputWidth, printAnswer } from '../ui/print.js';
import { showProgress } from '../ui/waiting-line.js';
import { formatHandover } from '../upgrade/document.js';

export const status: Command = {
  usage: 'status [--verbose] [--json]',
  about: 'Shows the process, and for each of its channels what it does now, since when, and with whom.',
  examples: [
    ['vproxy status', 'The process, and a line for each channel'],
    ["vproxy status --json | jq -r '.channels[].state'", 'For a script'],
  ],
  options: { ...JSON_OPTION, verbose: { describe: 'Show all of each channel' } },
  meant: ['channels LABEL', 'status --name LABEL'],
  async run(args) {
    const control = await openControl(args);
    const status = await control.status();
    const channels = () => describeChannels(status.channels, args.has('verbose'));
    printAnswer(args, status, () => [...formatProcess(status), '', ...channels()]);
  },
};

function describeChannels(channels: readonly ChannelStatus[], isVerbose: boolean): string[] {
  const paint = paintFor(process.stdout);
  if (!isVerbose || channels.length === 0) return formatChannels(channels, outputWidth(), paint);
  return channels.flatMap((channel, index) => [...(index === 0 ? [] : ['']), ...formatChannel(channel, paint)]);
}

export const logLevel: Command = {
  usage: 'log-level [error|warn|info|debug] [--json]',
  about: 'Sets the least important level that the process logs, until it ends; without a level, shows it.',
  examples: [
    ['vproxy log-level debug', 'Log all that happens'],
    ['vproxy log-level info', 'Log as it was'],
  ],
  options: JSON_OPTION,
  operands: ['[error|warn|info|debug]'],
  async run(args) {
    const [text] = args.operands;
    const wanted = LOG_LEVELS.find((level) => level === text);
    if (text !== undefined && wanted === undefined) {
      throw badArgument(`"${escapeText(text, 64)}" is no level; ${whatThereIs(text, LOG_LEVELS)}`);
    }
    const control = await openControl(args);
    const level =
      wanted === undefined ? (await control.status()).process.logLevel : (await control.logLevel(wanted)).level;
    printAnswer(args, { level }, () => [level]);
  },
};

export const reload: Command = {
  usage: 'reload [--json]',
  about:
    'Lets the process read its configuration file again, and shows what that has changed. What is the same keeps its streams; a file that is not valid changes nothing.',
  examples: [['vproxy check /etc/vproxy/host1.toml && vproxy reload', 'After the file was changed']],
  options: JSON_OPTION,
  meant: ['reload --name LABEL'],
  async run(args) {
    const control = await openControl(args);
    const changes = await control.reload();
    const lines = (Object.keys(TITLES) as (keyof ReloadAnswer)[]).flatMap((key) =>
      changes[key].map((what) => `${TITLES[key]}: ${escapeText(what)}`),
    );
    printAnswer(args, changes, () => (lines.length === 0 ? ['nothing has changed'] : lines));
  },
};

const TITLES: Readonly<Record<keyof ReloadAnswer, string>> = {
  addedChannels: 'channel added',
  removedChannels: 'channel removed',
  replacedChannels: 'channel replaced',
  addedForwards: 'forward added',
  removedForwards: 'forward removed',
  changedPolicies: 'rule changed',
  changedEgress: 'egress changed',
  nextStart: 'counts from the next start on',
};

export const drain: Command = {
  usage: 'drain [--timeout SECONDS]',
  about:
    'Lets the process end when its streams have ended; no new ones are opened. What is still open at the timeout is reset. The command ends when the process has.',
  examples: [['vproxy drain --timeout 5m', 'Give streams five minutes']],
  options: { timeout: { value: 'SECONDS', describe: 'How long the streams have [default: 30]' } },
  meant: ['channel remove LABEL', 'drain --name LABEL'],
  async run(args) {
    const timeoutS = args.seconds('timeout', 0, MAX_TIMEOUT_S) ?? DEFAULT_TIMEOUT_S;
    const control = await openControl(args);
    const waitForEnd = await watchForEnd(control);
    await control.drain({ timeoutS });
    await showProgress(() => describeRest(control), waitForEnd(timeoutS * 1000 + GRACE_MS));
  },
};

const DEFAULT_TIMEOUT_S = 30;
const MAX_TIMEOUT_S = 86_400;

/** What the end takes when the streams are gone, and a machine may be slow: in milliseconds. */
const GRACE_MS = 10_000;

async function describeRest(control: ControlClient): Promise<string> {
  return `waiting for ${formatCount((await control.status()).streams, 'stream')}`;
}

export const upgrade: Command = {
  usage: 'upgrade [--program PATH] [--wait SECONDS] [--force] [--json]',
  about:
    'Starts a successor of the process, which goes on with its sessions, streams and listening sockets: neither peers nor local programs notice. Where that cannot be, the process goes on as it was.',
  examples: [['vproxy upgrade', 'After a new version was installed']],
  options: {
    program: { value: 'PATH', describe: 'The program to run [default: what the process was started as]' },
    wait: {
      value: 'SECONDS',
      describe: 'How long what cannot be handed over, such as a command, has to end [default: 10]',
    },
    force: { describe: 'Reset streams then that only a guest can end, such as those of its commands here' },
    ...JSON_OPTION,
  },
  meant: ['upgrade --name LABEL'],
  async run(args) {
    const waitS = args.seconds('wait', 0, MAX_TIMEOUT_S);
    const program = args.text('program');
    const force = args.has('force');
    const control = await openControl(args);
    const answer = await control.upgrade({
      program: program === undefined ? undefined : resolve(program),
      waitS,
      force,
    });
    printAnswer(args, answer, () => [formatHandover(answer), ...answer.cut.map((what) => `cut: ${what}`)]);
  },
};

export const stop: Command = {
  usage: 'stop',
  about: 'Lets the process end in order, as SIGTERM does. The command ends when it has.',
  examples: [['vproxy stop --name host1', 'The process that is called host1']],
  options: {},
  meant: ['channel remove LABEL', 'stop --name LABEL'],
  async run(args) {
    const control = await openControl(args);
    const waitForEnd = await watchForEnd(control);
    await control.stop();
    await waitForEnd(TIMEOUT_MS);
  },
};

/** The end takes a second at most, and a machine may be slow: in milliseconds. */
const TIMEOUT_MS = 10_000;
