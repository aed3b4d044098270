/** Which destinations may be reached: spellings, names, addresses, and the two lists. */

import test from 'ava';
import fc from 'fast-check';
import { judgeAddress, judgeDestination, judgeName, parseDestination } from '../../../lib/forward/egress/admission.js';
import { specialRangeOf } from '../../../lib/forward/egress/networks.js';
import { Refusal } from '../../../lib/forward/egress/refusal.js';
import type { Destination } from '../../../lib/forward/egress/rules.js';
import { parseAddress } from '../../../lib/util/addresses/host-port.js';
import { rulesOf } from '../../helpers/dns.js';
import { fixtureRows } from '../../helpers/files.js';

/** The reason, and spellings refused for it, separated by blanks. No program may read one as another destination. */
const SPELLINGS: Readonly<Record<string, string | readonly string[]>> = {
  'read as 127.0.0.1':
    '2130706433 017700000001 0x7f000001 0X7F000001 127.1 127.0.1 0177.0.0.1 0177.1 0x7f.1 ' +
    '0x7f.0.0.0x1 127.0.0.01 127.000.000.001',
  'read as 127.0.255.255': '127.65535',
  'read as 169.254.169.254': '2852039166 0xa9fea9fe 0251.0376.0251.0376 169.254.43518',
  'read as 0.0.0.0': '0 0x 00',
  'read as 10.0.0.1': '10.1',
  'read as 8.8.8.8': '134744072',
  'ends in a number': '08.8.8.8 1.2.3.4.5 256.1.1.1 383.0.0.1 4294967296 6425673729 example.0x7f example.org.127',
  'four decimal numbers':
    '127.0.0.1. 127。0。0。1 127．0．0．1 127｡0｡0｡1 １２７.0.0.1 𝟏𝟐𝟕.0.0.1 ①②⑦.0.0.1 127\u200b.0.0.1 1\u00ad27.0.0.1',
  'empty label': '127.0.0.1.. . .. example.org.. .example.org example..org',
  'read as 1.2.0.3': '1.2.3',
  hyphen: '-1 -example.org example-.org',
  'contains "+"': '+127.0.0.1',
  'contains "["': '[::1] [[::1]]',
  'contains ":"':
    '::1%lo fe80::1%25eth0 fe80::1%eth0 ::1/128 ::ffff:127.1 ::ffff:0x7f000001 ::ffff:127.0.0.01 ' +
    '0:0:0:0:0:0:0:0:1 1::2::3 ::1. 00001:: user:secret@example.org example.org:443 http://example.org',
  ': empty': [''],
  'contains "@"': 'user@example.org example.org@127.0.0.1',
  'contains "#"': 'example.org# 127.0.0.1#.example',
  'contains "?"': 'example.org?',
  'contains "/"': 'example.org/ //example.org 127.0.0.1/.example',
  'contains "\\"': 'example.org\\@127.0.0.1',
  'contains "%"': '%31%32%37.0.0.1 example%2eorg example.org%00.evil.example --1.ipv6-literal.net%',
  'control character': ['example.org\0.evil.example', 'exam\tple.org', 'example.org\r\nHost: evil.example'],
  blank: [' example.org', 'example.org '],
  'contains "*"': '*.example.org',
  'contains ","': 'example.org,127.0.0.1',
  'contains "$"': '$(id).example.org',
  'longer than 63': [`${'a'.repeat(64)}.org`, 'ü'.repeat(80)],
  'longer than 253': [`${'a.'.repeat(126)}ab`, 'a'.repeat(100_000)],
  'not a valid internationalized name':
    'xn--a.example xn--.example ex\ud800ample.org ex\ufffdample.org example\u2100.org ' +
    'evil\uff0fexample.org evil\uff20example.org evil\u202eexample.org ：：1',
  'contains "="': 'xn--ls8h=.example',
};

/** `example.org:443`, `[::1]:22`. */
function destination(text: string): Destination {
  const [, bracketed, plain = '', port] = /^(?:\[(.*)\]|(.*)):(\d+)$/.exec(text) ?? [];
  return parseDestination(bracketed ?? plain, Number(port));
}

const isOwn = (): boolean => true;
const nobody = (): boolean => false;

/** The widest possible rules cover only public addresses. */
const EVERYTHING = rulesOf(['*:*', '*.example:*', 'inside.example:*', '0.0.0.0/0:*', '[::/0]:*']);

for (const [says, hosts] of Object.entries(SPELLINGS)) {
  for (const host of typeof hosts === 'string' ? hosts.split(' ') : hosts) {
    const shown = JSON.stringify(host.length > 70 ? `${host.slice(0, 60)}… of ${host.length}` : host);
    test(`${shown} is not a destination`, (t) => {
      const { message, reason } = t.throws(() => parseDestination(host, 443), { instanceOf: Refusal });
      t.is(reason, 'bad-destination');
      t.true(message.includes(says), message);
      t.true(message.length < 500 && !/[\0-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]/.test(message), message);
    });
  }
}

for (const [what, ...addresses] of fixtureRows('special-addresses.txt')) {
  for (const address of addresses) {
    test(`${address} is refused, as an address and behind a name, by rules for everything; an entry for exactly that address allows it`, (t) => {
      const one = parseDestination(address, 443);
      const itself = judgeDestination(EVERYTHING, one);
      const behind = judgeAddress(EVERYTHING, destination('inside.example:443'), address, nobody);
      for (const { isAllowed, why } of [itself, behind]) t.true(!isAllowed && why.includes(what), why);
      const just = rulesOf([one.family === 6 ? `[${one.host}]:443` : `${one.host}:443`]);
      t.true(judgeDestination(just, one).isAllowed);
      t.false(judgeDestination(just, { ...one, port: 80 }).isAllowed);
    });
  }
}

