/** Addresses: texts, networks, and special ranges, compared with Node's own. */

import { spawnSync } from 'node:child_process';
import net, { BlockList } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import fc from 'fast-check';
import {
  contains,
  embeddedAddress,
  isWide,
  networkAround,
  OwnAddresses,
  SPECIAL_RANGES,
  specialRangeOf,
} from '../../../lib/forward/egress/networks.js';
import { formatAddress, parseAddress } from '../../../lib/util/addresses/host-port.js';
import { PROJECT_ROOT } from '../../helpers/files.js';
import { testWith } from '../../helpers/test-with.js';
import { ManualClock } from '../../helpers/time.js';

const bytesOf = (text: string): Uint8Array => parseAddress(text) ?? fail(text);
const fail = (text: string): never => {
  throw new Error(`${text} is no address`);
};

/** Bytes of an address, with zeros and special prefixes more often than by chance. */
const byte = fc.oneof(fc.constant(0), fc.constantFrom(255, 254, 1, 127, 169, 0x5e), fc.integer({ min: 0, max: 255 }));
const address4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
const address6 = fc.array(byte, { minLength: 16, maxLength: 16 }).map((bytes) => Uint8Array.from(bytes));

test('an address has one text, which parses back, and equals that of Node and of a URL', (t) => {
  fc.assert(
    fc.property(fc.oneof(address4, address6), (bytes) => {
      const text = formatAddress(bytes);
      t.deepEqual(parseAddress(text), bytes);
      t.is(net.isIP(text), bytes.length === 4 ? 4 : 6);
      if (!text.includes('.')) t.is(new URL(`http://[${text}]/`).hostname, `[${text}]`);
    }),
    { numRuns: 10_000 },
  );
  // RFC 5952, section 5.
  for (const text of ['::ffff:7f00:1', '0:0:0:0:0:ffff:127.0.0.1'])
    t.is(formatAddress(bytesOf(text)), '::ffff:127.0.0.1', text);
});

const piece = fc.oneof(
  fc.constantFrom('::', ':', '.', '1.2.3.4', '255', '256', '0', '00', '01', '%', '/', ' ', 'g', '::ffff:', '0x1'),
  fc.integer({ min: 0, max: 0xfffff }).map((value) => value.toString(16)),
);

test('a text is an address exactly if it is one for Node, except for zones', (t) => {
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 16 }), (pieces) => {
      const text = pieces.join('');
      t.is(parseAddress(text) !== null, net.isIP(text) !== 0 && !text.includes('%'), text);
    }),
    { numRuns: 20_000 },
  );
  t.is(parseAddress('fe80::1%eth0'), null);
  for (const text of '1:2:3:4::5:6:7:8 ::1:2:3:4:5:6:7:8 1:2:3:4:5:6:7:8:: 1:2:3:4:5:6:1.2.3.4:: 1.2.3.4::'.split(' '))
    t.is(parseAddress(text), null, text);
  for (const text of '::2:3:4:5:6:7:8 1:2:3:4:5:6:7:: 1:2:3:4:5:6:1.2.3.4 ::1.2.3.4'.split(' '))
    t.not(parseAddress(text), null);
});

test('a network contains exactly the addresses that it contains for Node', (t) => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.tuple(address4, fc.integer({ min: 0, max: 32 })),
        fc.tuple(address6, fc.integer({ min: 0, max: 128 })),
      ),
      fc.nat(127),
      ([bytes, prefix], flipped) => {
        const network = networkAround(bytes, prefix);
        const other = Uint8Array.from(bytes);
        const bit = flipped % (8 * bytes.length);
        other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7));
        t.true(contains(network, bytes));
        t.is(contains(network, other), bit >= prefix);
      },
    ),
    { numRuns: 5000 },
  );
  t.false(contains({ address: '0.0.0.0', family: 4, prefix: 0 }, bytesOf('::')));
  t.false(contains({ address: '::', family: 6, prefix: 0 }, bytesOf('1.2.3.4')));
});

/** The ranges of a family in Node, which treats an IPv4-mapped address like the embedded one. */
function nodesRanges(family: 4 | 6): BlockList {
  const list = new BlockList();
  for (const { network } of SPECIAL_RANGES) {
    const [address = '', prefix] = network.split('/');
    if (net.isIP(address) === family) list.addSubnet(address, Number(prefix), `ipv${family}`);
  }
  return list;
}

