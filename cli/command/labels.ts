/**
 * The channel of a command. One grammar for all commands: the label is an operand, `vm1` or `vm1:`; or in front of a
 * service, `vm1/ssh`; or the value of `--channel`. Given twice, it must be the same.
 */
import { escapeText } from '../../lib/util/escape.js';
import { cutLabel, isLabel, isPlainLabel, LABEL_RULE } from '../../lib/util/labels.js';
import { type Arguments, badArgument } from './arguments.js';

/** The label before the slash of `vm1/ssh`, or null, and the rest. */
export function splitLabel(text: string): { readonly label: string | null; readonly rest: string } {
  return cutLabel(text, '/') ?? { label: null, rest: text };
}

/** Returns `vm1` for `vm1` and for `vm1:`. Throws `bad-argument` for an invalid label. */
export function readLabel(text: string): string {
  const label = text.endsWith(':') ? text.slice(0, -1) : text;
  if (isLabel(label)) return label;
  throw badArgument(`"${escapeText(text, 64)}": not a valid channel label; expected ${LABEL_RULE}`);
}

/**
 * The label of the channel, from `--channel` or from operands in `said`; undefined if none names it. Throws
 * `bad-argument` if two of them differ.
 */
export function channelOf(args: Arguments, ...said: readonly (string | null | undefined)[]): string | undefined {
  const [first, ...others] = [args.text('channel'), ...said].flatMap((text) =>
    typeof text === 'string' ? [readLabel(text)] : [],
  );
  const other = others.find((label) => label !== first);
  if (other === undefined) return first;
  throw badArgument(`two channels given, "${escapeText(first ?? '', 64)}" and "${escapeText(other, 64)}"; name one`);
}

/** The service in `[LABEL/]SERVICE`, and its channel, which may also come from `--channel`. Throws `bad-argument`. */
export function servicePlace(
  args: Arguments,
  text: string,
): { readonly service: string; readonly channel: string | undefined } {
  const { label, rest: service } = splitLabel(text);
  const named = cutLabel(service, ':');
  // No service has a colon.
  if (label === null && named !== null) {
    throw badArgument(`"${escapeText(text, 128)}": did you mean ${named.label}/${escapeText(named.rest, 64)}?`);
  }
  if (!isPlainLabel(service)) throw badArgument(`"${escapeText(service, 64)}": not a valid service name`);
  return { service, channel: channelOf(args, label) };
}