test('a port of a destination is a whole number from 1 to 65535', (t) => {
  for (const port of [0, -1, 65_536, 1.5, Number.NaN, Number.POSITIVE_INFINITY])
    t.is(t.throws(() => parseDestination('example.org', port), { instanceOf: Refusal }).reason, 'bad-destination');
});

const LONGEST = `${'a.'.repeat(126)}a`;
for (const [texts, host, family] of [
  ['Example.ORG. example\u3002org ｅxample.org', 'example.org', 0],
  ['_sip._tcp.example.org', '_sip._tcp.example.org', 0],
  ['münchen.example MÜNCHEN.example XN--MNCHEN-3YA.example', 'xn--mnchen-3ya.example', 0],
  ['0x7f.example', '0x7f.example', 0],
  ['1.2.3.4.example', '1.2.3.4.example', 0],
  ['localhost', 'localhost', 0],
  [`${LONGEST} ${LONGEST}.`, LONGEST, 0],
  ['192.0.2.1', '192.0.2.1', 4],
  ['2001:DB8::0:1', '2001:db8::1', 6],
  ['::ffff:102:304', '::ffff:1.2.3.4', 6],
] as const) {
  test(`${host.slice(0, 30)} is a destination in its only spelling`, (t) => {
    for (const text of [...texts.split(' '), host])
      t.deepEqual(parseDestination(text, 443), { host, family, port: 443 });
  });
}

const character = fc.constantFrom(
  ...Array.from('0123456789abcdefxXzZ.....::::-_%[]@/\\#? \t\0。１\u200büß'),
  ...['xn--', '0x', '00'],
);

test('any text is a destination in one spelling, which a URL reads alike, or is refused; special addresses always are', (t) => {
  let nameCount = 0;
  let addressCount = 0;
  fc.assert(
    fc.property(fc.array(character, { maxLength: 20 }), (characters) => {
      let found: Destination;
      try {
        found = parseDestination(characters.join(''), 443);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        t.is(error.reason, 'bad-destination');
        return;
      }
      t.deepEqual(parseDestination(found.host, 443), found);
      const isPublic = judgeDestination(EVERYTHING, found).isAllowed;
      if (found.family === 0) {
        nameCount += 1;
        // No lookup may take it for an address, or for another name.
        t.is(new URL(`http://${found.host}/`).hostname, found.host);
        t.true(isPublic);
      } else {
        addressCount += 1;
        t.is(isPublic, specialRangeOf(parseAddress(found.host) ?? new Uint8Array()) === null);
      }
    }),
    { numRuns: 20_000, examples: [[['1.2.3.4']], [['::']], [['a']]] },
  );
  t.true(nameCount > 500 && addressCount >= 2, `${nameCount} names, ${addressCount} addresses`);
});

const words = (text: string): string[] => text.split(' ').filter((word) => word !== '');

/** What follows the first word of each line. */
const cellsOf = (row: readonly string[]): Record<string, string> =>
  Object.fromEntries(row.map((line) => line.split(/ (.*)/s) as [string, string]));

for (const [table, isName] of [
  ['judged-destinations.txt', false],
  ['judged-names.txt', true],
] as const) {
  for (const row of fixtureRows(table)) {
    const { allow = '', deny = '', out = '', refused = '' } = cellsOf(row);
    const what = `allow ${allow || 'nothing'}${deny && `, deny ${deny}`}`;
    test(`${what}: ${isName ? 'resolves' : 'allows'} ${out || 'nothing'}, and not ${refused || 'anything else'}`, (t) => {
      const [allowed, denied] = [allow, deny].map((list) => words(list.replaceAll(/[()]/g, ''))) as [
        string[],
        string[],
      ];
      const decides = (list: string): string => /\((.*)\)/.exec(list)?.[1] ?? (list === allow ? list : '');
      const rules = rulesOf(allowed, denied);
      for (const [isOut, texts] of [
        [true, out],
        [false, refused],
      ] as const) {
        for (const text of words(texts)) {
          const [asked = '', leads] = text.split(/@+/);
          const verdict = isName
            ? judgeName(rules, asked)
            : leads === undefined
              ? judgeDestination(rules, destination(asked))
              : judgeAddress(rules, destination(asked), leads, text.includes('@@') ? isOwn : nobody);
          t.is(verdict.isAllowed, isOut, `${text}: ${verdict.why}`);
          const entry = decides(isOut ? allow : deny);
          t.is(verdict.rule, entry === '' ? null : `${isOut ? 'allow' : 'deny'} "${entry}"`, text);
        }
      }
    });
  }
}

test('the reason names an entry for another port, and the range of an address', (t) => {
  const why = (allow: readonly string[], text: string): string =>
    judgeDestination(rulesOf(allow), destination(text)).why;
  t.is(why([], 'example.org:22'), 'no entry allows it');
  t.is(why(['*.org:80', 'example.org:443'], 'example.org:22'), 'allow "*.org:80" does not cover port 22');
  t.is(why(['1.1.1.1:80'], '1.1.1.1:22'), 'allow "1.1.1.1:80" does not cover port 22');
  const link = why(['*:80'], '169.254.169.254:80');
  t.is(link, '169.254.169.254 is link-local (169.254.0.0/16), and no entry allows it explicitly');
  t.is(
    judgeAddress(rulesOf(['*:80']), destination('example.org:80'), '1.1.1.1', isOwn).why,
    '1.1.1.1 is an address of this machine, and no entry allows it explicitly',
  );
});
