/** `vproxy egress allow`, `block` and `reset`: changes to the rules of an egress while it runs. */
import type { ControlClient } from '../../lib/control/client/client.js';
import { badArgument } from '../../lib/errors.js';
import { MAX_ASK_S, MAX_FOR_S } from '../../lib/forward/egress/rules.js';
import type { EgressStatus } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatDuration } from '../../lib/util/units.js';
import type { Arguments } from '../command/arguments.js';
import { CHANNEL_OPTION, type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf, splitLabel } from '../command/labels.js';
import { printAnswer } from '../ui/print.js';

export const allow = changing(
  {
    usage: 'egress allow [CHANNEL/]EGRESS [DESTINATION:PORTS...] [--for TIME] [--ask TIME] [--channel LABEL] [--json]',
    about:
      'Allows more destinations, spelled as in the configuration, for a time or until vproxy egress reset. Then the connections that they allowed are reset. What the configuration denies stays denied.',
    examples: [
      ['vproxy egress allow internet deb.debian.org:80 --for 15m', 'While packages are installed'],
      ['vproxy egress allow vm1/internet "*.example.org:443" 192.0.2.7:22', 'Until vproxy egress reset'],
    ],
    options: {
      for: { value: 'TIME', describe: 'How long, from 1s to 720h, in seconds or as in 1h30m [default: until reset]' },
      ask: {
        value: 'TIME',
        describe:
          'Until reset, what no entry names waits that long for vproxy egress answer, 1s to 10m [default: as before]',
      },
    },
    operands: ['EGRESS', '[DESTINATION:PORTS…]'],
  },
  (control, egress, args) => {
    if (args.operands.length < 2 && args.text('ask') === undefined)
      throw badArgument('missing DESTINATION:PORTS, or --ask');
    return control.allowEgress({
      ...egress,
      destinations: args.operands.slice(1),
      forS: args.seconds('for', 1, MAX_FOR_S),
      askS: args.seconds('ask', 1, MAX_ASK_S),
    });
  },
);

export const block = changing(
  {
    usage: 'egress block [CHANNEL/]EGRESS [--channel LABEL] [--json]',
    about:
      'Denies everything, drops what vproxy egress allow has added, and resets all connections. This lasts until vproxy egress reset or the end of the process.',
    examples: [['vproxy egress block vm1/internet', 'When a machine needs it no longer']],
  },
  (control, { name, channel }) => control.blockEgress(name, channel),
);

export const reset = changing(
  {
    usage: 'egress reset [CHANNEL/]EGRESS [--channel LABEL] [--json]',
    about:
      'Undoes vproxy egress allow and block: the rules of the configuration are in effect again, and connections that added entries allowed are reset.',
    examples: [['vproxy egress reset vm1/internet', 'Back to the configuration']],
  },
  (control, { name, channel }) => control.resetEgress(name, channel),
);

/** Prints the changes in effect. */
function changing(
  description: Pick<Command, 'usage' | 'about' | 'examples'> & Partial<Command>,
  change: (control: ControlClient, egress: ReturnType<typeof readEgress>, args: Arguments) => Promise<EgressStatus>,
): Command {
  return {
    operands: ['EGRESS'],
    ...description,
    options: { ...description.options, ...CHANNEL_OPTION, ...JSON_OPTION },
    async run(args) {
      const egress = readEgress(args);
      const answer = await change(await openControl(args), egress, args);
      printAnswer(args, answer, () => describeChanges(answer));
    },
  };
}

/** A line for each added entry; otherwise one for the egress. */
export function describeChanges({ added, channel, denied, isBlocked, name, rules }: EgressStatus): string[] {
  const describe = (all: EgressStatus['added'], what: string) =>
    all.map(({ entry, until }) => `${entry} ${what} until ${until ?? 'vproxy egress reset'}`);
  const entries = [...describe(added, 'allowed'), ...describe(denied, 'denied')];
  const askS = rules?.askS ?? null;
  const asks = askS === null ? [] : [`what no entry names waits ${formatDuration(askS * 1000)} for an answer`];
  const lines = entries.length > 0 ? entries : [isBlocked ? 'blocked' : 'as configured'];
  return [...lines, ...asks].map((line) => escapeText(`${channel}/${name}: ${line}`, 1024));
}

function readEgress(args: Arguments) {
  const { label, rest: name } = splitLabel(args.operands[0] ?? '');
  return { name, channel: channelOf(args, label) };
}
