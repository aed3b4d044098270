import test from 'ava';
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

for (const [text, says] of [
  ['', 'no element'],
  [' <!-- a -->', 'no element'],
  ['error: failed', 'text outside'],
  ['<a/>x', 'text outside'],
  ['<![CDATA[x]]><a/>', 'text outside'],
  ['<a/><b/>', 'a second root element'],
  ['<a>', '<a> is not closed'],
  ['<a><b></a></b>', '</a> closes <b>'],
  ['</a>', '</a> closes <>'],
  ['<a', 'malformed tag <a>'],
  ['<a b/>', 'malformed tag <a>'],
  ['<a b=c/>', 'malformed tag <a>'],
  ['<a b="1"c="2"/>', 'malformed tag <a>'],
  ['<a b="<"/>', 'malformed tag <a>'],
  [`<a b="1'/>`, 'malformed tag <a>'],
  ['<a b="1" b="2"/>', 'attribute b given twice'],
  ['<a / >', 'malformed tag <a>'],
  ['< a/>', 'expected a tag'],
  ['<1/>', 'expected a tag'],
  ['<a><!-- x</a>', '<!-- without -->'],
  ['<a><!--></a>', '<!-- without -->'],
  ['<a><![CDATA[x]]</a>', '<![CDATA[ without ]]>'],
  ['<?xml', '<? without ?>'],
  ['<!DOCTYPE a [<!ENTITY x "y">]><a b="&x;"/>', 'expected a tag'],
  [`</${'x'.repeat(10_000)}>`, '</xxx'],
  ['<a>'.repeat(100_000), 'elements nested deeper than 64'],
  ['<a\u001b[2J/>', 'malformed tag'],
  ['<a b="&x;"/>', '"&x;" is not a valid reference'],
  ...['&constructor;', 'a&b', '&lt', '&', '&#0;', '&#27;', '&#xd800;', '&#x110000;', '&#xffff;', '&#;', '&#x;'].map(
    (value) => [`<a b="${value}"/>`, 'is not a valid reference'] as const,
  ),
  [`<a b="&${'x'.repeat(10_000)};"/>`, 'is not a valid reference'],
] as const) {
  test(`${JSON.stringify(text.slice(0, 80))} is refused`, (t) => {
    const error = t.throws(() => parseXml(text), { instanceOf: VproxyError, code: 'bad-file' });
    t.true(error.message.startsWith('not valid XML: ') && error.message.includes(says), error.message);
    t.true(error.message.length < 200);
    t.notRegex(error.message, /[\n\u001b]/);
  });
}
