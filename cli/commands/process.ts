/** `vproxy log-level`, `reload`, `drain`, `upgrade` and `stop`: commands for the process itself. */

import { resolve } from 'node:path';
import type { ControlClient } from '../../lib/control/client/client.js';
import { LOG_LEVELS } from '../../lib/events.js';
import type { ReloadAnswer } from '../../lib/status/types.js';
import { suggestOrList } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatCount } from '../../lib/util/units.js';
import { badArgument } from '../command/arguments.js';
import { type Command, JSON_OPTION } from '../command/command.js';
import { openControl, watchForEnd } from '../command/control-client.js';
import { printAnswer } from '../ui/print.js';
import { showProgress } from '../ui/waiting-line.js';

export const logLevel: Command = {
  usage: 'log-level [error|warn|info|debug] [--json]',
  about: 'Sets the log level of the process until it exits; without a level, shows it.',
  examples: [
    ['vproxy log-level debug', 'Log everything'],
    ['vproxy log-level info', 'Back to the default'],
  ],
  options: JSON_OPTION,
  operands: ['[error|warn|info|debug]'],
  async run(args) {
    const [text] = args.operands;
    const wanted = LOG_LEVELS.find((level) => level === text);
    if (text !== undefined && wanted === undefined) {
      throw badArgument(`"${escapeText(text, 64)}" is not a log level; ${suggestOrList(text, LOG_LEVELS)}`);
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
    'Makes the process reload its configuration file, and shows what has changed. Unchanged channels and forwards keep their streams; an invalid file changes nothing.',
  examples: [['vproxy check /etc/vproxy/host1.toml && vproxy reload', 'After changing the file']],
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
  changedSettings: 'setting changed',
  nextStart: 'takes effect at the next start',
};

export const drain: Command = {
  usage: 'drain [--timeout SECONDS]',
  about:
    'Stops the process once its streams have ended; it accepts no new ones. Streams that are still open at the timeout are reset. The command ends when the process has exited.',
  examples: [['vproxy drain --timeout 5m', 'Give streams five minutes']],
  options: { timeout: { value: 'SECONDS', describe: 'How long to wait for the streams [default: 30]' } },
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

/** Grace period for the exit after the streams have ended, on a slow machine, in milliseconds. */
const GRACE_MS = 10_000;

async function describeRest(control: ControlClient): Promise<string> {
  return `waiting for ${formatCount((await control.status()).streams, 'stream')}`;
}

export const upgrade: Command = {
  usage: 'upgrade [--program PATH] [--wait SECONDS] [--force] [--json]',
  about:
    'Starts a successor of the process, which takes over its sessions, streams and listening sockets: neither peers nor local programs notice. If that is not possible, the process continues as before.',
  examples: [['vproxy upgrade', 'After installing a new version']],
  options: {
    program: { value: 'PATH', describe: 'The program to run [default: the one that the process was started as]' },
    wait: {
      value: 'SECONDS',
      describe: 'How long to wait for what cannot be handed over, such as a command, to end [default: 10]',
    },
    force: { describe: 'Then reset streams that only a guest can end, such as those of its commands here' },
    ...JSON_OPTION,
  },
  meant: ['upgrade --name LABEL', 'upgrade --program WORD'],
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
    const { formatHandover } = await import('../upgrade/document.js');
    printAnswer(args, answer, () => [formatHandover(answer), ...answer.cut.map((what) => `cut: ${what}`)]);
  },
};

export const stop: Command = {
  usage: 'stop',
  about: 'Stops the process cleanly, like SIGTERM. The command ends when the process has exited.',
  examples: [['vproxy stop --name host1', 'Stop the process named host1']],
  options: {},
  meant: ['channel remove LABEL', 'stop --name LABEL'],
  async run(args) {
    const control = await openControl(args);
    const waitForEnd = await watchForEnd(control);
    await control.stop();
    await waitForEnd(TIMEOUT_MS);
  },
};

/** The exit takes a second at most; longer for a slow machine: in milliseconds. */
const TIMEOUT_MS = 10_000;
