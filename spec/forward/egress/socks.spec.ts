/** SOCKS 5 as RFC 1928 has it, byte by byte. */
import test from 'ava';
import { EgressScene, OK, RecordingOrigin, readAll, readUntil } from '../../helpers/egress.js';
import { echo, localServer } from '../../helpers/proxies.js';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

/** A request behind a greeting that offers no authentication. */
const request = (rest: string): Buffer => hex(`050100 ${rest}`);

const named = (name: string, port: string): string =>
  `05010003 ${name.length.toString(16).padStart(2, '0')}${Buffer.from(name, 'latin1').toString('hex')} ${port}`;

const AGREED = '0500';
const CONNECTED = '05000001000000000000';
const failed = (code: number): string => `${AGREED}05${code.toString(16).padStart(2, '0')}0001000000000000`;

interface SocksRow {
  readonly words: Buffer;
  /** All that is answered, as hexadecimal digits. */
  readonly answer: string;
  /** What is dialled. Default: nothing. */
  readonly dialled?: string;
  /** The reason in the log. */
  readonly reason: string;
}

const ROWS: Readonly<Record<string, SocksRow>> = {
  'a destination that is denied': {
    words: request(named('denied.test', '01bb')),
    answer: failed(2),
    dialled: 'denied.test:443',
    reason: 'denied',
  },
  'a name that is not found': {
    words: request(named('none.test', '01bb')),
    answer: failed(4),
    dialled: 'none.test:443',
    reason: 'not-found',
  },
  'a destination without a route': {
    words: request(named('far.test', '01bb')),
    answer: failed(3),
    dialled: 'far.test:443',
    reason: 'unreachable',
  },
  'a destination that refuses': {
    words: request(named('shut.test', '01bb')),
    answer: failed(5),
    dialled: 'shut.test:443',
    reason: 'refused',
  },
  'a destination that does not answer': {
    words: request(named('slow.test', '01bb')),
    answer: failed(4),
    dialled: 'slow.test:443',
    reason: 'timeout',
  },
  'an upstream proxy that fails': {
    words: request(named('behind.test', '01bb')),
    answer: failed(1),
    dialled: 'behind.test:443',
    reason: 'upstream',
  },
  'an address of IPv4': {
    words: request('05010001 c0000201 0050'),
    answer: failed(2),
    dialled: '192.0.2.1:80',
    reason: 'denied',
  },
  'an address of IPv6': {
    words: request('05010004 20010db8000000000000000000000001 0050'),
    answer: failed(2),
    dialled: '[2001:db8::1]:80',
    reason: 'denied',
  },
  BIND: { words: request('05020001 c0000201 0050'), answer: failed(7), reason: 'not-supported' },
  'UDP ASSOCIATE': { words: request('05030001 00000000 0000'), answer: failed(7), reason: 'not-supported' },
  'a command that there is not': {
    words: request('05090001 c0000201 0050'),
    answer: failed(7),
    reason: 'not-supported',
  },
  'a type of address that there is not': {
    words: request('05010002 c0000201 0050'),
    answer: failed(8),
    reason: 'not-supported',
  },
  'a request of another version': {
    words: request('04010001 c0000201 0050'),
    answer: failed(1),
    reason: 'bad-request',
  },
  'a reserved byte that is none': {
    words: request('05010101 c0000201 0050'),
    answer: failed(1),
    reason: 'bad-request',
  },
  'port 0': { words: request(named('one.test', '0000')), answer: failed(2), reason: 'bad-destination' },
  'an empty name': { words: request(named('', '01bb')), answer: failed(2), reason: 'bad-destination' },
  'a name with a NUL': { words: request(named('one.test\0x', '01bb')), answer: failed(2), reason: 'bad-destination' },
  'a name with a line break': {
    words: request(named('one.test\r\nX: y', '01bb')),
    answer: failed(2),
    reason: 'bad-destination',
  },
  'a name that is no UTF-8': {
    words: request(named('\xff\xfe.test', '01bb')),
    answer: failed(2),
    reason: 'bad-destination',
  },
  'a name that is an address in an odd spelling': {
    words: request(named('0x7f.1', '01bb')),
    answer: failed(2),
    reason: 'bad-destination',
  },
  'only a user name and a password are offered': { words: hex('050102'), answer: '05ff', reason: 'not-supported' },
  'no method is offered': { words: hex('0500'), answer: '05ff', reason: 'not-supported' },
  'a greeting that breaks off': { words: hex('0503 00'), answer: '05ff', reason: 'bad-request' },
  'a request that breaks off': { words: request('050100'), answer: failed(1), reason: 'bad-request' },
  'SOCKS 4': { words: hex('04010050 c0000201 00'), answer: '005b000000000000', reason: 'not-supported' },
};

for (const [name, { answer, dialled, reason, words }] of Object.entries(ROWS)) {
  test(`${name} is answered with its code, and logged`, async (t) => {
    const scene = new EgressScene(t, {
      routes: {
        'none.test:443': 'not-found',
        'far.test:443': 'unreachable',
        'shut.test:443': 'refused',
        'slow.test:443': 'timeout',
        'behind.test:443': 'upstream',
      },
    });
    const told = await scene.say(words);
    t.is(Buffer.from(told, 'latin1').toString('hex'), answer);
    t.deepEqual(scene.dialled, dialled === undefined ? [] : [dialled]);
    t.is(scene.refused.length, 1);
    t.like(scene.refused[0]?.facts, { reason, destination: dialled ?? null });
  });
}

for (const [name, words] of Object.entries({
  'a name': request(named('ONE.test', '0050')),
  'a name in UTF-8': request(named(Buffer.from('bücher.test').toString('latin1'), '0050')),
  'an address of IPv4': request('05010001 c0000201 0050'),
  'an address of IPv4 as a name': request(named('192.0.2.1', '0050')),
  'an address of IPv6': request('05010004 20010db8000000000000000000000001 0050'),
  'a name, with further methods offered': Buffer.concat([hex('0503020001'), hex(named('one.test', '0050'))]),
})) {
  test(`${name} is connected to, and what comes behind the request goes there`, async (t) => {
    const origin = await RecordingOrigin.start(t);
    const destinations = ['one.test:80', 'xn--bcher-kva.test:80', '192.0.2.1:80', '[2001:db8::1]:80'];
    const scene = new EgressScene(t, { routes: Object.fromEntries(destinations.map((each) => [each, origin.port])) });
    const told = await scene.say(Buffer.concat([words, Buffer.from('GET / HTTP/1.1\r\n\r\n')]));
    t.is(Buffer.from(told, 'latin1').toString('hex'), `${AGREED}${CONNECTED}${Buffer.from(OK).toString('hex')}`);
    t.is(origin.bytes, 'GET / HTTP/1.1\r\n\r\n');
    t.is(scene.dialled.length, 1);
    t.deepEqual(scene.refused, []);
  });
}

test('a program that waits for each answer is served, a byte at a time', async (t) => {
  const server = await localServer(t, echo);
  const scene = new EgressScene(t, { routes: { 'one.test:80': server.port } });
  const guest = scene.open();
  for (const byte of hex('050100')) guest.write(Buffer.from([byte]));
  t.is(Buffer.from(await readUntil(guest, '\0'), 'latin1').toString('hex'), AGREED);
  for (const byte of hex(named('one.test', '0050'))) guest.write(Buffer.from([byte]));
  t.is(Buffer.from(await readUntil(guest, '\x01\0\0\0\0\0\0'), 'latin1').toString('hex'), CONNECTED);
  guest.end('hello');
  t.is((await readAll(guest)).toString(), 'hello');
});
