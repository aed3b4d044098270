/**
 * Hostile answers of a DNS server, over real sockets: what the guest who asked gets, and that nothing refused is in it.
 * Which bytes are no message is a table of `system/dns/dns-message.spec.ts`.
 */
import test from 'ava';
import { specialRangeOf } from '../../../lib/forward/egress/networks.js';
import { Resolver } from '../../../lib/forward/resolver/resolver.js';
import { type DnsMessage, parseMessage } from '../../../lib/system/dns/dns-message.js';
import { formatName } from '../../../lib/system/dns/domain-names.js';
import { NameServers } from '../../../lib/system/dns/name-servers.js';
import { addressesIn, type DnsRecord } from '../../../lib/system/dns/resource-records.js';
import { formatAddress } from '../../../lib/util/addresses.js';
import * as dns from '../../helpers/dns.js';
import { ManualClock, within } from '../../helpers/time.js';

const { a, answerTo, bytesOf, cname, query, question, record } = dns;

/** An address that nothing refuses, that of a forger, and one of this machine that no range gives away. */
const GOOD = '93.184.216.34';
const EVIL = '93.184.216.66';
const OWN = '198.41.0.4';

interface HostileAnswer {
  /** What the server sends, in order; over UDP unless it says otherwise. */
  readonly send: (asked: DnsMessage, name: string, transport: dns.DnsTransport) => readonly (DnsMessage | Buffer)[];
  /** What the guest is shown, `<name>` being the name. */
  readonly shown: string;
}

const GOOD_SHOWN = `rcode 0; <name>. 300 A ${GOOD}`;
const FAILURE = "rcode 2; EDE 23 the host's resolver did not answer";
const BLOCKED = 'EDE 15 an address of <name> is not allowed by egress "internet" on the host';

const forged = (asked: DnsMessage, name: string, extra: Partial<DnsMessage> = {}): DnsMessage =>
  answerTo(asked, [a(name, EVIL)], extra);
const good = (asked: DnsMessage, name: string): DnsMessage => answerTo(asked, [a(name, GOOD)]);

/** Sends it by TCP alone: over UDP it is too long. */
const byTcp =
  (send: HostileAnswer['send']): HostileAnswer['send'] =>
  (asked, name, transport) =>
    transport === 'udp' ? [answerTo(asked, [], { isTruncated: true })] : send(asked, name, transport);

/** Records by TCP, and what the guest gets. */
const answering = (records: (name: string) => readonly DnsRecord[], shown: string): HostileAnswer => ({
  send: byTcp((asked, name) => [answerTo(asked, records(name))]),
  shown,
});

/** A message whose additional section has a record, which is written as one more answer. */
function withAdditional(asked: DnsMessage, answers: readonly DnsRecord[]): Buffer {
  const bytes = bytesOf(answerTo(asked, answers, { edns: null }));
  bytes.writeUInt16BE(answers.length - 1, 6);
  bytes.writeUInt16BE(1, 10);
  return bytes;
}

const hint = (hex: string) => (name: string) => record(name, 'HTTPS', Buffer.from(hex, 'hex'));

/** Addresses that must not be told, whatever a server says. */
const LEFT_OUT: Readonly<Record<string, (name: string) => DnsRecord>> = {
  'the metadata service': (name) => a(name, '169.254.169.254'),
  'an address of this machine': (name) => a(name, OWN),
  'loopback of IPv6': (name) => dns.aaaa(name, `${'00'.repeat(15)}01`),
  'a good hint beside one of loopback': hint('000100000400085db8d8227f000001'),
  'a hint that is cut off': hint('000100000400090a000001'),
};

