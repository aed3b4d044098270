/** Channels, forwards and ports as arguments: `vm1=unix-connect:/run/vm1.sock`, `vm1/ssh:127.0.0.1:9022`. */

import { type ChannelAddress, parseChannel } from '../channel/address/address.js';
import { badArgument } from '../errors.js';
import type { Direction } from '../forward/forms/endpoint-form.js';
import type { ForwardSpec } from '../forward/spec.js';
import { DEFAULT_LABEL, parseLabel } from '../proxy/channel/channel-options.js';
import { suggestOrList } from '../util/closest-word.js';
import { escapeText } from '../util/escape.js';
import { orElse } from '../util/or-else.js';
import { parseForwardFor } from './forward-settings.js';

interface ChannelArgument {
  readonly label: string;
  readonly address: ChannelAddress;
}

/**
 * Parses `[LABEL=]KIND:ADDRESS`. An equals sign before the first colon ends a label; the options of a channel
 * follow that colon. Throws `bad-argument`.
 */
export function parseChannelArgument(text: string): ChannelArgument {
  const [, label, address = ''] = /^([^:=]*)=(.*)$/s.exec(text) ?? [];
  const isLabelled = label !== undefined;
  return {
    label: isLabelled ? parseLabel(label) : DEFAULT_LABEL,
    address: parseChannel(isLabelled ? address : text),
  };
}

// The text of a forward that may name its channel: `vm1/ssh:127.0.0.1:9022`.

interface ForwardArgument {
  readonly label: string;
  readonly spec: ForwardSpec;
}

/** Whether each channel is a group, by label. */
type KnownChannels = ReadonlyMap<string, boolean>;

/**
 * Parses a forward for one of `channels`. A slash before the first colon ends a label; without one there must be exactly one
 * channel. Throws `bad-argument`, also for a label behind a complete forward, which would end up in a path.
 */
export function parseForwardArgument(direction: Direction, text: string, channels: KnownChannels): ForwardArgument {
  const shown = `${direction === 'outgoing' ? '-o' : '-i'} ${escapeText(text)}`;
  const labels = [...channels.keys()];
  const parse = (label: string, rest: string) => parseForwardFor(channels.get(label) === true, direction, rest);
  const [, before, rest = ''] = /^([^:/]*)\/(.*)$/s.exec(text) ?? [];
  if (before !== undefined) {
    if (channels.has(before)) return { label: before, spec: parse(before, rest) };
    throw badArgument(`${shown}: no channel "${escapeText(before, 80)}"; ${suggestOrList(before, labels)}`);
  }
  const trailing = labelBehind(direction, text, channels);
  if (trailing !== null) {
    const forward = text.slice(0, -trailing.length - 1);
    throw badArgument(`${shown}: the label comes first; write ${trailing}/${escapeText(forward)}`);
  }
  const [label, ...others] = labels;
  const spec = parse(label ?? '', text);
  if (label !== undefined && others.length === 0) return { label, spec };
  const example = label === undefined ? '' : `; for the first one write ${label}/${escapeText(text)}`;
  throw badArgument(`${shown}: missing channel label; ${suggestOrList('', labels, 'defined')}${example}`);
}

/** The label behind a complete forward; not a number, a hyphen, or the end of a command. */
function labelBehind(direction: Direction, text: string, channels: KnownChannels): string | null {
  const colon = text.lastIndexOf(':');
  const label = text.slice(colon + 1);
  const hasStar = channels.get(label);
  if (colon === -1 || hasStar === undefined || /^(\d+|-)$/.test(label)) return null;
  const forward = orElse(null, () => parseForwardFor(hasStar, direction, text.slice(0, colon)));
  return forward === null || forward.endpoint.kind === 'exec' ? null : label;
}
