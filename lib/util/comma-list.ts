/** Parts of a text between commas: an address and its options, where `,,` stands for one comma. */
import { VproxyError } from '../errors.js';
import { escapeText } from './escape.js';

/** The parts between single commas, with each `,,` in them made one comma; the first is the address. */
export function splitAtCommas(text: string): string[] {
  const parts = [''];
  for (const piece of text.split(/(,,?)/)) {
    if (piece === ',') parts.push('');
    else parts.push(`${parts.pop() ?? ''}${piece === ',,' ? ',' : piece}`);
  }
  return parts;
}

/** The text of parts; `splitAtCommas` reads it back. */
export function joinWithCommas(parts: readonly string[]): string {
  return parts.map((part) => part.replaceAll(',', ',,')).join(',');
}

/** Options `key=value` in their order. Throws `bad-argument` for one without a value, or given twice. */
export function parseKeyValues(parts: readonly string[]): Map<string, string> {
  const values = new Map<string, string>();
  for (const part of parts) {
    const [, key, value] = /^([^=]+)=(.+)$/s.exec(part) ?? [];
    if (key === undefined || value === undefined) {
      throw new VproxyError('bad-argument', `"${escapeText(part)}" is no option; expected key=value (",," is a comma)`);
    }
    if (values.has(key)) throw new VproxyError('bad-argument', `the option ${escapeText(key)} is there twice`);
    values.set(key, value);
  }
  return values;
}

/** Throws `bad-argument` when there is an option whose key is not in `known`. */
export function requireKnown(values: ReadonlyMap<string, string>, known: readonly string[]): void {
  for (const key of values.keys()) {
    if (known.includes(key)) continue;
    const rest = known.length === 0 ? 'there are none' : `there are: ${known.join(', ')}`;
    throw new VproxyError('bad-argument', `there is no option "${escapeText(key)}" here; ${rest}`);
  }
}
