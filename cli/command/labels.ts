/**
 * The channel that a command is about. One grammar for all commands: the label is an operand, as it is or as `vm1:`; or
 * before a service, as `vm1/ssh`; or the value of `--channel`. Who says it twice says the same.
 */
import { escapeText } from '../../lib/util/escape.js';
import { cutLabel, isLabel, LABEL_RULE } from '../../lib/util/labels.js';
import { type Arguments, badArgument } from './arguments.js';

/** The label before the slash of `vm1/ssh`, or null, and what is behind it. */
export function splitLabel(text: string): { readonly label: string | null; readonly rest: string } {
  return cutLabel(text, '/') ?? { label: null, rest: text };
}

/** `vm1` of `vm1` and of `vm1:`. Throws `bad-argument` for what is no label. */
export function readLabel(text: string): string {
  const label = text.endsWith(':') ? text.slice(0, -1) : text;
  if (isLabel(label)) return label;
  throw badArgument(`"${escapeText(text, 64)}" is no label of a channel, which is ${LABEL_RULE}`);
}

/**
 * The label of the channel, which `--channel` says, or an operand as one of `said`; undefined where none does. Throws
 * `bad-argument` where two of them differ.
 */
export function channelOf(args: Arguments, ...said: readonly (string | null | undefined)[]): string | undefined {
  const [first, ...others] = [args.text('channel'), ...said].flatMap((text) =>
    typeof text === 'string' ? [readLabel(text)] : [],
  );
  const other = others.find((label) => label !== first);
  if (other === undefined) return first;
  throw badArgument(`${escapeText(other, 64)}: another channel, ${escapeText(first ?? '', 64)}, is named as well`);
}

/** The service in `[LABEL/]SERVICE`, and its channel, which `--channel` may say, too. Throws `bad-argument`. */
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
  return { service, channel: channelOf(args, label) };
}
