import assert from 'node:assert/strict';
import test from 'ava';
import { type DnsMessage, formatMessage, isSameQuestion, parseMessage } from '../../../lib/system/dns/dns-message.js';
import { formatName, hostOf, keyOf, parseName, readName } from '../../../lib/system/dns/domain-names.js';
import {
  addressesIn,
  type DnsRecord,
  negativeTtlOf,
  RECORD_TYPE,
  typeName,
} from '../../../lib/system/dns/resource-records.js';
import { Random } from '../../../tools/bench/soak/random.js';
import { a, answerTo, bytesOf, cname, nameOf, query, question, record, soa } from '../../helpers/dns.js';
import { fixtureRows } from '../../helpers/files.js';

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s+/g, ''), 'hex');

/** A server's answer: www.example.com is an alias of edge.example.com; every name but the first is a pointer. */
const CHAIN = hex(`
  1234 8180 0001 0002 0000 0001
  03777777 076578616d706c65 03636f6d 00 0001 0001
  c00c 0005 0001 0000012c 0007 0465646765 c010
  c02d 0001 0001 0000003c 0004 5db8d822
  00 0029 04d0 0000 8000 0000`);

test('an answer is decompressed when read, and written as short as it came', (t) => {
  const message = parseMessage(CHAIN);
  t.like(message, {
    id: 0x1234,
    isResponse: true,
    wantsRecursion: true,
    canRecurse: true,
    rcode: 0,
    isTruncated: false,
  });
  t.deepEqual(message?.question, question('www.example.com'));
  t.deepEqual(message?.answers, [
    cname('www.example.com', 'edge.example.com'),
    a('edge.example.com', '93.184.216.34', 60),
  ]);
  t.deepEqual(message?.edns, { udpBytes: 1232, version: 0, wantsDnssec: true, errors: [] });
  t.is(bytesOf(message as DnsMessage).toString('hex'), CHAIN.toString('hex'));
});

test('names in the data of each classic type are decompressed when read', (t) => {
  const owner = '03777777 076578616d706c65 03636f6d 00';
  const target = '076578616d706c6503636f6d00';
  const rows: readonly [number, string, string][] = [
    [RECORD_TYPE.NS, 'c010', target],
    [RECORD_TYPE.PTR, 'c010', target],
    [RECORD_TYPE.MX, '000a c010', `000a${target}`],
    [RECORD_TYPE.SOA, `c010 026e73c010 ${'00000001'.repeat(5)}`, `${target}026e73${target}${'00000001'.repeat(5)}`],
    [RECORD_TYPE.SRV, '0001 0002 01bb c010', `0001000201bb${target}`],
    [RECORD_TYPE.NAPTR, '0064 000a 0175 03534950 00 c010', `0064000a01750353495000${target}`],
    [RECORD_TYPE.DNAME, 'c010', target],
    [14, 'c010 c010', target + target],
    [17, 'c010 c010', target + target],
    [24, `${'11'.repeat(18)} c010 2222`, `${'11'.repeat(18)}${target}2222`],
    [26, '000a c010 c010', `000a${target}${target}`],
    [30, 'c010 3333', `${target}3333`],
    [36, '000a c010', `000a${target}`],
    // The data of any other type is passed on unchanged, whatever it looks like.
    [RECORD_TYPE.CAA, 'c010', 'c010'],
    [65_280, 'c010', 'c010'],
  ];
  for (const [type, given, expected] of rows) {
    const data = hex(given);
    const lengths = `${type.toString(16).padStart(4, '0')} 0001 00000001 ${data.length.toString(16).padStart(4, '0')}`;
    const bytes = hex(`0001 8180 0001 0001 0000 0000 ${owner} 00ff 0001 c00c ${lengths} ${data.toString('hex')}`);
    t.is(parseMessage(bytes)?.answers[0]?.data.toString('hex'), expected, typeName(type));
  }
});

test('only names in types of RFC 1035 are compressed when written', (t) => {
  const answers = [
    record('example.com', 'MX', Buffer.concat([hex('000a'), nameOf('example.com')])),
    record('example.com', 'SRV', Buffer.concat([hex('0001000201bb'), nameOf('example.com')])),
  ];
  const bytes = bytesOf(answerTo(query('example.com', 'MX', { edns: null }), answers)).toString('hex');
  t.true(bytes.includes('0004000ac00c'));
  t.true(bytes.includes(`00130001000201bb${nameOf('example.com').toString('hex')}`));
});

