import test from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { parseXml, type XmlElement } from '../../lib/util/xml.js';
import { fixtureRows } from '../helpers/files.js';

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

for (const [says, ...texts] of [
  ['</xxx', `</${'x'.repeat(10_000)}>`],
  ['elements nested deeper than 64', '<a>'.repeat(100_000)],
  ['is not a valid reference', `<a b="&${'x'.repeat(10_000)};"/>`],
  ...fixtureRows('refused-xml.txt'),
] as const) {
  for (const text of texts) {
    test(`${JSON.stringify(text.slice(0, 80))} is refused`, (t) => {
      const { message } = t.throws(() => parseXml(text), { instanceOf: VproxyError, code: 'bad-file' });
      t.true(message.startsWith('not valid XML: ') && message.includes(says), message);
      t.true(message.length < 200);
      t.notRegex(message, /[\n\u001b]/);
    });
  }
}
