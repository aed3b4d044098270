/**
 * The elements and attributes of an XML document that a program of this machine printed. Texts are skipped, names keep
 * their prefixes, and a document type is refused, since it could declare any entity.
 */
import { VproxyError } from '../errors.js';
import { escapeText } from './escape.js';

export interface XmlElement {
  /** With its prefix, as it was written: `qemu:arg`. */
  readonly name: string;
  /** The values with all references decoded. */
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
}

/** No element may be deeper, so that a walk of the tree does not exhaust the stack. */
const MAX_DEPTH = 64;

const SPACE = '[ \\t\\r\\n]';
const NAME = '[A-Za-z_:\\u0080-\\uffff][-.0-9A-Za-z_:\\u0080-\\uffff]*';
const START = new RegExp(`<(${NAME})`, 'y');
const ATTRIBUTE = new RegExp(`${SPACE}+(${NAME})${SPACE}*=${SPACE}*(?:"([^"<]*)"|'([^'<]*)')`, 'y');
const START_END = new RegExp(`${SPACE}*(/?)>`, 'y');
const END = new RegExp(`</(${NAME})${SPACE}*>`, 'y');
const OUTER_SPACE = new RegExp(`^\\ufeff?${SPACE}*`);

/** What is skipped up to its end. */
const SKIPPED = [
  ['<!--', '-->'],
  ['<?', '?>'],
  ['<![CDATA[', ']]>'],
] as const;

/** The outermost element of a text. Throws `bad-file` for what is no XML, or has a document type. */
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
    if (unclosed !== undefined) throw this.#bad(`<${unclosed.name}> has no end`);
    if (this.#root === null) throw this.#bad('there is no element');
    return this.#root;
  }

  #skipText(): void {
    const next = this.#text.indexOf('<', this.#at);
    const end = next === -1 ? this.#text.length : next;
    const isSpace = /^[ \t\r\n]*$/.test(this.#text.slice(this.#at, end));
    if (this.#open.length === 0 && !isSpace) throw this.#bad('a text is outside of every element');
    this.#at = end;
  }

  /** Whether here was something that is no tag. */
  #skipOther(): boolean {
    const kind = SKIPPED.find(([start]) => this.#text.startsWith(start, this.#at));
    if (kind === undefined) return false;
    const [start, end] = kind;
    const found = this.#text.indexOf(end, this.#at + start.length);
    if (found === -1) throw this.#bad(`${start} has no ${end}`);
    if (start === '<![CDATA[' && this.#open.length === 0) throw this.#bad('a text is outside of every element');
    this.#at = found + end.length;
    return true;
  }

  #readTag(): void {
    const [, ended] = this.#take(END) ?? [];
    if (ended !== undefined) {
      const element = this.#open.pop();
      if (element?.name !== ended) throw this.#bad(`</${ended}> ends <${element?.name ?? ''}>`);
      return;
    }
    const [, name] = this.#take(START) ?? [];
    if (name === undefined) throw this.#bad('expected a tag');
    const attributes = this.#readAttributes();
    const [, slash] = this.#take(START_END) ?? [];
    if (slash === undefined) throw this.#bad(`the tag <${name}> is not well formed`);
    this.#add({ name, attributes, children: [] }, slash === '/');
  }

  #add(element: OpenElement, isEmpty: boolean): void {
    const parent = this.#open.at(-1);
    if (parent !== undefined) parent.children.push(element);
    else if (this.#root === null) this.#root = element;
    else throw this.#bad('a second element follows the outermost one');
    if (!isEmpty) this.#open.push(element);
    if (this.#open.length > MAX_DEPTH) throw this.#bad(`elements are deeper than ${MAX_DEPTH}`);
  }

  #readAttributes(): Map<string, string> {
    const attributes = new Map<string, string>();
    for (let match = this.#take(ATTRIBUTE); match !== null; match = this.#take(ATTRIBUTE)) {
      const [, name = '', quoted, single = ''] = match;
      if (attributes.has(name)) throw this.#bad(`the attribute ${name} is there twice`);
      attributes.set(name, this.#decode(quoted ?? single));
    }
    return attributes;
  }

  /** The value of an attribute: line ends become spaces, but not those that are written as references. */
  #decode(text: string): string {
    const flat = text.replace(/\r\n|[\t\r\n]/g, ' ');
    return flat.replace(/&([^;&]{0,32};?)/g, (_, body: string) => {
      const character = decodeReference(body);
      if (character === null) throw this.#bad(`"&${body}" stands for nothing`);
      return character;
    });
  }

  /** What `pattern` finds here, and goes on behind it. */
  #take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match !== null) this.#at = pattern.lastIndex;
    return match;
  }

  #bad(what: string): VproxyError {
    return new VproxyError('bad-file', `it is no XML: ${escapeText(what, 120)} (at character ${this.#at})`);
  }
}

const NAMED: Readonly<Record<string, string>> = { 'lt;': '<', 'gt;': '>', 'amp;': '&', 'quot;': '"', 'apos;': "'" };

/** The character of a reference without its ampersand; null where it is not valid. */
function decodeReference(body: string): string | null {
  if (Object.hasOwn(NAMED, body)) return NAMED[body] ?? null;
  const [, hex, decimal] = /^#(?:x([0-9a-fA-F]{1,8})|([0-9]{1,8}));$/.exec(body) ?? [];
  const code = hex === undefined ? Number(decimal ?? 'none') : Number.parseInt(hex, 16);
  const isCharacter = code >= 32 ? !(code >= 0xd800 && code <= 0xdfff) && code <= 0x10ffff : [9, 10, 13].includes(code);
  return isCharacter && code !== 0xfffe && code !== 0xffff ? String.fromCodePoint(code) : null;
}
