/** `vproxy channel add`: adds a channel to a running process, with every setting that a file can have. */
import {
  type GivenOptions,
  listOptions,
  type Option,
  REPLACED,
  readOptions,
  type Setting,
  writeTable,
} from '../../lib/settings/setting.js';
import { ADDITION_SETTINGS, DEFAULT_SETTINGS } from '../../lib/settings/settings-table.js';
import { cutLabel } from '../../lib/util/labels.js';
import { type Command, type CommandOption, type CommandOptions, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { printAnswer } from '../ui/print.js';
import { describeWait } from '../ui/status.js';

/** The options of the settings. `--no-…` overrides the setting for all channels of the process. */
export const ADDITION_OPTIONS: CommandOptions = Object.fromEntries(
  ADDITION_SETTINGS.flatMap((setting: Setting) =>
    listOptions(setting).flatMap((option) => {
      const name = option.ofAddition?.name ?? option.name;
      const describe = `Without --${name}, even if the process has it for all channels`;
      const isForAll = DEFAULT_SETTINGS.some(({ field }) => field === setting.field);
      const isRefusable = setting.type.none !== undefined && isForAll && !name.startsWith('no-');
      return [[name, additionOption(option)], ...(isRefusable ? [[`no-${name}`, { describe }] as const] : [])];
    }),
  ),
);

function additionOption(option: Option): CommandOption {
  const { help, ofAddition = {} } = option;
  return { ...option, group: 'Options:', forms: [], describe: ofAddition.help ?? help };
}

const CHANNEL_IS_OPERAND =
  'the channel has no option in front of it: vproxy channel add vm2=unix-connect:/run/vm2.sock';

export const command: Command = {
  usage: 'channel add [LABEL=]CHANNEL [-o FORWARD]… [-i FORWARD]… [--json]',
  about: 'Adds a channel with its forwards, like -c, -o and -i on the command line, and prints its state.',
  examples: [
    ['vproxy channel add vm2=unix-connect:/run/vm2.sock -o ssh:127.0.0.1:9023', 'Add a VM that was started later'],
  ],
  options: {
    ...ADDITION_OPTIONS,
    ...JSON_OPTION,
  },
  operands: ['CHANNEL'],
  foreign: { '-c': CHANNEL_IS_OPERAND, '--channel': CHANNEL_IS_OPERAND, ...REPLACED },
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

/** Converts the options to a request. Throws `bad-argument`, naming the option. */
export function readAddition(given: GivenOptions): Record<string, unknown> {
  return writeTable(ADDITION_SETTINGS, readOptions(ADDITION_SETTINGS, given, 'request'), 'request');
}