const HOSTILE_ANSWERS: Readonly<Record<string, HostileAnswer>> = {
  'all ids but the right one, and the right one': {
    send: (asked, name) => [
      ...Array.from({ length: 64 }, (_, turn) => forged(asked, name, { id: asked.id ^ (turn + 1) })),
      good(asked, name),
    ],
    shown: GOOD_SHOWN,
  },
  'its own question, and an answer': { send: (asked, name) => [asked, good(asked, name)], shown: GOOD_SHOWN },
  'bytes that make no sense behind the question': {
    send: (asked, name) => [bytesOf(forged(asked, name)).fill(0xff, bytesOf({ ...asked, edns: null }).length)],
    shown: FAILURE,
  },
  'a text of an extended error, which names a machine of the host’s network': {
    send: (asked) => {
      const errors = [{ code: 22, text: 'ns1.corp.internal' }];
      return [answerTo(asked, [], { rcode: 2, edns: { udpBytes: 1232, version: 0, wantsDnssec: false, errors } })];
    },
    shown: 'rcode 2; EDE 22',
  },
  ...Object.fromEntries(
    Object.entries(LEFT_OUT).flatMap(([what, one]): readonly (readonly [string, HostileAnswer])[] => [
      [what, answering((name) => [one(name), a(name, GOOD)], `${GOOD_SHOWN}; ${BLOCKED}`)],
      [
        `${what}, in the authority section`,
        {
          send: (asked, name) => [answerTo(asked, [a(name, GOOD)], { authorities: [one(name)] })],
          shown: `${GOOD_SHOWN}; ${BLOCKED}`,
        },
      ],
      [
        `${what}, in the additional section`,
        { send: (asked, name) => [withAdditional(asked, [a(name, GOOD), one(name)])], shown: GOOD_SHOWN },
      ],
    ]),
  ),
  'loopback behind an alias': answering(
    (name) => [cname(name, 'x.example.net'), a('x.example.net', '127.0.0.1')],
    `rcode 0; <name>. 300 CNAME ${dns.nameOf('x.example.net').toString('hex')}; ${BLOCKED}`,
  ),
  'a time with the highest bit': answering((name) => [a(name, GOOD, 0x80000000)], `rcode 0; <name>. 0 A ${GOOD}`),
  'a time of 68 years': answering((name) => [a(name, GOOD, 0x7fffffff)], `rcode 0; <name>. 3600 A ${GOOD}`),
  'truncated by TCP as well': { send: (asked) => [answerTo(asked, [], { isTruncated: true })], shown: 'rcode 0' },
  'a message of no bytes by TCP, and an answer': {
    send: byTcp((asked, name) => [Buffer.alloc(0), good(asked, name)]),
    shown: GOOD_SHOWN,
  },
  'another id by TCP, and an answer': {
    send: byTcp((asked, name) => [forged(asked, name, { id: asked.id ^ 1 }), good(asked, name)]),
    shown: GOOD_SHOWN,
  },
};

/** Whether an answer has an address that no guest may be told, or more than OPT in its additional section. */
function hasRefused(bytes: Buffer | null): boolean {
  if ((bytes?.readUInt16BE(10) ?? 0) > 1) return true;
  const message = bytes === null ? null : parseMessage(bytes);
  return [...(message?.answers ?? []), ...(message?.authorities ?? [])]
    .flatMap((one) => addressesIn(one) ?? [])
    .some((address) => specialRangeOf(address) !== null || formatAddress(address) === OWN);
}

test('of hostile answers of a DNS server a guest gets what is right, or nothing; asked again, too', async (t) => {
  const rows = Object.entries(HOSTILE_ANSWERS);
  // Each row has a name of its own, so that one server, one resolver and one cache have all of them.
  const server = await dns.dnsServer(t, (asked, transport) => {
    const name = formatName((asked.question ?? question('x')).name).replace(/\.$/, '');
    return rows[Number(/^row(\d+)\./.exec(name)?.[1])]?.[1].send(asked, name, transport) ?? [good(asked, name)];
  });
  const clock = new ManualClock();
  const upstream = new NameServers({ clock, servers: () => [{ host: '127.0.0.1', port: server.port }] });
  t.teardown(() => upstream.stop());
  const own = new Set([OWN]);
  const resolver = new Resolver({
    egress: 'internet',
    rules: () => dns.rulesOf(['*:*']),
    clock,
    ask: (asked) => upstream.ask(asked),
    addressesOf: () => null,
    ownAddresses: () => own,
  });
  const ask = (name: string) =>
    within(20_000, name, resolver.answer(bytesOf(query(name)), { transport: 'tcp', onRefused: () => undefined }));
  for (const [index, [what, { shown }]] of rows.entries()) {
    const name = `row${index}.example.org`;
    for (const turn of ['first', 'again']) {
      const bytes = await ask(name);
      t.is(dns.shown(bytes), shown.replaceAll('<name>', name), `${what}, ${turn}`);
      t.false(hasRefused(bytes), `${what}, ${turn}`);
    }
  }
});