/** Too long for a line of the table: a query, and answers with the question for `a.`. */
const ANSWER = '1234 8180 0001 0001 0000 0000 0161 00 0001 0001';
const LONG: Readonly<Record<string, string>> = {
  'a name of 256 bytes': `1234 0100 0001 0000 0000 0000 ${`3f${'61'.repeat(63)}`.repeat(3)} 3e${'61'.repeat(62)} 0000 0001 0001`,
  'a label of type 01': `${ANSWER} 41${'41'.repeat(65)}00 0001 0001 00000001 0004 7f000001`,
  'a name too long through its pointer': `${ANSWER} ${'0161'.repeat(127)}c00c 0001 0001 00000001 0004 7f000001`,
};

test('a malformed message is rejected as a whole', (t) => {
  for (const [what, text] of Object.entries(LONG)) t.is(parseMessage(hex(text)), null, what);
  for (const [before, ...rows] of fixtureRows('malformed-dns.txt'))
    for (const row of rows) t.is(parseMessage(hex(`${before} ${row.replace(/^.*:/, '')}`)), null, row);
});

const LONGEST = `${`3f${'61'.repeat(63)}`.repeat(3)}3d${'61'.repeat(61)}00`;

test('names of 255 bytes, and with 127 labels, are read', (t) => {
  for (const name of [LONGEST, `${'0161'.repeat(127)}00`]) {
    t.is(parseMessage(hex(`1234 0100 0001 0000 0000 0000 ${name} 0001 0001`))?.question?.name.length, 255);
  }
});

test('the decompressed size is bounded', (t) => {
  const withRecords = (count: number) =>
    hex(
      `1234 8180 0001 ${count.toString(16).padStart(4, '0')} 0000 0000 ${LONGEST} 0001 0001 ${'c00c 0010 0001 00000001 0000'.repeat(count)}`,
    );
  t.is(parseMessage(withRecords(500))?.answers.length, 500);
  t.is(parseMessage(withRecords(5000)), null);
});

test('a pointer chain longer than the labels of any name is rejected', (t) => {
  const chain = (links: number) => {
    // Opaque data: a root, then pointers, each to the one before it.
    const pointers = Array.from({ length: links }, (_, index) =>
      (0xc000 | (index === 0 ? 23 : 22 + 2 * index)).toString(16),
    );
    const data = `00${pointers.join('')}`;
    const last = (0xc000 | (22 + 2 * links)).toString(16);
    const length = (1 + 2 * links).toString(16).padStart(4, '0');
    return hex(`1234 8180 0000 0002 0000 0000 00 ff00 0001 00000001 ${length} ${data} ${last} 0010 0001 00000001 0000`);
  };
  t.is(parseMessage(chain(126))?.answers.length, 2);
  t.is(parseMessage(chain(127)), null);
});

test('an answer too long is sent truncated, with its question and EDNS', (t) => {
  const answers = Array.from({ length: 40 }, (_, index) => a('example.org', `192.0.2.${index}`));
  const message = answerTo(query('example.org'), answers);
  const whole = bytesOf(message).length;
  t.is(parseMessage(formatMessage(message, whole))?.answers.length, 40);
  t.like(parseMessage(formatMessage(message, whole - 1)), {
    isTruncated: true,
    answers: [],
    question: message.question,
    edns: message.edns,
  });
});

test('codes that need EDNS, and extended errors, are written and read', (t) => {
  const errors = [
    { code: 18, text: 'nämlich' },
    { code: 6, text: '' },
  ];
  const message = answerTo(query('a.example'), [], {
    rcode: 16,
    edns: { udpBytes: 1232, version: 0, wantsDnssec: false, errors },
  });
  t.deepEqual(parseMessage(bytesOf(message)), message);
});

