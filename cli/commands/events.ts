/** `vproxy events`: prints a line for each event. */

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
    'Shows recent events, then new ones as they happen, at every level, whatever the log level is. Ends with the process, or when interrupted.',
  examples: [
    ['vproxy events', 'All events, until Ctrl-C'],
    ['vproxy events vm1 --replay 20 --no-follow', 'Recent events of vm1'],
  ],
  options: {
    ...CHANNEL_FILTER,
    replay: { value: 'COUNT', describe: 'How many recent events to show first [default: all that are kept, 500]' },
    follow: { short: 'f', describe: 'Show new events as they happen; the default' },
    'no-follow': { describe: 'Exit after the recent events' },
    ...JSON_OPTION,
  },
  operands: ['[LABEL]'],
  async run(args) {
    const replay = args.number('replay', 'events', 0, MAX_REPLAY);
    if (args.has('follow') && args.has('no-follow')) {
      throw badArgument('--follow: not allowed with --no-follow');
    }
    const label = channelOf(args, args.operands[0]);
    const control = await openControl(args);
    if (label !== undefined) await control.channel(label);
    const request = { follow: !args.has('no-follow'), ...(replay === undefined ? {} : { replay }) };
    for await (const event of control.events(request)) {
      if (label !== undefined && event.fields['channel'] !== label) continue;
      print(`${args.has('json') ? formatJson(event) : formatEvent(event)}\n`);
      // Back-pressure of a slow terminal or pipe: the process buffers events, and reports how many it had to drop.
      if (process.stdout.writableNeedDrain) await new Promise((resolve) => process.stdout.once('drain', resolve));
    }
  },
};

const MAX_REPLAY = 500;

/** The time, then the line as in the log. */
function formatEvent(event: ControlEvent): string {
  return `${event.time} ${formatTextLine(event, false, paintFor(process.stdout))}`;
}
