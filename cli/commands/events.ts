/** `vproxy events`: what happens, one line an event. */

import type { ControlEvent } from '../../lib/status/types.js';
import { formatJson } from '../../lib/util/escape.js';
import { badArgument } from '../command/arguments.js';
import { CHANNEL_FILTER, type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf } from '../command/labels.js';
import { formatTextLine } from '../run/output.js';
import { paintFor } from '../ui/color.js';
import { print } from '../ui/print.js';

export const command: Command = {
  usage: 'events [LABEL] [--replay COUNT] [--no-follow] [--json]',
  about:
    'Shows the last events, and then each one as it happens, of every level, whatever the log shows. Ends with the process, or when it is interrupted.',
  examples: [
    ['vproxy events', 'All that happens, until Ctrl-C'],
    ['vproxy events vm1 --replay 20 --no-follow', 'The last events of vm1'],
  ],
  options: {
    ...CHANNEL_FILTER,
    replay: { value: 'COUNT', describe: 'How many of the last events to begin with [default: all that are kept, 500]' },
    follow: { short: 'f', describe: 'Go on with each event as it happens, as is done without it' },
    'no-follow': { describe: 'End when those are shown' },
    ...JSON_OPTION,
  },
  operands: ['[LABEL]'],
  async run(args) {
    const replay = args.number('replay', 'events', 0, MAX_REPLAY);
    if (args.has('follow') && args.has('no-follow')) {
      throw badArgument('--follow: cannot be used with --no-follow');
    }
    const label = channelOf(args, args.operands[0]);
    const control = await openControl(args);
    if (label !== undefined) await control.channel(label);
    const request = { follow: !args.has('no-follow'), ...(replay === undefined ? {} : { replay }) };
    for await (const event of control.events(request)) {
      if (label !== undefined && event.fields['channel'] !== label) continue;
      print(`${args.has('json') ? formatJson(event) : formatEvent(event)}\n`);
      // Where a terminal or a pipe is slow, events wait at the process, which says how many it had to drop.
      if (process.stdout.writableNeedDrain) await new Promise((resolve) => process.stdout.once('drain', resolve));
    }
  },
};

const MAX_REPLAY = 500;

/** The line of the log, behind its time. */
function formatEvent(event: ControlEvent): string {
  return `${event.time} ${formatTextLine(event, false, paintFor(process.stdout))}`;
}
