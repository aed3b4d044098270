/** The text of a forward that may name its channel: `vm1/ssh:127.0.0.1:9022`, or `ssh:127.0.0.1:9022:vm1`. */
import { VproxyError } from '../errors.js';
import type { Direction } from '../forward/endpoint-kind.js';
import { type ForwardSpec, parseForwardSpec } from '../forward/spec.js';
import { escapeText } from '../util/escape.js';

/** A forward and the label of the channel that it is for. */
export interface ForwardArgument {
  readonly label: string;
  readonly spec: ForwardSpec;
}

/**
 * The forward of a text, for one of the channels `labels`. A slash before the first colon ends a label. Else what stands
 * behind the last colon is one if there is such a channel and what is before it is a forward by itself; but never a
 * number, a hyphen, or the end of a command. Else there has to be one channel only. Throws `bad-argument`.
 */
export function parseForwardArgument(direction: Direction, text: string, labels: readonly string[]): ForwardArgument {
  const shown = `${direction === 'outgoing' ? '-o' : '-i'} ${escapeText(text)}`;
  const [, before, rest = ''] = /^([^:/]*)\/(.*)$/s.exec(text) ?? [];
  if (before !== undefined) {
    if (labels.includes(before)) return { label: before, spec: parseForwardSpec(direction, rest) };
    throw bad(`${shown}: there is no channel "${escapeText(before, 80)}"; there are: ${labels.join(', ')}`);
  }
  const behind = parseTrailing(direction, text, labels);
  if (behind !== null) return behind;
  const spec = parseForwardSpec(direction, text);
  const [label, ...others] = labels;
  if (label !== undefined && others.length === 0) return { label, spec };
  const example = label === undefined ? '' : `; write ${label}/${escapeText(text)} for the first of them`;
  throw bad(`${shown}: which channel? There are: ${labels.join(', ') || 'none'}${example}`);
}

function parseTrailing(direction: Direction, text: string, labels: readonly string[]): ForwardArgument | null {
  const colon = text.lastIndexOf(':');
  const label = text.slice(colon + 1);
  if (colon === -1 || !labels.includes(label) || /^(\d+|-)$/.test(label)) return null;
  const spec = parseOrNull(direction, text.slice(0, colon));
  return spec === null || spec.endpoint.kind === 'exec' ? null : { label, spec };
}

function parseOrNull(direction: Direction, text: string): ForwardSpec | null {
  try {
    return parseForwardSpec(direction, text);
  } catch {
    return null;
  }
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
