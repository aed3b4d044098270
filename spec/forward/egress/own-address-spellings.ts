/**
 * Ways to the host's own addresses: its loopback, its interfaces, its metadata service. Rules for everything public
 * must refuse each of them, whichever way in the guest takes. The rows are made by rule: a few addresses, and the
 * spellings that some program somewhere reads as one of them.
 */
import { parseAddress } from '../../../lib/util/addresses.js';

/** One way to an address of the host. */
export interface OwnAddressRow {
  /** What the guest asks for, an IPv6 address without brackets; for a `name`, what the name leads to. */
  readonly text: string;
  /**
   * `spelling`: not a plain destination, so nothing is looked up. `address`: judged as what it is. `name`: a name that
   * is allowed, and looked up once, leads there.
   */
  readonly kind: 'spelling' | 'address' | 'name';
}

/** IPv4 addresses of the host. */
const OWN_IPV4 = ['127.0.0.1', '0.0.0.0', '169.254.169.254', '192.168.122.1', '198.41.0.4'];

/** IPv6 addresses of the host. */
const OWN_IPV6 = ['::1', '::', 'fe80::5054:ff:fe12:3456', 'fd00:ec2::254', '2600:1f18::7'];

/** Those that no range gives away: only the interfaces of the host tell. */
export const OWN_PUBLIC: ReadonlySet<string> = new Set(['198.41.0.4', '2600:1f18::7']);

const bytesOf = (address: string): number[] => [...(parseAddress(address) ?? [])];
const hex = (value: number, digits = 1): string => value.toString(16).padStart(digits, '0');
const octal = (value: number): string => `0${value.toString(8)}`;
const numberOf = (bytes: readonly number[]): number => bytes.reduce((sum, byte) => sum * 256 + byte, 0);

/** A text with its digits, or its dots, replaced. */
const withDigits = (text: string, zero: string): string =>
  text.replace(/\d/g, (digit) => String.fromCodePoint((zero.codePointAt(0) ?? 0) + Number(digit)));
const circled = (text: string): string =>
  text.replace(/\d/g, (digit) => (digit === '0' ? '⓪' : String.fromCodePoint(0x245f + Number(digit))));
const percent = (text: string): string => text.replace(/./g, (sign) => `%${hex(sign.charCodeAt(0), 2)}`);

/** What inet_aton(3), a browser, or UTS 46 reads as an IPv4 address, and what a URL may have around it. */
function spellings4(address: string): string[] {
  const bytes = bytesOf(address);
  const [a = 0, b = 0, c = 0, d = 0] = bytes;
  const whole = numberOf(bytes);
  return [
    `${whole}`,
    octal(whole),
    `0x${hex(whole)}`,
    `0X${hex(whole, 8).toUpperCase()}`,
    `0x00000000${hex(whole, 8)}`,
    `${a}.${numberOf([b, c, d])}`,
    `${a}.${b}.${numberOf([c, d])}`,
    `0x${hex(a)}.${numberOf([b, c, d])}`,
    `${octal(a)}.${octal(b)}.${numberOf([c, d])}`,
    bytes.map(octal).join('.'),
    bytes.map((byte) => `0x${hex(byte)}`).join('.'),
    bytes.map((byte) => String(byte).padStart(4, '0')).join('.'),
    `0x${hex(a)}.${octal(b)}.${c}.${d}`,
    `${a}.${b}.${c}.0x${hex(d)}`,
    `${a}.${b}.${c}.${octal(d)}`,
    `${a + 256}.${b}.${c}.${d}`,
    `${whole + 2 ** 32}`,
    `${address}.`,
    `${address}..`,
    `+${address}`,
    `${address}%00.example`,
    `${address}#.example`,
    `${address}?.example`,
    `${address}/.example`,
    `user@${address}`,
    `example.org@${address}`,
    percent(address),
    address.replace(/\d/, (digit) => percent(digit)),
    address.replaceAll('.', '%2e'),
    withDigits(address, '０'),
    withDigits(address, '𝟎'),
    circled(address),
    address.replaceAll('.', '。'),
    address.replaceAll('.', '．'),
    address.replaceAll('.', '｡'),
    `${address.slice(0, 1)}\u200b${address.slice(1)}`,
    `${address.slice(0, 1)}\u00ad${address.slice(1)}`,
  ];
}