test('names are compared ignoring the case of ASCII letters only', (t) => {
  t.true(isSameQuestion(question('eXample.ORG'), question('Example.org')));
  t.false(isSameQuestion(question('example.org'), question('example.org', 'AAAA')));
  t.not(keyOf(Buffer.from([1, 0xc4, 0])), keyOf(Buffer.from([1, 0xe4, 0])));
  // A length byte is not a letter.
  t.is(keyOf(nameOf('a'.repeat(63))).charCodeAt(0), 63);
});

test('a name is a host name only if every byte is allowed in host names', (t) => {
  t.is(hostOf(nameOf('_Dmarc.Example.org')), '_dmarc.example.org');
  t.is(hostOf(Buffer.alloc(1)), null);
  // One label containing a dot is not two labels.
  t.is(hostOf(hex('05612e62 2e63 00')), null);
  t.is(hostOf(hex('02c3a4 00')), null);
  t.is(formatName(hex('03612e0a 0162 00')), 'a\\046\\010.b.');
  t.is(formatName(Buffer.alloc(1)), '.');
  t.is(parseName('a..b'), null);
  t.is(parseName(`${'a'.repeat(64)}.b`), null);
  t.is(parseName('a.'.repeat(128)), null);
});

test('the addresses of a record are its data, or the hints of a service', (t) => {
  const service = (parameters: string): DnsRecord => record('a.example', 'HTTPS', hex(`0001 00 ${parameters}`));
  const found = (one: DnsRecord): string[] | undefined => addressesIn(one)?.map((bytes) => bytes.toString('hex'));
  t.deepEqual(found(a('a.example', '127.0.0.1')), ['7f000001']);
  t.deepEqual(found(cname('a.example', 'b.example')), []);
  t.deepEqual(found(service('')), []);
  const hints = `0001 0003 026832 0004 0008 7f000001 0a000001 0006 0010 ${'00'.repeat(15)}01`;
  t.deepEqual(found(service(hints)), ['7f000001', '0a000001', `${'00'.repeat(15)}01`]);
  for (const broken of ['0004 0003 7f0000', '0004 0008 7f000001', '0004', '0006 0004 7f000001'])
    t.is(addressesIn(service(broken)), null, broken);
});

test('the negative TTL is the smaller of the SOA’s two', (t) => {
  t.is(negativeTtlOf(soa('example.org', 60, 900)), 60);
  t.is(negativeTtlOf(soa('example.org', 900, 60)), 60);
});

test('30,000 messages, random or randomly changed, are parsed as a whole or not at all', (t) => {
  // The same messages each time.
  const generator = new Random(1);
  const random = (below: number) => generator.integer(0, below - 1);
  const [text, target] = [hex('0568656c6c6f'), nameOf('example.org')];
  const data = { MX: '000a', SRV: '0001000201bb', NAPTR: '0064000a01750353495000', TXT: '' } as const;
  const records = (Object.keys(data) as (keyof typeof data)[]).map((type) =>
    record('www.example.org', type, Buffer.concat([hex(data[type]), type === 'TXT' ? text : target])),
  );
  const good = [
    CHAIN,
    bytesOf(answerTo(query('www.example.org', 'MX'), records)),
    bytesOf(answerTo(query('x.example'), [soa('example', 5)])),
  ];
  let understood = 0;
  for (let turn = 0; turn < 30_000; turn += 1) {
    const from = good[turn % 4];
    const bytes =
      from === undefined ? Buffer.from(Array.from({ length: random(64) }, () => random(256))) : Buffer.from(from);
    for (let change = random(4); from !== undefined && change >= 0; change -= 1)
      bytes[random(bytes.length)] = random(256);
    const message = parseMessage(random(8) === 0 ? bytes.subarray(0, random(bytes.length + 1)) : bytes);
    if (message === null) continue;
    understood += 1;
    // A parsed message can be written again, and means the same.
    assert.deepEqual(parseMessage(bytesOf(message)), message, bytes.toString('hex'));
  }
  t.true(understood > 3000 && understood < 30_000, String(understood));
});

test('a name can be read from any offset without leaving the message', (t) => {
  t.deepEqual(readName(CHAIN, 45), { name: nameOf('edge.example.com'), end: 52 });
  t.throws(() => readName(CHAIN, CHAIN.length), { code: 'protocol-error' });
});
