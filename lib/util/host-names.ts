/** Names of the DNS in their one spelling: what may be looked up, and what only looks like a name. */
import { domainToASCII, domainToUnicode } from 'node:url';

/** A name in its one spelling, or why a text is none: a clause about "it". */
export type NameReading = { readonly name: string } | { readonly problem: string };

/**
 * Reads a name: lower case, an IDN in punycode, without a final dot. Labels have letters, digits, hyphens, which are
 * not at their ends, and underscores, up to 63 characters each; the name has up to 253. A last label that a program
 * might take for a part of an IPv4 address makes it none (WHATWG URL, "ends in a number checker").
 */
export function readHostName(text: string): NameReading {
  if (text === '') return { problem: 'it is empty' };
  if (text.length > MAX_NAME_LENGTH + 1) return { problem: TOO_LONG };
  const strange = STRANGE.exec(text)?.[0];
  if (strange !== undefined) {
    return { problem: VISIBLE.test(strange) ? `a name has no "${strange}"` : 'it has a blank or a control character' };
  }
  const ascii = toAscii(text);
  if (ascii === null) return { problem: 'it is no internationalized name' };
  const name = ascii.endsWith('.') ? ascii.slice(0, -1) : ascii;
  if (name.length > MAX_NAME_LENGTH) return { problem: TOO_LONG };
  const labels = name.split('.');
  if (labels.some((label) => label === '')) return { problem: 'a label of it is empty' };
  if (labels.some((label) => label.length > MAX_LABEL_LENGTH))
    return { problem: `a label of it is longer than ${MAX_LABEL_LENGTH} characters` };
  if (!labels.every((label) => LABEL.test(label))) return { problem: 'a label of it begins or ends with a hyphen' };
  if (ENDS_IN_NUMBER.test(name)) return { problem: describeNumber(name) };
  return { name };
}

const MAX_NAME_LENGTH = 253;
const MAX_LABEL_LENGTH = 63;
const TOO_LONG = `it is longer than ${MAX_NAME_LENGTH} characters`;

const ASCII = /^[\0-\x7f]*$/;

/** ASCII that no name has. */
const STRANGE = /[\0-,/:-@[-^`{-\x7f]/;
const VISIBLE = /[!-~]/;
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?$/;

/** Decimal, octal or hexadecimal, as the last label. */
const ENDS_IN_NUMBER = /(?:^|\.)(?:\d+|0x[0-9a-f]*)$/;

/** In lower case and punycode; null where the text, or an `xn--` label of it, is not what UTS 46 takes. */
function toAscii(text: string): string | null {
  const lower = text.toLowerCase();
  if (ASCII.test(text) && !/(?:^|\.)xn--/.test(lower)) return lower;
  const ascii = domainToASCII(text);
  return ascii !== '' && ascii.split('.').every(isEncoded) ? ascii : null;
}

/** Of a label with the prefix of punycode, whether it stands for letters that need it: newer versions of Node let others pass. */
const isEncoded = (label: string): boolean => !label.startsWith('xn--') || !ASCII.test(domainToUnicode(label));

/** What a text that ends in a number would be, where a browser takes it for an address. */
function describeNumber(name: string): string {
  const url = `http://${name}/`;
  const meant = URL.canParse(url) ? new URL(url).hostname : null;
  const hint = meant === null || meant === name ? 'it ends in a number' : `it would be read as ${meant}`;
  return `${hint}; an IPv4 address is four decimal numbers from 0 to 255 without leading zeros`;
}