test('an address is special exactly if a row of the table, or ISATAP, contains it', (t) => {
  const lists = { 4: nodesRanges(4), 16: nodesRanges(6) };
  // RFC 5214, section 6.1: with or without the universal bit, and with any IPv4 address, even 0.0.0.0.
  const isIsatap = (bytes: Uint8Array): boolean => /^.{16}0[02]005efe.{8}$/.test(Buffer.from(bytes).toString('hex'));
  fc.assert(
    fc.property(fc.oneof(address4, address6), (bytes) => {
      const text = formatAddress(bytes);
      const isKnown = bytes.length === 4 ? lists[4].check(text, 'ipv4') : lists[16].check(text, 'ipv6');
      const range = specialRangeOf(bytes);
      if (isKnown) t.not(range, null, text);
      else if (range !== null) t.true(isIsatap(bytes), text);
    }),
    { numRuns: 20_000 },
  );
});

test('each row of the table is a network whose first and last addresses are special', (t) => {
  for (const { network } of SPECIAL_RANGES) {
    const [address = '', digits] = network.split('/');
    const first = bytesOf(address);
    const prefix = Number(digits);
    t.is(networkAround(first, prefix).address, address, network);
    const last = first.map((value, index) => value | (0xff >> Math.min(8, Math.max(0, prefix - 8 * index))));
    for (const bytes of [first, last]) t.not(specialRangeOf(bytes), null, `${formatAddress(bytes)} of ${network}`);
  }
});

test('the narrowest row of an address is found; addresses beside the ranges are public', (t) => {
  for (const [text, network] of [
    ['0.0.0.0', '0.0.0.0/32'],
    ['0.0.0.1', '0.0.0.0/8'],
    ['255.255.255.255', '255.255.255.255/32'],
    ['::', '::/128'],
    ['2606:4700::5efe:a00:1', '2606:4700::5efe:0:0/96'],
    ['2606:4700::200:5efe:a00:1', '2606:4700::200:5efe:0:0/96'],
  ] as const)
    t.is(specialRangeOf(bytesOf(text))?.network, network, text);
  for (const text of (
    '1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 172.15.255.255 ' +
    '172.32.0.0 192.167.255.255 192.169.0.0 223.255.255.255 2606:4700::6810:85e5 2001:200:: 2001:4860:4860::8888 ' +
    '2a00:1450:4001:81b::200e 3ffe::1'
  ).split(' '))
    t.is(specialRangeOf(bytesOf(text)), null, text);
});

test('the IPv4 address in an IPv6 address is found; a public address has none', (t) => {
  const embedded = (text: string) => formatAddress(embeddedAddress(bytesOf(text)) ?? new Uint8Array(4));
  for (const text of (
    '::ffff:10.0.0.1 ::10.0.0.1 ::ffff:0:10.0.0.1 64:ff9b::10.0.0.1 64:ff9b:1::10.0.0.1 2002:a00:1::1 ' +
    '2606:4700::5efe:10.0.0.1 fe80::200:5efe:10.0.0.1'
  ).split(' '))
    t.is(embedded(text), '10.0.0.1', text);
  for (const text of ['2606:4700::6810:85e5', '10.0.0.1']) t.is(embeddedAddress(bytesOf(text)), null, text);
});

test('a network is wide if it contains a special range and more', (t) => {
  const wide = (text: string): boolean => {
    const [address = '', prefix] = text.split('/');
    return isWide(networkAround(bytesOf(address), Number(prefix)));
  };
  for (const text of ['0.0.0.0/0', '192.168.0.0/15', '128.0.0.0/1', '::/0', '2000::/3']) t.true(wide(text), text);
  for (const text of ['10.0.0.0/8', '8.0.0.0/8', '127.0.0.1/32', '2600::/12', 'fc00::/7']) t.false(wide(text), text);
});

test('the addresses of this machine are those of its interfaces', (t) => {
  const own = new OwnAddresses(new ManualClock());
  t.true(own.has('127.0.0.1'));
  t.false(own.has('127.0.0.2'));
  t.false(own.has('8.8.8.8'));
  for (const { address } of Object.values(networkInterfaces()).flatMap((all) => all ?? []))
    t.true(own.has(formatAddress(bytesOf(address))), address);
});

/** In its own network namespace: an address is added, and checked before and after a second has passed. */
const NEW_ADDRESS = `
  import { execFileSync } from 'node:child_process';
  import { OwnAddresses } from '${pathToFileURL(join(PROJECT_ROOT, 'dist/lib/forward/egress/networks.js')).href}';
  let nowMs = 0;
  const own = new OwnAddresses({ now: () => nowMs, schedule: () => () => undefined });
  const seen = [own.has('127.0.0.1')];
  execFileSync('ip', ['link', 'set', 'lo', 'up']);
  for (nowMs of [999, 1000]) seen.push(own.has('127.0.0.1'));
  console.log(JSON.stringify(seen));
`;

testWith('ip')('a new address of this machine counts as its own a second later', (t) => {
  const args = ['-rn', process.execPath, '--input-type=module', '-e', NEW_ADDRESS];
  const { stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8' });
  t.is(stdout, '[false,false,true]\n', stderr);
});
