import test from 'ava';
import fc from 'fast-check';
import { VproxyError } from '../../lib/errors.js';
import { parseXml, type XmlElement } from '../../lib/util/xml.js';

const element = (
  name: string,
  attributes: Readonly<Record<string, string>>,
  ...children: XmlElement[]
): XmlElement => ({
  name,
  attributes: new Map(Object.entries(attributes)),
  children,
});

const means = test.macro({
  title: (_, text: string) => `${JSON.stringify(text)} is read`,
  exec(t, text: string, ...wanted: Parameters<typeof element>) {
    t.deepEqual(parseXml(text), element(...wanted));
  },
});

test(means, '<a/>', 'a', {});
test(means, '<a></a>', 'a', {});
test(means, '\ufeff\n<?xml version="1.0" encoding="UTF-8"?>\n<!-- <b> -->\n<a />\n<!-- --><?x <?>\n', 'a', {});
test(means, `<a b='"' c="'" d = "" >text</a\n>`, 'a', { b: '"', c: "'", d: '' });
test(means, '<a b="&lt;&gt;&amp;&quot;&apos;&amp;lt;"/>', 'a', { b: `<>&"'&lt;` });
test(means, '<a b="&#65;&#x42;&#x1F4BE;&#10;x"/>', 'a', { b: 'AB\u{1f4be}\nx' });
test(means, '<a b="1\n2\r\n3\t4"/>', 'a', { b: '1 2 3 4' });
test(means, '<a b=\'>/>\' c="-->"/>', 'a', { b: '>/>', c: '-->' });
test(means, '<a><b/>x<b><c/></b> ]]&x; </a>', 'a', {}, element('b', {}), element('b', {}, element('c', {})));
test(means, '<a><![CDATA[</a><b c="&x;">]]]]><![CDATA[>]]><b/></a>', 'a', {}, element('b', {}));
test(means, '<a><!-- <![CDATA[ --><b/><!-- ]]> - --></a>', 'a', {}, element('b', {}));
test(means, '<a><![CDATA[ <!-- ]]><b/></a>', 'a', {}, element('b', {}));
test(means, '<q:a xmlns:q="u:x" é.1-2="ü"/>', 'q:a', { 'xmlns:q': 'u:x', 'é.1-2': 'ü' });
test(means, '<a constructor="y"/>', 'a', { constructor: 'y' });

const refuses = test.macro({
  title: (_, text: string) => `${JSON.stringify(text.slice(0, 80))} is refused`,
  exec(t, text: string, says: string) {
    const error = t.throws(() => parseXml(text), { instanceOf: VproxyError, code: 'bad-file' });
    t.true(error.message.startsWith('it is no XML: '), error.message);
    t.true(error.message.includes(says), error.message);
    t.true(error.message.length < 200);
    t.notRegex(error.message, /[\n\u001b]/);
  },
});

test(refuses, '', 'there is no element');
test(refuses, ' <!-- a -->', 'there is no element');
test(refuses, 'error: failed', 'a text is outside');
test(refuses, '<a/>x', 'a text is outside');
test(refuses, '<![CDATA[x]]><a/>', 'a text is outside');
test(refuses, '<a/><b/>', 'a second element');
test(refuses, '<a>', '<a> has no end');
test(refuses, '<a><b></a></b>', '</a> ends <b>');
test(refuses, '</a>', '</a> ends <>');
test(refuses, '<a', 'the tag <a> is not well formed');
test(refuses, '<a b/>', 'the tag <a> is not well formed');
test(refuses, '<a b=c/>', 'the tag <a> is not well formed');
test(refuses, '<a b="1"c="2"/>', 'the tag <a> is not well formed');
test(refuses, '<a b="<"/>', 'the tag <a> is not well formed');
test(refuses, `<a b="1'/>`, 'the tag <a> is not well formed');
test(refuses, '<a b="1" b="2"/>', 'the attribute b is there twice');
test(refuses, '<a / >', 'the tag <a> is not well formed');
test(refuses, '< a/>', 'expected a tag');
test(refuses, '<1/>', 'expected a tag');
test(refuses, '<a><!-- x</a>', '<!-- has no -->');
test(refuses, '<a><!--></a>', '<!-- has no -->');
test(refuses, '<a><![CDATA[x]]</a>', '<![CDATA[ has no ]]>');
test(refuses, '<?xml', '<? has no ?>');
test(refuses, '<!DOCTYPE a [<!ENTITY x "y">]><a b="&x;"/>', 'expected a tag');
test(refuses, '<a b="&x;"/>', '"&x;" stands for nothing');
test(refuses, '<a b="&constructor;"/>', 'stands for nothing');
test(refuses, '<a b="a&b"/>', 'stands for nothing');
test(refuses, '<a b="&lt"/>', 'stands for nothing');
test(refuses, '<a b="&"/>', 'stands for nothing');
test(refuses, '<a b="&#0;"/>', 'stands for nothing');
test(refuses, '<a b="&#27;"/>', 'stands for nothing');
test(refuses, '<a b="&#xd800;"/>', 'stands for nothing');
test(refuses, '<a b="&#x110000;"/>', 'stands for nothing');
test(refuses, '<a b="&#xffff;"/>', 'stands for nothing');
test(refuses, '<a b="&#;"/>', 'stands for nothing');
test(refuses, '<a b="&#x;"/>', 'stands for nothing');
test(refuses, `<a b="&${'x'.repeat(10_000)};"/>`, 'stands for nothing');
test(refuses, `</${'x'.repeat(10_000)}>`, '</xxx');
test(refuses, '<a>'.repeat(100_000), 'elements are deeper than 64');
test(refuses, '<a\u001b[2J/>', 'not well formed');