/** The prefixes of 96 bits, as groups, behind which an IPv6 address has an IPv4 address. */
const EMBEDDINGS = ['0:0:0:0:0:ffff', '0:0:0:0:0:0', '0:0:0:0:ffff:0', '64:ff9b:0:0:0:0', '64:ff9b:1:0:0:0'];
const INTERFACES = ['2606:4700:0:0:0:5efe', '2606:4700:0:0:200:5efe', 'fe80:0:0:0:0:5efe'];

/** IPv6 addresses that have an IPv4 address in them. */
function embeddings(address: string): string[] {
  const [a = 0, b = 0, c = 0, d = 0] = bytesOf(address);
  const groups = [hex((a << 8) | b), hex((c << 8) | d)];
  const flipped = [hex(((a << 8) | b) ^ 0xffff), hex(((c << 8) | d) ^ 0xffff)];
  return [
    ...[...EMBEDDINGS, ...INTERFACES].flatMap((prefix) => [
      `${prefix}:${address}`,
      `${prefix}:${groups.join(':')}`.replace(/(?:\b0:){2,}/, ':').replace(/^:(?!:)/, '::'),
    ]),
    [...(EMBEDDINGS[0] ?? '').split(':'), ...groups].map((group) => group.padStart(4, '0').toUpperCase()).join(':'),
    `2002:${groups.join(':')}::1`,
    `2001:0:${groups.join(':')}:8000:ffff:5db8:d822`,
    `2001:0:4136:e378:8000:63bf:${flipped.join(':')}`,
  ];
}

/** Texts of one IPv6 address that Node reads as that address. */
function texts6(address: string): string[] {
  const bytes = bytesOf(address);
  const groups = Array.from({ length: 8 }, (_, index) => numberOf(bytes.slice(2 * index, 2 * index + 2)));
  const full = groups.map((group) => hex(group));
  return [
    address,
    full.join(':'),
    groups.map((group) => hex(group, 4)).join(':'),
    groups.map((group) => hex(group, 4).toUpperCase()).join(':'),
    `${full.slice(0, 6).join(':')}:${bytes.slice(12).join('.')}`,
  ];
}

/** Texts that some program reads as that IPv6 address. */
function spellings6(address: string): string[] {
  return [
    `${address}%lo`,
    `${address}%1`,
    `${address}%25lo`,
    `${address}/128`,
    `[[${address}]]`,
    `0${address.startsWith(':') ? '000' : '0000'}${address}`.replace(/^0000::/, '00000::'),
    `${address}.`,
    address.replaceAll(':', '：'),
    `${address.replaceAll(':', '-')}.ipv6-literal.net%`,
  ];
}

function row(kind: OwnAddressRow['kind']): (text: string) => OwnAddressRow {
  return (text) => ({ text, kind });
}

/** Every address that the rows lead to, in a text that Node reads. */
const PLAIN = [...OWN_IPV4, ...OWN_IPV4.flatMap(embeddings), ...OWN_IPV6.flatMap(texts6)];

const ALL: readonly OwnAddressRow[] = [
  ...OWN_IPV4.flatMap(spellings4).map(row('spelling')),
  ...OWN_IPV6.flatMap(spellings6).map(row('spelling')),
  ...PLAIN.map(row('address')),
  ...PLAIN.map(row('name')),
];

/** Each row once. */
export const OWN_ADDRESS_ROWS: readonly OwnAddressRow[] = [
  ...new Map(ALL.map((one) => [`${one.kind} ${one.text}`, one])).values(),
];
