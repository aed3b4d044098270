/** The options that many commands take. */
import type { Command, CommandOptions } from './command.js';

/** Every command takes these, */
const HELP_OPTION = {
  help: { short: 'h', describe: 'Show this help' },
} as const satisfies CommandOptions;

/** and those that are for a vproxy that runs, also these. */
const PROCESS_OPTIONS = {
  socket: {
    value: 'PATH',
    describe: 'Control socket of the process [default: $VPROXY_SOCKET, else the only one there is]',
  },
  name: { value: 'NAME', describe: 'Name, or number, of the process' },
} as const satisfies CommandOptions;

/** What a command takes besides its own options. */
export const commonOptions = ({ isLocal = false }: Pick<Command, 'isLocal'>): CommandOptions =>
  isLocal ? HELP_OPTION : { ...PROCESS_OPTIONS, ...HELP_OPTION };

/** For a command that prints facts. */
export const JSON_OPTION = {
  json: { describe: 'Print what the process says, as JSON' },
} as const satisfies CommandOptions;

/** For a command that is about a channel. */
export const CHANNEL_OPTION = {
  channel: { value: 'LABEL', describe: 'The channel [default: the only one]' },
} as const satisfies CommandOptions;

/** For a command that lists what belongs to channels. */
export const CHANNEL_FILTER = {
  channel: { value: 'LABEL', describe: 'Only what belongs to this channel' },
} as const satisfies CommandOptions;
