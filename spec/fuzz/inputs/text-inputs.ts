/** Inputs for the targets of what people write: channels and patterns; and of lines of hybrid vsock, of logs, and of XML. */
import fc from 'fast-check';
import { CHANNEL_KINDS } from '../../../lib/channel/kinds.js';
import { after, choice, decisions, tokens } from './pieces.js';

const one = (texts: readonly string[]): fc.Arbitrary<Buffer> =>
  fc.constantFrom(...texts).map((text) => Buffer.from(text));

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
const PIECES_OF_CHANNELS = [
  ...[...CHANNEL_KINDS.keys()].map((kind) => `${kind}:`),
  ...[
    '/run/vm1.sock',
    '/a,,b',
    '127.0.0.1',
    'localhost',
    '[::1]',
    '[fe80::1%eth0]',
    '[a]',
    '[a[b]',
    '3',
    '22',
    '65536',
  ],
  ...[':', ',', ',,', '=', '-', ':-', '[', ']', '/', '*', ' ', '\n', '\0', '\u001b[2J', '%', '.', '$$', '007', '-1'],
  ...[
    ',frame=4096',
    ',in-flight=1024',
    ',integrity=full',
    ',baud=9600',
    ',frame=',
    ',x=1',
    'socket',
    'server',
    'port=1',
  ],
];

export const channelInputs = fc.oneof(one(GOOD_CHANNELS), tokens(PIECES_OF_CHANNELS));

const LINES = ['CONNECT ', 'connect', 'OK ', 'OK', ' ', '\t', '\r\n', '\n', '1234', '4294967295', '4294967296', 'ssh'];

/** What is sent on a socket of hybrid vsock. */
export const hybridInputs = after(
  decisions(3),
  fc.oneof(
    tokens([...LINES, 'x'.repeat(31), 'y'.repeat(79)], 10),
    fc.nat(2 ** 33).map((number) => Buffer.from(`OK ${number}\nrest`)),
    fc.nat(2 ** 33).map((number) => Buffer.from(`CONNECT ${number}\r\nrest`)),
  ),
);

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
  after(one(['<a>', '<a b="']), after(tokens(PIECES_OF_XML, 12), one(['</a>', '"/>']))),
);

/** Patterns and texts. */
export const globInputs = tokens(['*', '?', 'a', 'b', 'a', 'b', '\n', '/c0'], 40);
