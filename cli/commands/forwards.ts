/** `vproxy forward add` and `vproxy forward remove`. */

import type { ControlClient } from '../../lib/control/client/client.js';
import { VproxyError } from '../../lib/errors.js';
import { makeEvent } from '../../lib/events.js';
import type { ForwardStatus } from '../../lib/status/types.js';
import { closestWord } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';
import { orElse } from '../../lib/util/or-else.js';
import { formatCount } from '../../lib/util/units.js';
import { badArgument } from '../command/arguments.js';
import { CHANNEL_FILTER, CHANNEL_OPTION, type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf, splitLabel } from '../command/labels.js';
import { Output } from '../run/output.js';
import { printAnswer } from '../ui/print.js';
import { describeForward } from '../ui/status.js';
import { showProgress } from '../ui/waiting-line.js';

export const add: Command = {
  usage: 'forward add -o|-i [LABEL/]FORWARD [--channel LABEL] [--json]',
  meant: ['forward add -o WORD', 'forward add -i WORD'],
  about:
    'Adds a forward, like -o and -i on the command line, and prints it, with the picked port if 0 was given. An address that is already in use is an error, and changes nothing.',
  examples: [
    ['vproxy forward add -o vm1/ssh:127.0.0.1:0', 'Listen for the ssh server of vm1, on any port'],
    ['vproxy forward add -i web:127.0.0.1:8080', 'Offer a web server of this side'],
  ],
  options: {
    outgoing: {
      short: 'o',
      value: 'FORWARD',
      describe: 'Listen here for a service of the peer, such as ssh:127.0.0.1:0',
    },
    incoming: { short: 'i', value: 'FORWARD', describe: 'Offer a service to the peer, such as web:127.0.0.1:8080' },
    ...CHANNEL_OPTION,
    ...JSON_OPTION,
  },
  foreign: {
    '-L': 'listen here with -o SERVICE:PORT, and offer the service at the peer with -i',
    '-R': 'offer a service of this side with -i SERVICE:TARGET, and listen at the peer with -o',
    '-D': 'offer an egress with -i NAME:egress: at the peer, and listen here with -o NAME:PORT',
  },
  async run(args) {
    const outgoing = args.text('outgoing');
    const text = outgoing ?? args.text('incoming');
    if (text === undefined) throw badArgument('missing forward; expected -o FORWARD or -i FORWARD');
    if (outgoing !== undefined && args.text('incoming') !== undefined) {
      throw badArgument('-i: not allowed with -o; add one forward at a time');
    }
    const { label, rest } = splitLabel(text);
    const channel = channelOf(args, label);
    const control = await openControl(args);
    const added = await control.addForward({
      direction: outgoing === undefined ? 'incoming' : 'outgoing',
      spec: rest,
      channel,
    });
    printAnswer(args, added, () => [describeForward(added)]);
    if (added.offered === false) await warnOfMissing(control, added);
  },
};

/** As the log of the process does. */
async function warnOfMissing(control: ControlClient, { id, channel, service }: ForwardStatus): Promise<void> {
  const offered = (await control.services()).filter((one) => one.channel === channel && one.offeredBy === 'peer');
  const services = offered.map((one) => escapeText(one.service)).join(', ');
  const message = `the peer offers no service ${escapeText(service)}; it offers: ${services || 'nothing'}`;
  new Output().log(makeEvent('service-missing', message, { service, forward: id, services }));
}

export const remove: Command = {
  usage: 'forward remove ID|FORWARD|SERVICE [--channel LABEL] [--now]',
  about:
    'Removes a forward, named by its id, its text or its service. It accepts no new streams; the command ends when the open ones have ended.',
  examples: [
    ['vproxy forward remove vm1/ssh', 'By its service'],
    ['vproxy forward remove f3 --now', 'By its id, with its streams'],
  ],
  options: {
    channel: { ...CHANNEL_FILTER.channel, describe: 'Look among the forwards of this channel only' },
    now: { describe: 'Reset the open streams' },
  },
  operands: ['ID|FORWARD|SERVICE'],
  async run(args) {
    const [text = ''] = args.operands;
    const control = await openControl(args);
    const { id } = findForward(await control.forwards(), text, channelOf(args), await canonicalSpecs(text));
    if (args.has('now')) return control.removeForward(id, { mode: 'now' });
    await showProgress(() => describeRest(control, id), control.removeForward(id));
  },
};

async function describeRest(control: ControlClient, id: string): Promise<string | null> {
  const found = (await control.forwards()).find((forward) => forward.id === id);
  return found === undefined ? null : `waiting for ${formatCount(found.streams, 'stream')} of ${id}`;
}

/** The texts that the process may show for a forward as typed, such as `ssh:9022`; empty if it is not a forward. */
async function canonicalSpecs(text: string): Promise<string[]> {
  const { rest } = splitLabel(text);
  if (!rest.includes(':')) return [];
  const { parseForwardSpec, formatForwardSpec } = await import('../../lib/forward/spec.js');
  return (['outgoing', 'incoming'] as const).flatMap((direction) =>
    orElse([], () => [formatForwardSpec(parseForwardSpec(direction, rest))]),
  );
}

/** Finds the forward that is meant. Throws `not-found`, or `bad-argument` if several match. */
function findForward(
  all: readonly ForwardStatus[],
  text: string,
  channel: string | undefined,
  specs: readonly string[],
): ForwardStatus {
  const { label, rest } = splitLabel(text);
  const forwards = all.filter((forward) => channel === undefined || forward.channel === channel);
  const ofLabel = forwards.filter((forward) => label === null || forward.channel === label);
  const matches = [
    forwards.filter(({ id }) => id === text),
    ofLabel.filter(({ spec }) => spec === rest || specs.includes(spec)),
    ofLabel.filter(
      ({ service, endpoint }) => specs.includes(`${service}:${endpoint}`) || `${service}:${endpoint}` === rest,
    ),
    ofLabel.filter(({ service }) => service === rest),
  ].find((found) => found.length > 0);
  const shown = `"${escapeText(text, 80)}"`;
  if (matches === undefined) {
    const close = closestWord(
      rest,
      forwards.map(({ service }) => service),
    );
    const hint = close === undefined ? 'see vproxy forwards' : `did you mean ${close}?`;
    throw new VproxyError('not-found', `no forward with the id, text or service ${shown}; ${hint}`);
  }
  // Forwards that are already draining need not be removed again.
  const active = matches.filter(({ state }) => state === 'active');
  const [only, ...others] = active.length > 0 ? active : matches;
  if (only !== undefined && others.length === 0) return only;
  throw badArgument(`several forwards match ${shown}: ${matches.map(describeForward).join('; ')}`);
}
