/** Labels: short names that need no quoting in a shell, a file or a URL. */
import { badArgument, VproxyError } from '../errors.js';
import { suggestOrList } from './closest-word.js';
import { escapeText } from './escape.js';

/** The rule for labels, human-readable. */
export const LABEL_RULE = '1 to 64 of a-z, 0-9, dot, underscore and hyphen';

/** As a pattern, for schemas. */
export const LABEL = /^[a-z0-9._-]{1,64}$/;

/** Whether a text is a label; `..` and `-x` are. */
export function isLabel(text: string): boolean {
  return LABEL.test(text);
}

/** Whether a label is also safe in a path and as a word of a command: it starts with a letter or digit. */
export function isPlainLabel(text: string): boolean {
  return isLabel(text) && /^[a-z0-9]/.test(text);
}

/** The label before the first `separator` of a text, and the rest after it; null if there is no label. */
export function cutLabel(
  text: string,
  separator: '=' | '/' | ':',
): { readonly label: string; readonly rest: string } | null {
  const at = text.indexOf(separator);
  const label = text.slice(0, Math.max(at, 0));
  return isLabel(label) ? { label, rest: text.slice(at + 1) } : null;
}

export function byLabel<T extends { readonly label: string }>(things: readonly T[]): Map<string, T> {
  return new Map(things.map((one) => [one.label, one]));
}

/** The channel of `label`, or the only one. Throws `bad-argument` and `not-found`. */
export function chooseChannel<T>(channels: ReadonlyMap<string, T>, label?: string): T {
  const labels = [...channels.keys()];
  const meant = label ?? (labels.length === 1 ? labels[0] : undefined);
  if (meant === undefined) throw badArgument(`missing channel label; ${suggestOrList('', labels)}`);
  const found = channels.get(meant);
  if (found !== undefined) return found;
  throw new VproxyError('not-found', `no channel "${escapeText(meant, 80)}"; ${suggestOrList(meant, labels)}`);
}
