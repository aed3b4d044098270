/** Comma-separated parts: an address and its options, where `,,` is a literal comma. */
import { badArgument } from '../../errors.js';
import { suggestOrList } from '../closest-word.js';
import { escapeText } from '../escape.js';

/** Splits at single commas, and unescapes each `,,`; the first part is the address. */
export function splitAtCommas(text: string): string[] {
  const parts = [''];
  for (const piece of text.split(/(,,?)/)) {
    if (piece === ',') parts.push('');
    else parts.push(`${parts.pop() ?? ''}${piece === ',,' ? ',' : piece}`);
  }
  return parts;
}

/** Joins parts; `splitAtCommas` reads them back. */
export function joinWithCommas(parts: readonly string[]): string {
  return parts.map((part) => part.replaceAll(',', ',,')).join(',');
}

/** Parses `key=value` options, keeping their order. Throws `bad-argument` for one without a value, or given twice. */
export function parseKeyValues(parts: readonly string[]): Map<string, string> {
  const values = new Map<string, string>();
  for (const part of parts) {
    const [, key, value] = /^([^=]+)=(.+)$/s.exec(part) ?? [];
    if (key === undefined || value === undefined) {
      throw badArgument(`"${escapeText(part)}" is not an option; expected key=value (",," is a comma)`);
    }
    if (values.has(key)) throw badArgument(`option ${escapeText(key)} given twice`);
    values.set(key, value);
  }
  return values;
}

/** Throws `bad-argument` for an option whose key is not in `known`. */
export function requireKnown(values: ReadonlyMap<string, string>, known: readonly string[]): void {
  for (const key of values.keys()) {
    if (known.includes(key)) continue;
    throw badArgument(`unknown option "${escapeText(key)}"; ${suggestOrList(key, known)}`);
  }
}
