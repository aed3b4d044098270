/** The egresses of a channel: what is said of them, and the rules that follow for the channel. */
import { SERVICE_NAME } from '../codec/limits.js';
import { toVproxyError, VproxyError } from '../errors.js';
import {
  type EgressEntry,
  type EgressRules,
  type EgressTexts,
  parseEgressEntry,
  parseUpstream,
  readEgressRules,
} from '../forward/egress/rules.js';
import { type ForwardSpec, formatForwardSpec } from '../forward/spec.js';
import { fillTemplate, PLACEHOLDER, sampleOfTemplate } from '../forward/template.js';
import { formatHostPort } from '../util/addresses.js';
import { whatThereIs } from '../util/closest-word.js';
import { haveEqualValues } from '../util/equality.js';
import { escapeText } from '../util/escape.js';

/** Egresses by their names. */
export type ChannelEgress = Readonly<Record<string, EgressTexts>>;

/** The canonical text of an entry; one with `{channel}` stays as it is. Throws `bad-argument`. */
export function checkEgressEntry(text: string): string {
  const sample = sampleOfTemplate(text);
  if (sample === text) return parseEgressEntry(text).text;
  try {
    requireName(parseEgressEntry(sample), text);
  } catch (error) {
    const { code, message } = toVproxyError(error);
    throw new VproxyError(code, message.replaceAll(sampleOfTemplate(PLACEHOLDER), PLACEHOLDER), { cause: error });
  }
  return text;
}

/** The canonical text of `HOST:PORT` or `http://HOST:PORT`: the first. Throws `bad-argument`. */
export function checkUpstream(text: string): string {
  return formatHostPort(parseUpstream(text));
}

/** The rules in force on the channel `label`, by the names of the egresses. Throws `bad-argument`, naming the place. */
export function resolveEgress(egress: ChannelEgress, label: string): ReadonlyMap<string, EgressRules> {
  return new Map(Object.entries(egress).map(([name, texts]) => [name, resolveRules(name, texts, label)]));
}

function resolveRules(name: string, texts: EgressTexts, label: string): EgressRules {
  if (!SERVICE_NAME.test(name)) {
    const rule = '1 to 64 of a-z, 0-9, dot, underscore and hyphen, the first a letter or a digit';
    throw new VproxyError('bad-argument', `egress "${escapeText(name, 80)}": a name is ${rule}`);
  }
  return readEgressRules(texts, `egress.${name}`, (text) => resolveEntry(text, label));
}

function resolveEntry(text: string, label: string): EgressEntry {
  const filled = fillTemplate(text, label);
  const entry = parseEgressEntry(filled);
  // The label of a group's channel is the name of a file: it must not become an address.
  if (filled !== text) requireName(entry, filled);
  return entry;
}

function requireName({ host }: EgressEntry, text: string): void {
  if (host.kind !== 'network') return;
  throw new VproxyError('bad-argument', `"${escapeText(text, 120)}": {channel} can be in names only, not in addresses`);
}

/** The egress that a forward leads to, or whose names it resolves; null where it has to do with none. */
export function egressOf({ endpoint, service }: ForwardSpec): string | null {
  if (endpoint.kind !== 'egress' && endpoint.kind !== 'resolver') return null;
  return endpoint.name === '' ? service : endpoint.name;
}

/** Throws `bad-argument` for a forward to an egress of which nothing is said. */
export function requireEgress(spec: ForwardSpec, known: Iterable<string>): void {
  const name = egressOf(spec);
  const names = [...known];
  if (name === null || names.includes(name)) return;
  const shown = formatForwardSpec(spec).replace(/:$/, '');
  throw new VproxyError('bad-argument', `-i ${shown}: there is no [egress.${name}]; ${whatThereIs(name, names)}`);
}

/** The names of the egresses of which something else is said. */
export function changedEgress(one: ChannelEgress = {}, other: ChannelEgress = {}): string[] {
  const names = new Set([...Object.keys(one), ...Object.keys(other)]);
  const said = (egress: ChannelEgress, name: string): EgressTexts => new Map(Object.entries(egress)).get(name) ?? {};
  return [...names].filter((name) => !haveEqualValues(said(one, name), said(other, name)));
}
