/** The options that many commands take. */
import type { CommandOptions } from './command.js';

/** Every command takes these. */
export const COMMON_OPTIONS = {
  socket: {
    value: 'PATH',
    describe: 'Control socket of the process [default: $VPROXY_SOCKET, else the only one there is]',
  },
  name: { value: 'NAME', describe: 'Name, or number, of the process' },
  help: { short: 'h', describe: 'Show this help' },
} as const satisfies CommandOptions;

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
