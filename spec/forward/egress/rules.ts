/** The entries of an egress: their meaning, their canonical text, and the errors for invalid ones. */
import test from 'ava';
import fc from 'fast-check';
import { VproxyError } from '../../../lib/errors.js';
import { SPECIAL_RANGES } from '../../../lib/forward/egress/networks.js';
import { ANSWERS } from '../../../lib/forward/egress/refusal.js';
import { type EgressHost, parseEgressEntry, parseUpstream } from '../../../lib/forward/egress/rules.js';
import { isInRanges } from '../../../lib/util/addresses/host-port.js';
import { fixtureRows, projectText } from '../../helpers/files.js';

const name = (text: string): EgressHost => ({ kind: 'name', name: text });
const below = (suffix: string): EgressHost => ({ kind: 'below', suffix });
const network = (address: string, prefix: number): EgressHost => ({
  kind: 'network',
  address,
  family: address.includes(':') ? 6 : 4,
  prefix,
});

/** Entries, their meaning, and their canonical text if it differs. */
const ENTRIES: readonly (readonly [text: string, host: EgressHost, canonical?: string])[] = [
  ['deb.debian.org:80,443', name('deb.debian.org')],
  ['Deb.Debian.ORG.:80', name('deb.debian.org'), 'deb.debian.org:80'],
  ['localhost:80', name('localhost')],
  ['_dmarc.example.org:*', name('_dmarc.example.org')],
  ['münchen.example:443', name('xn--mnchen-3ya.example'), 'xn--mnchen-3ya.example:443'],
  ['1.example:443', name('1.example')],
  ['*.ubuntu.com:443', below('ubuntu.com')],
  ['*.Bücher.example:443', below('xn--bcher-kva.example'), '*.xn--bcher-kva.example:443'],
  ['*:443', { kind: 'any' }],
  ['*:*', { kind: 'any' }],
  ['10.0.0.0/8:5432', network('10.0.0.0', 8)],
  ['0.0.0.0/0:443', network('0.0.0.0', 0)],
  ['192.0.2.1:1-1024', network('192.0.2.1', 32)],
  ['192.0.2.1/32:22', network('192.0.2.1', 32), '192.0.2.1:22'],
  ['[2001:db8::/32]:443', network('2001:db8::', 32)],
  ['[2001:DB8:0:0::]:443', network('2001:db8::', 128), '[2001:db8::]:443'],
  ['[::1]:22', network('::1', 128)],
  ['[::ffff:10.0.0.0/104]:22', network('::ffff:10.0.0.0', 104)],
  ['example.org:1-65535', name('example.org'), 'example.org:*'],
  ['example.org:5-5,80', name('example.org'), 'example.org:5,80'],
];

for (const [text, host, canonical = text] of ENTRIES) {
  test(`${text} is an entry`, (t) => {
    const entry = parseEgressEntry(text);
    t.like(entry, { host, text: canonical });
    t.deepEqual(parseEgressEntry(entry.text), entry);
  });
}

for (const [says, ...texts] of [
  ['longer than 63', `${'a'.repeat(64)}.example:443`],
  ['longer than 253', `${'a.'.repeat(127)}example:443`],
  ...fixtureRows('refused-entries.txt'),
] as const) {
  for (const text of texts) {
    test(`${JSON.stringify(text)} is not an entry`, (t) => {
      const { message } = t.throws(() => parseEgressEntry(text), { instanceOf: VproxyError, code: 'bad-argument' });
      t.true(message.startsWith('entry "') && message.includes(says), message);
      t.notRegex(message, /[\n\r\0]/);
    });
  }
}

test('a port matches if it is in one of the ranges', (t) => {
  const entry = parseEgressEntry('example.org:22,80-90,443');
  const meant = [21, 22, 23, 79, 80, 85, 90, 91, 442, 443, 444].filter((port) => isInRanges(entry.ports, port));
  t.deepEqual(meant, [22, 80, 85, 90, 443]);
  t.true(isInRanges(parseEgressEntry('*:*').ports, 65_535));
});

