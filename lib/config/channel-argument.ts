/** The text of a channel with its label before it: `vm1=unix-connect:/run/vm1.sock`. */
import { DEFAULT_LABEL, parseLabel } from '../proxy/channel-options.js';

/** A channel as `-c` names it. */
export interface ChannelArgument {
  readonly label: string;
  /** The text of the channel, which nobody has looked at. */
  readonly address: string;
}

/**
 * The parts of `[LABEL=]KIND:ADDRESS`. An equals sign before the first colon ends a label; the options of a channel stand
 * behind that colon. Throws `bad-argument` for a label that is none.
 */
export function parseChannelArgument(text: string): ChannelArgument {
  const [, label, address = ''] = /^([^:=]*)=(.*)$/s.exec(text) ?? [];
  return label === undefined ? { label: DEFAULT_LABEL, address: text } : { label: parseLabel(label), address };
}
