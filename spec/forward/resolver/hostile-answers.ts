/**
 * What a hostile DNS server answers this machine's question, and what the guest who asked gets of it. Each row has a
 * name of its own, so that one server, one resolver and one cache have all of them.
 */
import type { DnsMessage } from '../../../lib/system/dns/dns-message.js';
import { type DnsRecord, RECORD_TYPE } from '../../../lib/system/dns/resource-records.js';
import {
  a,
  aaaa,
  answerTo,
  cname,
  type DnsTransport,
  nameOf,
  question,
  record,
  type TypeName,
} from '../../helpers/dns.js';

/** An address that nothing refuses. */
const GOOD = '93.184.216.34';
const EVIL = '93.184.216.66';

export interface HostileAnswer {
  readonly what: string;
  /** Default: A. */
  readonly type?: TypeName;
  /** What the server sends, in order; over UDP unless it says otherwise. */
  readonly send: (asked: DnsMessage, name: string, transport: DnsTransport) => readonly (DnsMessage | Buffer)[];
  /**
   * `ignored`: no answer at all, so that the good one behind it counts. `failure`: SERVFAIL. Else what the guest is
   * shown, `<name>` being the name.
   */
  readonly outcome: 'ignored' | 'failure' | { readonly shown: string };
}

/** A message by hand: the counts of its sections, and all that follows the header. */
function raw(asked: DnsMessage, counts: readonly [number, number, number, number], ...body: readonly Buffer[]): Buffer {
  const header = Buffer.alloc(12);
  for (const [index, word] of [asked.id, 0x8180, ...counts].entries()) header.writeUInt16BE(word, 2 * index);
  return Buffer.concat([header, ...body]);
}

/** The question as it was asked: its name begins at 12. */
function asIs({ question: own }: DnsMessage): Buffer {
  const { name, type, class: ownClass } = own ?? question('x');
  return Buffer.concat([name, Buffer.from([type >> 8, type & 255, ownClass >> 8, ownClass & 255])]);
}

/** A record by hand; `length` is what it says of its data. */
function rawRecord(
  name: Buffer,
  type: number,
  data: Buffer,
  { recordClass = 1, ttl = 300, length = data.length } = {},
): Buffer {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(recordClass, 2);
  fixed.writeUInt32BE(ttl, 4);
  fixed.writeUInt16BE(length, 8);
  return Buffer.concat([name, fixed, data]);
}

const TO_QUESTION = Buffer.from([0xc0, 12]);
const bytes = (...values: readonly number[]): Buffer => Buffer.from(values);
const EVIL_BYTES = Buffer.from(EVIL.split('.').map(Number));

const forged = (asked: DnsMessage, name: string, extra: Partial<DnsMessage> = {}): DnsMessage =>
  answerTo(asked, [a(name, EVIL)], extra);

const ignored = (what: string, send: HostileAnswer['send']): HostileAnswer => ({ what, send, outcome: 'ignored' });

/** One record by hand behind the question, which makes no sense of the whole message. */
const failing = (what: string, ...pieces: readonly Buffer[]): HostileAnswer => ({
  what,
  send: (asked) => [raw(asked, [1, 1, 0, 0], asIs(asked), ...pieces)],
  outcome: 'failure',
});

/** Answers of records, and what the guest gets. */
const answering = (
  what: string,
  type: TypeName,
  records: (name: string) => readonly DnsRecord[],
  shown: string,
  extra: Partial<DnsMessage> = {},
): HostileAnswer => ({
  what,
  type,
  send: (asked, name, transport) => [
    answerTo(asked, transport === 'tcp' ? records(name) : [], { isTruncated: transport === 'udp', ...extra }),
  ],
  outcome: { shown },
});

const BLOCKED = 'EDE 15 an address of <name> is not allowed by egress "internet" on the host';

