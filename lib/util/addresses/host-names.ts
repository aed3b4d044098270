/** DNS names in canonical spelling: which may be looked up, and which only look like names. */
import { domainToASCII, domainToUnicode } from 'node:url';

/** A name in canonical spelling, or the reason why a text is not valid. */
export type NameReading = { readonly name: string } | { readonly problem: string };

/**
 * Reads a name: in lower case, an IDN in punycode, without a final dot. Labels have up to 63 letters, digits, underscores, and
 * hyphens except at their ends; the name has up to 253 characters. A last label that a program might take for part of an IPv4
 * address makes it invalid (WHATWG URL, "ends in a number checker").
 */
export function readHostName(text: string): NameReading {
  if (text === '') return { problem: 'empty name' };
  if (text.length > MAX_NAME_LENGTH + 1) return { problem: TOO_LONG };
  const strange = STRANGE.exec(text)?.[0];
  if (strange !== undefined) {
    return { problem: VISIBLE.test(strange) ? `contains "${strange}"` : 'contains a blank or a control character' };
  }
  const ascii = toAscii(text);
  if (ascii === null) return { problem: 'not a valid internationalized name' };
  const name = ascii.endsWith('.') ? ascii.slice(0, -1) : ascii;
  if (name.length > MAX_NAME_LENGTH) return { problem: TOO_LONG };
  const labels = name.split('.');
  if (labels.some((label) => label === '')) return { problem: 'empty label' };
  if (labels.some((label) => label.length > MAX_LABEL_LENGTH))
    return { problem: `label longer than ${MAX_LABEL_LENGTH} characters` };
  if (!labels.every((label) => LABEL.test(label))) return { problem: 'label starts or ends with a hyphen' };
  if (ENDS_IN_NUMBER.test(name)) return { problem: describeNumber(name) };
  return { name };
}

const MAX_NAME_LENGTH = 253;
const MAX_LABEL_LENGTH = 63;
const TOO_LONG = `longer than ${MAX_NAME_LENGTH} characters`;

const ASCII = /^[\0-\x7f]*$/;

/** ASCII characters not allowed in names. */
const STRANGE = /[\0-,/:-@[-^`{-\x7f]/;
const VISIBLE = /[!-~]/;
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?$/;

/** A last label that is decimal, octal or hexadecimal. */
const ENDS_IN_NUMBER = /(?:^|\.)(?:\d+|0x[0-9a-f]*)$/;

/** In lower case and punycode; null if the text, or an `xn--` label in it, is not valid in UTS 46. */
function toAscii(text: string): string | null {
  const lower = text.toLowerCase();
  if (ASCII.test(text) && !/(?:^|\.)xn--/.test(lower)) return lower;
  const ascii = domainToASCII(text);
  return ascii !== '' && ascii.split('.').every(isEncoded) ? ascii : null;
}

/** Whether a label with the punycode prefix encodes letters that need it: newer versions of Node accept others, too. */
const isEncoded = (label: string): boolean => !label.startsWith('xn--') || !ASCII.test(domainToUnicode(label));

/** How a browser would read a text that ends in a number, if it takes it for an address. */
function describeNumber(name: string): string {
  const url = `http://${name}/`;
  const meant = URL.canParse(url) ? new URL(url).hostname : null;
  const hint = meant === null || meant === name ? 'ends in a number' : `would be read as ${meant}`;
  return `${hint}; an IPv4 address is four decimal numbers from 0 to 255 without leading zeros`;
}
