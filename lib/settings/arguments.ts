/** The text of a channel with its label before it: `vm1=unix-connect:/run/vm1.sock`. */

import { VproxyError } from '../errors.js';
import type { Direction } from '../forward/endpoint-kind.js';
import { fileEndpoint } from '../forward/file-endpoint.js';
import type { ForwardSpec } from '../forward/spec.js';
import type { VsockMuxEndpoint } from '../forward/vsock-mux-endpoint.js';
import { DEFAULT_LABEL, parseLabel } from '../proxy/channel-options.js';
import { escapeText } from '../util/escape.js';
import { type AuditPlace, parseForwardFor } from './configuration.js';

/** A channel as `-c` names it. */
interface ChannelArgument {
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

// The text of a forward that may name its channel: `vm1/ssh:127.0.0.1:9022`, or `ssh:127.0.0.1:9022:vm1`.

/** A forward and the label of the channel that it is for. */
interface ForwardArgument {
  readonly label: string;
  readonly spec: ForwardSpec;
}

/** The channels that there are, by their labels, and whether each is a group. */
type KnownChannels = ReadonlyMap<string, boolean>;

/**
 * The forward of a text, for one of `channels`. A slash before the first colon ends a label. Else what stands
 * behind the last colon is one if there is such a channel and what is before it is a forward by itself; but never a
 * number, a hyphen, or the end of a command. Else there has to be one channel only. Throws `bad-argument`.
 */
export function parseForwardArgument(direction: Direction, text: string, channels: KnownChannels): ForwardArgument {
  const shown = `${direction === 'outgoing' ? '-o' : '-i'} ${escapeText(text)}`;
  const labels = [...channels.keys()];
  const parse = (label: string, rest: string) => parseForwardFor(channels.get(label) === true, direction, rest);
  const [, before, rest = ''] = /^([^:/]*)\/(.*)$/s.exec(text) ?? [];
  if (before !== undefined) {
    if (channels.has(before)) return { label: before, spec: parse(before, rest) };
    throw bad(`${shown}: there is no channel "${escapeText(before, 80)}"; there are: ${labels.join(', ')}`);
  }
  const behind = parseTrailing(direction, text, channels);
  if (behind !== null) return behind;
  const [label, ...others] = labels;
  const spec = parse(label ?? '', text);
  if (label !== undefined && others.length === 0) return { label, spec };
  const example = label === undefined ? '' : `; write ${label}/${escapeText(text)} for the first of them`;
  throw bad(`${shown}: which channel? There are: ${labels.join(', ') || 'none'}${example}`);
}

function parseTrailing(direction: Direction, text: string, channels: KnownChannels): ForwardArgument | null {
  const colon = text.lastIndexOf(':');
  const label = text.slice(colon + 1);
  const hasStar = channels.get(label);
  if (colon === -1 || hasStar === undefined || /^(\d+|-)$/.test(label)) return null;
  try {
    const spec = parseForwardFor(hasStar, direction, text.slice(0, colon));
    return spec.endpoint.kind === 'exec' ? null : { label, spec };
  } catch {
    return null;
  }
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}

// The path of a key file as an argument.

/** The path itself. Throws `bad-argument` for what can only be a key, and shows nothing of it. */
export function requireKeyFile(path: string): string {
  if (!/^[0-9a-fA-F]{32,}$/.test(path)) return path;
  throw new VproxyError('bad-argument', 'expected the path of a file that has the key, not the key itself');
}

// The text of where the audit log is: `/path[,rotate=10M][,keep=5]`, as the target `file:` of a forward has it.

/** The place in a text. Throws `bad-argument`. */
export function parseAuditPlace(text: string): AuditPlace {
  const { path, rotation = null } = fileEndpoint.parse(text, 'incoming');
  return { path, rotation };
}

/** The text of a place; `parseAuditPlace` reads it back. */
export function formatAuditPlace({ path, rotation }: AuditPlace): string {
  return fileEndpoint.format({ kind: 'file', path, ...(rotation === null ? {} : { rotation }) });
}

// What ports mean to those who connect to a hybrid vsock listener, said for all listeners at once.

/** Whether a forward is one of those that ports can be told to. */
export function isHybridListener(spec: ForwardSpec): spec is ForwardSpec & { readonly endpoint: VsockMuxEndpoint } {
  return spec.direction === 'outgoing' && spec.endpoint.kind === 'vsock-mux';
}

/** The forward with `services` by their ports, where it is a hybrid listener; what it says itself stays. */
export function withVsockPorts(spec: ForwardSpec, services: Readonly<Record<number, string>>): ForwardSpec {
  if (!isHybridListener(spec) || Object.keys(services).length === 0) return spec;
  return { ...spec, endpoint: { ...spec.endpoint, services: { ...services, ...spec.endpoint.services } } };
}