test('a megabyte of anything is read in no time', (t) => {
  const size = 1_048_576;
  const beganAt = performance.now();
  for (const unit of [
    '<',
    '<a ',
    '<a b="',
    '<!--',
    '&',
    ' ',
    '<a/>',
    '<a b=""',
    "'",
    '<![CDATA[',
    '</a',
    '<a>&lt;',
    ']',
  ]) {
    const text = unit.repeat(size / unit.length);
    for (const whole of [text, `<r>${text}`, `<r x="${text}`, `<r>${text}</r>`]) {
      try {
        parseXml(whole);
      } catch (error) {
        t.true(error instanceof VproxyError && error.code === 'bad-file');
      }
    }
  }
  // In linear time this takes 0.2 s; otherwise, minutes.
  t.true(performance.now() - beganAt < 20_000);
});

test('whatever tree is written is read', (t) => {
  const name = fc.stringMatching(/^[a-z_:][a-z0-9._:-]{0,5}$/);
  const value = fc.string({ unit: fc.constantFrom('a', '<', '>', '&', '"', "'", '\n', ' ', 'é', '\u{1f4be}', ';') });
  const attributes = fc.dictionary(name, value, { maxKeys: 4 });
  const asMap = attributes.map((all) => new Map(Object.entries(all)));
  const leaf: fc.Arbitrary<XmlElement> = fc.record({ name, attributes: asMap, children: fc.constant([]) });
  const around = (inner: fc.Arbitrary<XmlElement>): fc.Arbitrary<XmlElement> =>
    fc.record({ name, attributes: asMap, children: fc.array(inner, { maxLength: 3 }) });
  const tree = around(around(around(leaf)));
  const noise = fc.constantFrom('', ' ', '\n', '<!-- <x> -->', '<?p <x> ?>');
  fc.assert(
    fc.property(tree, fc.infiniteStream(noise), fc.infiniteStream(fc.nat(2)), (wanted, noises, ways) => {
      const take = <T>(stream: Iterator<T>): T => stream.next().value as T;
      const escape = (text: string) =>
        Array.from(text)
          .map((character) => {
            if (/[a-zé;]/.test(character) || (character === '>' && take(ways) === 0)) return character;
            return take(ways) === 0 ? (NAMES[character] ?? `&#${character.codePointAt(0)};`) : hex(character);
          })
          .join('');
      const write = (tag: XmlElement): string => {
        const list = [...tag.attributes].map(([key, text]) => {
          const quote = take(ways) === 0 ? '"' : "'";
          return `${take(ways) === 0 ? ' ' : '\n\t'}${key}=${quote}${escape(text)}${quote}`;
        });
        const inner = tag.children.map((child) => `${take(noises)}text<![CDATA[<x>]]>${write(child)}`).join('');
        const start = `<${tag.name}${list.join('')}`;
        return inner === '' && take(ways) === 0 ? `${start}/>` : `${start}>${inner}</${tag.name}>`;
      };
      t.deepEqual(parseXml(`${take(noises).trimStart()}${write(wanted)}${take(noises)}`), wanted);
    }),
  );
});

const NAMES: Readonly<Record<string, string>> = {
  '<': '&lt;',
  '>': '&gt;',
  '&': '&amp;',
  '"': '&quot;',
  "'": '&apos;',
};
const hex = (character: string): string => `&#x${character.codePointAt(0)?.toString(16) ?? ''};`;