test('any text is an entry, whose text parses back alike, or refused in one line', (t) => {
  const piece = fc.oneof(
    fc.constantFrom(...'* . : / [ ] , - 10.0.0.0 ::1 8 443 example.org xn-- ü \n'.split(' ')),
    fc.string({ maxLength: 3 }),
  );
  let entryCount = 0;
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), fc.boolean(), (pieces, hasPorts) => {
      try {
        const entry = parseEgressEntry(`${pieces.join('')}${hasPorts ? ':443' : ''}`);
        entryCount += 1;
        t.deepEqual(parseEgressEntry(entry.text), entry);
      } catch (error) {
        const isRefusal = error instanceof VproxyError && error.code === 'bad-argument';
        t.true(isRefusal && !/[\0-\x1f]/.test(error.message), String(error));
      }
    }),
    { numRuns: 10_000 },
  );
  t.true(entryCount > 100, `${entryCount} entries`);
});

test('an upstream is a host and a port, with or without http:// in front; errors never show a password', (t) => {
  for (const text of ['http://proxy.example:3128', 'HTTP://proxy.example:3128/', 'proxy.example:3128'])
    t.deepEqual(parseUpstream(text), { host: 'proxy.example', port: 3128 });
  t.deepEqual(parseUpstream('[::1]:3128'), { host: '::1', port: 3128 });
  for (const [text, says] of [
    ['https://proxy:3128', 'expected an HTTP proxy'],
    ['socks5://proxy:1080', 'expected an HTTP proxy'],
    ['http://proxy', 'with a port from 1'],
    ['http://proxy:0', 'with a port from 1'],
    ['http://proxy:3128/path', 'with a port from 1'],
    ['http://user:secret@proxy:3128', 'user name or password'],
    ['user:secret@proxy:3128', 'user name or password'],
    ['', 'expected http://HOST:PORT'],
  ] as const) {
    const { message } = t.throws(() => parseUpstream(text), { instanceOf: VproxyError, code: 'bad-argument' });
    t.true(message.includes(says) && !message.includes('secret'), message);
  }
});

// The tables of the documents.

/** The cells of the table below a heading. */
function rowsOf(document: string, heading: string): string[][] {
  const section = new RegExp(`^## ${heading}$[^]*?(?=^##)`, 'm').exec(projectText(document))?.[0] ?? '';
  const rows = section.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| ---'));
  return rows.slice(1).map((line) =>
    line
      .split('|')
      .map((cell) => cell.trim())
      .slice(1, -1),
  );
}

test('each entry in the document is valid and in canonical text', (t) => {
  const entries = rowsOf('docs/egress.md', 'Rules').flatMap(([entry = '']) =>
    [...entry.matchAll(/`([^`]+)`/g)].map(([, text]) => text ?? ''),
  );
  t.true(entries.length >= 8);
  for (const text of entries) t.is(parseEgressEntry(text).text, text);
});

test('the document has the ranges of the table, and ISATAP', (t) => {
  const rows = rowsOf('docs/egress-reference.md', 'Private and local addresses');
  t.true(rows.pop()?.[1]?.includes('ISATAP'));
  const table = SPECIAL_RANGES.map(({ network, what, source }) => [`\`${network}\``, what, source]);
  t.deepEqual(rows, table);
});

test('the document has the status, the phrase and the code of each refusal', (t) => {
  const rows = rowsOf('docs/egress-reference.md', 'Errors that programs see').map(([reason = '', http, socks]) => [
    reason,
    http,
    socks,
  ]);
  // The document has no code where SOCKS has no such refusal.
  const isOfHttp = (reason: string): boolean =>
    ['bad-answer', 'bad-certificate', 'bad-credential', 'bad-version', 'head-too-large'].includes(reason);
  t.deepEqual(
    rows,
    Object.entries(ANSWERS).map(([reason, { phrase, socks, status }]) => [
      `\`${reason}\``,
      `${status} ${phrase}`,
      isOfHttp(reason) ? '' : String(socks),
    ]),
  );
});