/** Behind these names addresses must not be, whatever a server says. */
const LEFT_OUT: readonly (readonly [what: string, type: TypeName, record: (name: string) => DnsRecord])[] = [
  ['loopback', 'A', (name) => a(name, '127.0.0.1')],
  ['the metadata service', 'A', (name) => a(name, '169.254.169.254')],
  ['the unspecified address', 'A', (name) => a(name, '0.0.0.0')],
  ['a private address', 'A', (name) => a(name, '192.168.122.1')],
  ['an address of this machine', 'A', (name) => a(name, '198.41.0.4')],
  ['loopback of IPv6', 'AAAA', (name) => aaaa(name, `${'00'.repeat(15)}01`)],
  ['an IPv4-mapped address', 'AAAA', (name) => aaaa(name, `${'00'.repeat(10)}ffff7f000001`)],
  ['an address behind NAT64', 'AAAA', (name) => aaaa(name, '0064ff9b00000000000000007f000001')],
  ['a hint of a private address', 'HTTPS', (name) => record(name, 'HTTPS', bytes(0, 1, 0, 0, 4, 0, 4, 10, 0, 0, 1))],
  [
    'a good hint beside one of loopback',
    'HTTPS',
    (name) => record(name, 'HTTPS', bytes(0, 1, 0, 0, 4, 0, 8, 93, 184, 216, 34, 127, 0, 0, 1)),
  ],
  ['half an address as a hint', 'SVCB', (name) => record(name, 'SVCB', bytes(0, 1, 0, 0, 4, 0, 2, 10, 0))],
  ['a hint that is cut off', 'SVCB', (name) => record(name, 'SVCB', bytes(0, 1, 0, 0, 4, 0, 9, 10, 0, 0, 1))],
  ['a target of a service that is cut off', 'SVCB', (name) => record(name, 'SVCB', bytes(0, 1, 5, 0x61))],
];

