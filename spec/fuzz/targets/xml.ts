/** XML: refused as a bad file, or a tree that is the same when it is written in the plainest way and read again. */
import assert from 'node:assert/strict';
import { parseXml, type XmlElement } from '../../../lib/util/xml.js';
import { FuzzInput } from '../fuzz-input.js';
import { outcomeOf } from '../outcome.js';

/** Input: the text. */
export function fuzzXml(bytes: Uint8Array): void {
  const outcome = outcomeOf(['bad-file'], () => parseXml(new FuzzInput(bytes).text()));
  if ('value' in outcome) assert.deepEqual(parseXml(write(outcome.value)), outcome.value);
}

function write({ name, attributes, children }: XmlElement): string {
  const list = [...attributes].map(([key, value]) => ` ${key}="${value.replace(/["&<\t\r\n]/g, reference)}"`);
  return `<${name}${list.join('')}>${children.map(write).join('')}</${name}>`;
}

const reference = (character: string): string => `&#${character.codePointAt(0) ?? 0};`;
