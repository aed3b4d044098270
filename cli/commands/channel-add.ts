/** `vproxy channel add`: adds a channel to a running process, with all that a file can say of one. */
import { type GivenOptions, type Option, readOptions, type Setting, writeTable } from '../../lib/settings/setting.js';
import { ADDITION_SETTINGS, DEFAULT_SETTINGS } from '../../lib/settings/settings-table.js';
import { cutLabel } from '../../lib/util/labels.js';
import { type Command, type CommandOption, type CommandOptions, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { describeWait } from '../ui/channels.js';
import { printAnswer } from '../ui/print.js';

/** Those of the settings. `--no-…` takes back what the process was given for all channels. */
export const ADDITION_OPTIONS: CommandOptions = Object.fromEntries(
  (ADDITION_SETTINGS as readonly Setting[]).flatMap(({ field, type, options = [] }) =>
    options.flatMap((option) => {
      const name = option.ofAddition?.name ?? option.name;
      const describe = `Without --${name}, also where the process was given it for all channels`;
      const isRefusable = type.none !== undefined && isForAll(field) && !name.startsWith('no-');
      return [[name, additionOption(option)], ...(isRefusable ? [[`no-${name}`, { describe }] as const] : [])];
    }),
  ),
);

/** Whether the process can be given it for all channels. */
function isForAll(wanted: string): boolean {
  return DEFAULT_SETTINGS.some(({ field }) => field === wanted);
}

function additionOption(option: Option): CommandOption {
  const { help, ofAddition = {} } = option;
  const describe = ofAddition.help ?? help.replace(/; repeatable$| \[default: .*\]$/, '');
  return { ...option, group: 'Options:', forms: [], describe };
}

export const command: Command = {
  usage: 'channel add [LABEL=]CHANNEL [-o FORWARD]… [-i FORWARD]… [--json]',
  about: 'Adds a channel with its forwards, as -c, -o and -i of the command line do, and prints its state.',
  examples: [
    ['vproxy channel add vm2=unix-connect:/run/vm2.sock -o ssh:127.0.0.1:9023', 'A VM that was started later'],
  ],
  options: {
    ...ADDITION_OPTIONS,
    ...JSON_OPTION,
  },
  operands: ['CHANNEL'],
  async run(args) {
    const [text = ''] = args.operands;
    const { label, rest: address } = cutLabel(text, '=') ?? { label: undefined, rest: text };
    const settings = readAddition((name) => args.texts(name));
    const control = await openControl(args);
    const added = await control.addChannel({ ...settings, address, ...(label === undefined ? {} : { label }) });
    const wait = describeWait(added);
    printAnswer(args, added, () => [`${added.label}: ${added.state}${wait === null ? '' : `: ${wait}`}`]);
  },
};

/** What the options say, as a request. Throws `bad-argument`, naming the option. */
export function readAddition(given: GivenOptions): Record<string, unknown> {
  return writeTable(ADDITION_SETTINGS, readOptions(ADDITION_SETTINGS, given, 'request'), 'request');
}