export const HOSTILE_ANSWERS: readonly HostileAnswer[] = [
  // Not an answer to this question.
  ignored('another id', (asked, name) => [forged(asked, name, { id: asked.id ^ 1 })]),
  ignored('all ids but the right one', (asked, name) =>
    Array.from({ length: 64 }, (_, turn) => forged(asked, name, { id: asked.id ^ (turn + 1) })),
  ),
  ignored('another name', (asked, name) => [forged(asked, name, { question: question('www.example.net') })]),
  ignored('a name below', (asked, name) => [forged(asked, name, { question: question(`x.${name}`) })]),
  ignored('another type', (asked, name) => [forged(asked, name, { question: question(name, 'AAAA') })]),
  ignored('another class', (asked, name) => [forged(asked, name, { question: question(name, 'A', 3) })]),
  ignored('no question', (asked, name) => [forged(asked, name, { question: null })]),
  ignored('a query, and no response', (asked, name) => [forged(asked, name, { isResponse: false })]),
  ignored('nothing', () => [Buffer.alloc(0)]),
  ignored('a part of a header', (asked) => [raw(asked, [1, 1, 0, 0]).subarray(0, 11)]),
  ignored('its own question', (asked) => [asked]),

  // Names.
  failing('a pointer to itself', rawRecord(bytes(0xc0, 0xff), 1, EVIL_BYTES)),
  {
    what: 'a pointer at the place it leads to',
    send: (asked) => {
      const at = 12 + asIs(asked).length;
      return [raw(asked, [1, 1, 0, 0], asIs(asked), rawRecord(bytes(0xc0, at), 1, EVIL_BYTES))];
    },
    outcome: 'failure',
  },
  {
    what: 'two pointers to each other',
    send: (asked) => {
      const at = 12 + asIs(asked).length;
      return [raw(asked, [1, 1, 0, 0], asIs(asked), bytes(0xc0, at + 2), rawRecord(bytes(0xc0, at), 1, EVIL_BYTES))];
    },
    outcome: 'failure',
  },
  {
    what: 'a pointer to what follows it',
    send: (asked) => {
      const data = 12 + asIs(asked).length + 12;
      return [raw(asked, [1, 1, 0, 0], asIs(asked), rawRecord(bytes(0xc0, data), 16, bytes(1, 0x61, 0)))];
    },
    outcome: 'failure',
  },
  failing('a pointer into the header', rawRecord(bytes(0xc0, 0x02), 1, EVIL_BYTES, { ttl: 0xffffffff })),
  failing('a pointer beyond the end', rawRecord(bytes(0xff, 0xff), 1, EVIL_BYTES)),
  failing('half a pointer', bytes(0xc0)),
  failing('a label of the kind 01', rawRecord(Buffer.concat([Buffer.alloc(1 + 0x41, 0x41), bytes(0)]), 1, EVIL_BYTES)),
  failing('a label of the kind 10', rawRecord(Buffer.concat([Buffer.alloc(1 + 0x81, 0x81), bytes(0)]), 1, EVIL_BYTES)),
  failing('a label that is cut off', bytes(63, 0x61)),
  failing('a name of more than 255 bytes', rawRecord(Buffer.alloc(260, '\x01a'), 1, EVIL_BYTES)),
  failing(
    'a name that is too long by its pointer',
    rawRecord(Buffer.concat([Buffer.alloc(240, '\x01a'), TO_QUESTION]), 1, EVIL_BYTES),
  ),

  // Records.
  failing('no record where one is announced'),
  failing('a record that is cut off', rawRecord(TO_QUESTION, 1, EVIL_BYTES).subarray(0, 9)),
  failing('data that is longer than what is left', rawRecord(TO_QUESTION, 1, EVIL_BYTES, { length: 65_535 })),
  failing('data that is longer than it says', rawRecord(TO_QUESTION, 1, EVIL_BYTES, { length: 3 })),
  failing('an address of three bytes', rawRecord(TO_QUESTION, 1, EVIL_BYTES.subarray(1))),
  failing('an address of five bytes', rawRecord(TO_QUESTION, 1, bytes(93, 184, 216, 66, 1))),
  failing('an IPv6 address of four bytes', rawRecord(TO_QUESTION, 28, EVIL_BYTES)),
  failing('an alias with more behind it', rawRecord(TO_QUESTION, 5, bytes(1, 0x61, 0, 9))),
  failing('an alias without a name', rawRecord(TO_QUESTION, 5, Buffer.alloc(0))),
  failing('an alias that leads out of its data', rawRecord(TO_QUESTION, 5, bytes(3, 0x61), { length: 2 })),
  failing('a SOA without its numbers', rawRecord(TO_QUESTION, 6, bytes(0, 0, 0, 0, 0, 1))),
  failing('a text of NAPTR that is longer than its data', rawRecord(TO_QUESTION, 35, bytes(0, 1, 0, 1, 200, 0x61))),
  failing('a record of the class CH', rawRecord(TO_QUESTION, 1, EVIL_BYTES, { recordClass: 3 })),
  failing('bytes behind the end', rawRecord(TO_QUESTION, 1, EVIL_BYTES), bytes(0)),
  failing(
    'a whole record behind the end',
    rawRecord(TO_QUESTION, 1, EVIL_BYTES),
    rawRecord(TO_QUESTION, 1, EVIL_BYTES),
  ),
  {
    what: 'two questions',
    send: (asked) => [raw(asked, [2, 1, 0, 0], asIs(asked), asIs(asked), rawRecord(TO_QUESTION, 1, EVIL_BYTES))],
    outcome: 'failure',
  },
  {
    what: '65,535 records that are announced',
    send: (asked) => [raw(asked, [1, 65_535, 65_535, 65_535], asIs(asked), rawRecord(TO_QUESTION, 1, EVIL_BYTES))],
    outcome: 'failure',
  },

  // EDNS.
  failing('OPT among the answers', rawRecord(bytes(0), 41, Buffer.alloc(0), { recordClass: 1232 })),
  ...(
    [
      ['OPT twice', 2, [rawRecord(bytes(0), 41, Buffer.alloc(0)), rawRecord(bytes(0), 41, Buffer.alloc(0))]],
      ['OPT with a name', 1, [rawRecord(TO_QUESTION, 41, Buffer.alloc(0))]],
      ['an option that is cut off', 1, [rawRecord(bytes(0), 41, bytes(0, 15, 0, 9, 0))]],
      ['an extended error without a code', 1, [rawRecord(bytes(0), 41, bytes(0, 15, 0, 1, 0))]],
    ] as const
  ).map(
    ([what, count, opts]): HostileAnswer => ({
      what,
      send: (asked) => [raw(asked, [1, 0, 0, count], asIs(asked), ...opts)],
      outcome: 'failure',
    }),
  ),
  {
    what: 'a version of EDNS that is not known',
    send: (asked) => [
      raw(asked, [1, 0, 0, 1], asIs(asked), rawRecord(bytes(0), 41, Buffer.alloc(0), { ttl: 0x01_00_00_00 })),
    ],
    outcome: { shown: 'rcode 2' },
  },
  {
    what: 'a text of an extended error, which names a machine of the host’s network',
    send: (asked) => [
      answerTo(asked, [], {
        rcode: 2,
        edns: { udpBytes: 1232, version: 0, wantsDnssec: false, errors: [{ code: 22, text: 'ns1.corp.internal' }] },
      }),
    ],
    outcome: { shown: 'rcode 2; EDE 22' },
  },

  // What it says makes sense, and is not for the guest.
  ...LEFT_OUT.map(([what, type, one]) => answering(what, type, (name) => [one(name)], `rcode 0; ${BLOCKED}`)),
  ...LEFT_OUT.map(
    ([what, type, one]): HostileAnswer => ({
      what: `${what}, in the authority section`,
      send: (asked, name) => [answerTo(asked, [a(name, GOOD)], { authorities: [record(name, type, one(name).data)] })],
      outcome: { shown: `rcode 0; <name>. 300 A ${GOOD}; ${BLOCKED}` },
    }),
  ),
  ...LEFT_OUT.map(
    ([what, type, one]): HostileAnswer => ({
      what: `${what}, in the additional section`,
      send: (asked, name) => {
        const good = rawRecord(TO_QUESTION, RECORD_TYPE.A, Buffer.from(GOOD.split('.').map(Number)));
        return [raw(asked, [1, 1, 0, 1], asIs(asked), good, rawRecord(TO_QUESTION, RECORD_TYPE[type], one(name).data))];
      },
      outcome: { shown: `rcode 0; <name>. 300 A ${GOOD}` },
    }),
  ),
  answering(
    'loopback behind an alias',
    'A',
    (name) => [cname(name, 'x.example.net'), a('x.example.net', '127.0.0.1')],
    `rcode 0; <name>. 300 CNAME ${nameOf('x.example.net').toString('hex')}; ${BLOCKED}`,
  ),
  answering(
    'loopback beside a good address',
    'A',
    (name) => [a(name, '127.0.0.1'), a(name, GOOD)],
    `rcode 0; <name>. 300 A ${GOOD}; ${BLOCKED}`,
  ),
  answering('a time with the highest bit', 'A', (name) => [a(name, GOOD, 0x80000000)], `rcode 0; <name>. 0 A ${GOOD}`),
  answering('a time of 68 years', 'A', (name) => [a(name, GOOD, 0x7fffffff)], `rcode 0; <name>. 3600 A ${GOOD}`),
  answering('a refusal of its own', 'A', () => [], 'rcode 2', { rcode: 5 }),
  answering('a code that nobody knows', 'A', () => [], 'rcode 2', { rcode: 11 }),

  // By TCP.
  answering('truncated by TCP as well', 'A', () => [], 'rcode 0', { isTruncated: true }),
  ...(
    [
      ['a message of no bytes by TCP', 'ignored', () => [Buffer.alloc(0)]],
      ['another id by TCP', 'ignored', (asked, name) => [forged(asked, name, { id: asked.id ^ 1 })]],
      [
        'a pointer to itself by TCP',
        'failure',
        (asked) => [raw(asked, [1, 1, 0, 0], asIs(asked), rawRecord(bytes(0xc0, 0xff), 1, EVIL_BYTES))],
      ],
    ] as readonly [string, 'ignored' | 'failure', HostileAnswer['send']][]
  ).map(
    ([what, outcome, send]): HostileAnswer => ({
      what,
      outcome,
      send: (asked, name, transport) =>
        transport === 'udp' ? [answerTo(asked, [], { isTruncated: true })] : send(asked, name, transport),
    }),
  ),
  {
    what: 'much of little: records of long names by pointers',
    send: (asked, _name, transport) => {
      if (transport === 'udp') return [answerTo(asked, [], { isTruncated: true })];
      // 250 bytes, at the end of the question, to which 3,000 records point with 12 bytes each.
      const long = Buffer.concat([Buffer.alloc(200, '\x01a'), TO_QUESTION]);
      const first = rawRecord(long, 16, bytes(0));
      const again = rawRecord(bytes(0xc0, 12 + asIs(asked).length), 16, bytes(0));
      return [raw(asked, [1, 3001, 0, 0], asIs(asked), first, ...Array.from({ length: 3000 }, () => again))];
    },
    outcome: 'failure',
  },
];
