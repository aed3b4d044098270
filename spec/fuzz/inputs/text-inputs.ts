/** Inputs for the targets of what people write: channels and forwards, and of lines of hybrid vsock and logs. */
import fc from 'fast-check';
import { CHANNEL_KINDS } from '../../../lib/channel/kinds.js';
import { ENDPOINT_KINDS } from '../../../lib/forward/endpoint-kinds.js';
import { after, choice, tokens } from './pieces.js';

const ADDRESSES = ['/run/vm1.sock', '/a,,b', '127.0.0.1', 'localhost', '[::1]', '[fe80::1%eth0]', '[a]', '[a[b]', '3'];
const SIGNS = [':', ',', ',,', '=', '-', ':-', '[', ']', '/', '*', ' ', '\n', '\0', '\u001b[2J', '%', '.', '$$'];
const NUMBERS = ['0', '1', '22', '22', '65535', '65536', '4096', '4294967295', '4294967296', '007', '-1', '1e3'];
const CHANNEL_OPTIONS = [
  'frame=4096',
  'in-flight=1024',
  'integrity=frame',
  'integrity=full',
  'baud=9600',
  'frame=',
  'x=1',
];
const FORWARD_OPTIONS = [
  ...['mode=0660', 'mode=999', 'user=root', 'group=7', 'rotate=10M', 'rotate=1G', 'rotate=4095', 'keep=5', 'keep=0'],
  ...['22=ssh', '01=x', '1=X'],
];
const SERVICES = ['ssh', 'ssh', 'ssh', 'a.b_c-d', '*', '*', 'a'.repeat(64), 'SSH', ''];

const kindOf = (names: Iterable<string>): string[] => [...names].map((name) => `${name}:`);
const joined = (parts: readonly fc.Arbitrary<Buffer>[]): fc.Arbitrary<Buffer> =>
  fc.tuple(...parts).map((list) => Buffer.concat(list));
const one = (texts: readonly string[]): fc.Arbitrary<Buffer> =>
  fc.constantFrom(...texts).map((text) => Buffer.from(text));
const port = fc.constantFrom(...NUMBERS).map((number) => `:${number}`);
// An address, the empty port that may follow it, a port.
const plainAddress = fc
  .tuple(fc.constantFrom(...ADDRESSES), fc.constantFrom('', ':-', ':-:-'), fc.oneof(port, port, fc.constant('')))
  .map((parts) => Buffer.from(parts.join('')));
const address = fc.oneof(plainAddress, tokens([...ADDRESSES, ...ADDRESSES, ...SIGNS, ':', ':', ...NUMBERS], 6));
const options = (known: readonly string[]): fc.Arbitrary<Buffer> =>
  fc
    .oneof(fc.constant([]), fc.array(fc.constantFrom(...known, ...known, ...SIGNS), { maxLength: 4 }))
    .map((list: readonly string[]) => Buffer.from(list.map((option) => `,${option}`).join('')));

const channel = joined([one(kindOf(CHANNEL_KINDS.keys())), address, options(CHANNEL_OPTIONS)]);
const forward = joined([
  one(SERVICES),
  one([':']),
  one(['', '', ...kindOf(Object.keys(ENDPOINT_KINDS))]),
  address,
  options(FORWARD_OPTIONS),
]);

const GOOD_CHANNELS = [
  'unix-listen:/run/a,,b:-:-,frame=4096,integrity=full',
  'tcp-connect:[fe80::1%eth0]:9000,in-flight=65536',
  'tty-open:/dev/ttyS1:-,baud=115200,frame=8192',
  'vsock-mux-connect:/run/vm:-:-:1234,integrity=full',
  'vsock-connect:2:1234',
  'exec:ssh -o A=b,,c host,frame=4096',
  'unix:////run/a%2Cb:-?frame=4096&integrity=full',
  'tcp://[::1]:9000?streams=9',
  'vsock://2:4294967294',
  'ssh://u%20x@h:22/run/a%20b?in-flight=65536',
  'libvirt:a::b:org.vproxy.0,uri=qemu+unix:///system?socket=/a,,b',
  'qemu:-chardev "socket,id=c0,path=/run/a,,b,server=on,wait=off,frame=4096" \\',
  'qemu:tcp:[::1]:9000,server,nowait,streams=9',
  'qemu:socket,host=0.0.0.0,port=9000,reconnect=10,in-flight=65536',
];
const CHARDEVS = [
  'socket',
  'unix:',
  'tcp:',
  'pipe',
  'pipe:',
  'pty',
  'pty:',
  'path=/a',
  'host=',
  'port=1',
  'server',
  'nowait',
];
const GOOD_FORWARDS = [
  'x:/run/a,,b:-:-,mode=0660,user=root,group=7',
  '*:vsock-mux:/run/vm:-:-,22=ssh,4294967295=x,mode=600',
  'x:vsock-mux:/run/vm:-:-:1234',
  'x:file:/var/log/a,,b,rotate=10M,keep=7',
  'x:file:/var/log/a,rotate=4097',
  'x:exec:a,b ,, c',
  'x:tcp:[fe80::1%eth0]:22',
];

export const channelInputs = fc.oneof(
  one(GOOD_CHANNELS),
  channel,
  joined([one(['qemu:']), tokens([...CHARDEVS, ...CHARDEVS, ...SIGNS, ',', ',', ',', ...CHANNEL_OPTIONS])]),
  tokens([...kindOf(CHANNEL_KINDS.keys()), ...ADDRESSES, ...SIGNS]),
);

/** Forwards, each after its direction. */
export const forwardInputs = after(choice(1), fc.oneof(one(GOOD_FORWARDS), forward, address));

const UNITS = ['\\', '\n', '\t', '\u001b[2J', '\u202e', '\u2028', '\ufeff', '\ud83d', '\udcbe', '\u{1f4be}', '\u007f'];

/** Texts for the log, as UTF-16. */
export const logInputs = after(
  choice(255),
  fc
    .array(fc.oneof(fc.constantFrom(...UNITS), fc.string({ unit: 'binary', maxLength: 8 })), { maxLength: 40 })
    .map((list) => Buffer.from(list.join(''), 'utf16le')),
);

const PIECES_OF_XML = [
  ...['<a>', '</a>', '<b ', '/>', '>', 'c="', "c='", '"', "'", ' d=', '<!--', '-->', '<![CDATA[', ']]>', '<?', '?>'],
  ...['&lt;', '&amp;', '&#10;', '&#x26;', '&#xd800;', '&x;', '&', ';', '<!DOCTYPE a>', '<', '\ufeff', 'text'],
];
const GOOD_XML = [
  '<a b="&amp;&#10;\'" c=\'"\'><!-- <x> --><b/><![CDATA[<x>]]></a>',
  '<?xml version="1.0"?><domain id="1"><devices><channel type="unix"/></devices></domain>',
];

/** Documents of XML. */
export const xmlInputs = fc.oneof(
  one(GOOD_XML),
  joined([one(['<a>', '<a b="']), tokens(PIECES_OF_XML, 12), one(['</a>', '"/>'])]),
);
