/** The egresses of a channel: their definitions, and the resulting rules for the channel. */
import { SERVICE_NAME } from '../../codec/limits.js';
import { badArgument, toVproxyError, VproxyError } from '../../errors.js';
import {
  type EgressEntry,
  type EgressRules,
  type EgressTexts,
  parseEgressEntry,
  parseUpstream,
  readEgressRules,
} from '../../forward/egress/rules.js';
import { describeForward, type ForwardSpec } from '../../forward/spec.js';
import { fillTemplate, PLACEHOLDER, sampleOfTemplate } from '../../forward/template.js';
import { formatHostPort } from '../../util/addresses/host-port.js';
import { suggestOrList } from '../../util/closest-word.js';
import { haveEqualValues } from '../../util/equality.js';
import { escapeText } from '../../util/escape.js';

/** Egresses by name. */
export type ChannelEgress = Readonly<Record<string, EgressTexts>>;

/** The canonical text of an entry; one with `{channel}` is returned unchanged. Throws `bad-argument`. */
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

/** The canonical form, `HOST:PORT`, of `HOST:PORT` or `http://HOST:PORT`. Throws `bad-argument`. */
export function checkUpstream(text: string): string {
  return formatHostPort(parseUpstream(text));
}

/** The rules in effect on the channel `label`, by egress name. Throws `bad-argument`, naming the place. */
export function resolveEgress(egress: ChannelEgress, label: string): ReadonlyMap<string, EgressRules> {
  return new Map(Object.entries(egress).map(([name, texts]) => [name, resolveRules(name, texts, label)]));
}

function resolveRules(name: string, texts: EgressTexts, label: string): EgressRules {
  if (!SERVICE_NAME.test(name)) {
    const rule = '1 to 64 of a-z, 0-9, dot, underscore and hyphen, starting with a letter or digit';
    throw badArgument(`egress "${escapeText(name, 80)}": a name must be ${rule}`);
  }
  return readEgressRules(texts, `egress.${name}`, (text) => resolveEntry(text, label));
}

/** An entry with the label in place of `{channel}`. Throws `bad-argument`. */
export function resolveEntry(text: string, label: string): EgressEntry {
  const filled = fillTemplate(text, label);
  const entry = parseEgressEntry(filled);
  // The label of a group's channel comes from a file name: it must not become an address.
  if (filled !== text) requireName(entry, filled);
  return entry;
}

function requireName({ host }: EgressEntry, text: string): void {
  if (host.kind !== 'network') return;
  throw badArgument(`"${escapeText(text, 120)}": {channel} is allowed in names only, not in addresses`);
}

/** The egress that a forward leads to, or resolves names for; null if none. */
export function egressOf({ endpoint, service }: ForwardSpec): string | null {
  if (endpoint.kind !== 'egress' && endpoint.kind !== 'resolver') return null;
  return endpoint.name === '' ? service : endpoint.name;
}

/** Throws `bad-argument` for a forward to an undefined egress. */
export function requireEgress(spec: ForwardSpec, known: Iterable<string>): void {
  const name = egressOf(spec);
  const names = [...known];
  if (name === null || names.includes(name)) return;
  const shown = describeForward(spec).text.replace(/:$/, '');
  throw badArgument(`-i ${shown}: no [egress.${name}] section; ${suggestOrList(name, names, 'defined')}`);
}

/** The names of the egresses whose definitions differ. */
export function changedEgress(one: ChannelEgress = {}, other: ChannelEgress = {}): string[] {
  const names = new Set([...Object.keys(one), ...Object.keys(other)]);
  const said = (egress: ChannelEgress, name: string): EgressTexts => new Map(Object.entries(egress)).get(name) ?? {};
  return [...names].filter((name) => !haveEqualValues(said(one, name), said(other, name)));
}
