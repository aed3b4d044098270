/**
 * Reads the elements and attributes of an XML document printed by a program of this machine. Ignores text, keeps name prefixes,
 * and rejects a document type, which could declare arbitrary entities.
 */
import { VproxyError } from '../errors.js';
import { escapeText } from './escape.js';

export interface XmlElement {
  /** With its prefix, as written: `qemu:arg`. */
  readonly name: string;
  /** The values with all references decoded. */
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
}

/** Limit on nesting, so that walking the tree cannot exhaust the stack. */
const MAX_DEPTH = 64;

const SPACE = '[ \\t\\r\\n]';
const NAME = '[A-Za-z_:\\u0080-\\uffff][-.0-9A-Za-z_:\\u0080-\\uffff]*';
const START = new RegExp(`<(${NAME})`, 'y');
const ATTRIBUTE = new RegExp(`${SPACE}+(${NAME})${SPACE}*=${SPACE}*(?:"([^"<]*)"|'([^'<]*)')`, 'y');
const START_END = new RegExp(`${SPACE}*(/?)>`, 'y');
const END = new RegExp(`</(${NAME})${SPACE}*>`, 'y');
const OUTER_SPACE = new RegExp(`^\\ufeff?${SPACE}*`);

/** Markup that is skipped up to its end. */
const SKIPPED = [
  ['<!--', '-->'],
  ['<?', '?>'],
  ['<![CDATA[', ']]>'],
] as const;

/** The root element of a text. Throws `bad-file` for invalid XML, or a document type. */
export function parseXml(text: string): XmlElement {
  return new XmlReader(text).readDocument();
}

interface OpenElement extends XmlElement {
  readonly children: XmlElement[];
}

class XmlReader {
  readonly #text: string;
  #at: number;
  #root: XmlElement | null = null;
  readonly #open: OpenElement[] = [];

  constructor(text: string) {
    this.#text = text;
    this.#at = OUTER_SPACE.exec(text)?.[0].length ?? 0;
  }

  readDocument(): XmlElement {
    while (this.#at < this.#text.length) {
      if (this.#text[this.#at] !== '<') this.#skipText();
      else if (!this.#skipOther()) this.#readTag();
    }
    const unclosed = this.#open.at(-1);
    if (unclosed !== undefined) throw this.#bad(`<${unclosed.name}> is not closed`);
    if (this.#root === null) throw this.#bad('no element');
    return this.#root;
  }

  #skipText(): void {
    const next = this.#text.indexOf('<', this.#at);
    const end = next === -1 ? this.#text.length : next;
    const isSpace = /^[ \t\r\n]*$/.test(this.#text.slice(this.#at, end));
    if (this.#open.length === 0 && !isSpace) throw this.#bad('text outside the root element');
    this.#at = end;
  }

  /** Skips markup other than a tag; false if there is none here. */
  #skipOther(): boolean {
    const kind = SKIPPED.find(([start]) => this.#text.startsWith(start, this.#at));
    if (kind === undefined) return false;
    const [start, end] = kind;
    const found = this.#text.indexOf(end, this.#at + start.length);
    if (found === -1) throw this.#bad(`${start} without ${end}`);
    if (start === '<![CDATA[' && this.#open.length === 0) throw this.#bad('text outside the root element');
    this.#at = found + end.length;
    return true;
  }

  #readTag(): void {
    const [, ended] = this.#take(END) ?? [];
    if (ended !== undefined) {
      const element = this.#open.pop();
      if (element?.name !== ended) throw this.#bad(`</${ended}> closes <${element?.name ?? ''}>`);
      return;
    }
    const [, name] = this.#take(START) ?? [];
    if (name === undefined) throw this.#bad('expected a tag');
    const attributes = this.#readAttributes();
    const [, slash] = this.#take(START_END) ?? [];
    if (slash === undefined) throw this.#bad(`malformed tag <${name}>`);
    this.#add({ name, attributes, children: [] }, slash === '/');
  }

  #add(element: OpenElement, isEmpty: boolean): void {
    const parent = this.#open.at(-1);
    if (parent !== undefined) parent.children.push(element);
    else if (this.#root === null) this.#root = element;
    else throw this.#bad('a second root element');
    if (!isEmpty) this.#open.push(element);
    if (this.#open.length > MAX_DEPTH) throw this.#bad(`elements nested deeper than ${MAX_DEPTH}`);
  }

  #readAttributes(): Map<string, string> {
    const attributes = new Map<string, string>();
    for (let match = this.#take(ATTRIBUTE); match !== null; match = this.#take(ATTRIBUTE)) {
      const [, name = '', quoted, single = ''] = match;
      if (attributes.has(name)) throw this.#bad(`attribute ${name} given twice`);
      attributes.set(name, this.#decode(quoted ?? single));
    }
    return attributes;
  }

  /** The value of an attribute: line ends become spaces, except those written as references. */
  #decode(text: string): string {
    const flat = text.replace(/\r\n|[\t\r\n]/g, ' ');
    return flat.replace(/&([^;&]{0,32};?)/g, (_, body: string) => {
      const character = decodeReference(body);
      if (character === null) throw this.#bad(`"&${body}" is not a valid reference`);
      return character;
    });
  }

  /** Matches `pattern` here, and advances past the match. */
  #take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match !== null) this.#at = pattern.lastIndex;
    return match;
  }

  #bad(what: string): VproxyError {
    return new VproxyError('bad-file', `not valid XML: ${escapeText(what, 120)} (at character ${this.#at})`);
  }
}

const NAMED: Readonly<Record<string, string>> = { 'lt;': '<', 'gt;': '>', 'amp;': '&', 'quot;': '"', 'apos;': "'" };

/** The character of a reference without its ampersand; null if it is not valid. */
function decodeReference(body: string): string | null {
  if (Object.hasOwn(NAMED, body)) return NAMED[body] ?? null;
  const [, hex, decimal] = /^#(?:x([0-9a-fA-F]{1,8})|([0-9]{1,8}));$/.exec(body) ?? [];
  const code = hex === undefined ? Number(decimal ?? 'none') : Number.parseInt(hex, 16);
  const isCharacter = code >= 32 ? !(code >= 0xd800 && code <= 0xdfff) && code <= 0x10ffff : [9, 10, 13].includes(code);
  return isCharacter && code !== 0xfffe && code !== 0xffff ? String.fromCodePoint(code) : null;
}
