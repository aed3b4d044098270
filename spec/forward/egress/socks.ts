/** SOCKS 5 as in RFC 1928, byte by byte. */
import test from 'ava';
import { EgressScene, OK, readAll, readUntil, sceneTo, sceneToOrigin } from '../../helpers/egress.js';
import { echo } from '../../helpers/proxies.js';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

/** A request after a greeting that offers no authentication. */
const request = (rest: string): Buffer => hex(`050100 ${rest}`);

const named = (name: string, port = '01bb'): string =>
  `05010003 ${name.length.toString(16).padStart(2, '0')}${Buffer.from(name, 'latin1').toString('hex')} ${port}`;

const AGREED = '0500';
const CONNECTED = '05000001000000000000';
const failed = (code: number): string => `${AGREED}05${code.toString(16).padStart(2, '0')}0001000000000000`;

const to = (name: string, port?: string): Buffer => request(named(name, port));
const NONE = null;
const IPV6 = '05010004 20010db8000000000000000000000001 0050';
const ROUTES = ['not-found', 'unreachable', 'refused', 'timeout', 'upstream'] as const;

/** The input; the whole answer, in hexadecimal; the dialled destination; the reason in the log. */
const ROWS: Readonly<Record<string, readonly [words: Buffer, answer: string, dialled: string | null, reason: string]>> =
  {
    'a destination that is denied': [to('denied.test'), failed(2), 'denied.test:443', 'denied'],
    'a name that is not found': [to('not-found.test'), failed(4), 'not-found.test:443', 'not-found'],
    'a destination without a route': [to('unreachable.test'), failed(3), 'unreachable.test:443', 'unreachable'],
    'a destination that refuses': [to('refused.test'), failed(5), 'refused.test:443', 'refused'],
    'a destination that does not answer': [to('timeout.test'), failed(4), 'timeout.test:443', 'timeout'],
    'an upstream proxy that fails': [to('upstream.test'), failed(1), 'upstream.test:443', 'upstream'],
    'an address of IPv4': [request('05010001 c0000201 0050'), failed(2), '192.0.2.1:80', 'denied'],
    'an address of IPv6': [request(IPV6), failed(2), '[2001:db8::1]:80', 'denied'],
    BIND: [request('05020001 c0000201 0050'), failed(7), NONE, 'not-supported'],
    'UDP ASSOCIATE': [request('05030001 00000000 0000'), failed(7), NONE, 'not-supported'],
    'an unknown command': [request('05090001 c0000201 0050'), failed(7), NONE, 'not-supported'],
    'an unknown type of address': [request('05010002 c0000201 0050'), failed(8), NONE, 'not-supported'],
    'a request of another version': [request('04010001 c0000201 0050'), failed(1), NONE, 'bad-request'],
    'a reserved byte that is not 0': [request('05010101 c0000201 0050'), failed(1), NONE, 'bad-request'],
    'port 0': [to('one.test', '0000'), failed(2), NONE, 'bad-destination'],
    'an empty name': [to(''), failed(2), NONE, 'bad-destination'],
    'a name with a NUL': [to('one.test\0x'), failed(2), NONE, 'bad-destination'],
    'a name with a line break': [to('one.test\r\nX: y'), failed(2), NONE, 'bad-destination'],
    'a name that is not UTF-8': [to('\xff\xfe.test'), failed(2), NONE, 'bad-destination'],
    'only a user name and a password are offered': [hex('050102'), '05ff', NONE, 'not-supported'],
    'no method is offered': [hex('0500'), '05ff', NONE, 'not-supported'],
    'an incomplete greeting': [hex('0503 00'), '05ff', NONE, 'bad-request'],
    'an incomplete request': [request('050100'), failed(1), NONE, 'bad-request'],
    'SOCKS 4': [hex('04010050 c0000201 00'), '005b000000000000', NONE, 'not-supported'],
  };

for (const [name, [words, answer, dialled, reason]] of Object.entries(ROWS)) {
  test(`${name} is answered with its code, and logged`, async (t) => {
    const scene = new EgressScene(t, { routes: Object.fromEntries(ROUTES.map((each) => [`${each}.test:443`, each])) });
    t.is(Buffer.from(await scene.say(words), 'latin1').toString('hex'), answer);
    t.deepEqual(scene.dialled, dialled === null ? [] : [dialled]);
    t.is(scene.refused.length, 1);
    t.like(scene.refused[0]?.facts, { reason, destination: dialled });
  });
}

/** Destinations, and requests for them. */
const CONNECTS: Readonly<Record<string, readonly Buffer[]>> = {
  'one.test:80': [to('ONE.test', '0050'), hex(`0503020001 ${named('one.test', '0050')}`)],
  'xn--bcher-kva.test:80': [to(Buffer.from('bücher.test').toString('latin1'), '0050')],
  '192.0.2.1:80': [request('05010001 c0000201 0050'), to('192.0.2.1', '0050')],
  '[2001:db8::1]:80': [request(IPV6)],
};

test('names and addresses are connected to, and bytes after the request go there', async (t) => {
  for (const [place, all] of Object.entries(CONNECTS)) {
    for (const words of all) {
      const { origin, scene } = await sceneToOrigin(t, { places: [place] });
      const told = await scene.say(Buffer.concat([words, Buffer.from('GET / HTTP/1.1\r\n\r\n')]));
      t.is(Buffer.from(told, 'latin1').toString('hex'), `${AGREED}${CONNECTED}${Buffer.from(OK).toString('hex')}`);
      t.deepEqual([origin.bytes, scene.dialled, scene.refused], ['GET / HTTP/1.1\r\n\r\n', [place], []]);
    }
  }
});

test('a request that comes after the service was taken away is not served', async (t) => {
  const { scene } = await sceneToOrigin(t);
  const guest = scene.open();
  guest.write(hex('050100'));
  await readUntil(guest, '\0');
  scene.target.pause();
  guest.write(hex(named('one.test', '0050')));
  await t.throwsAsync(readAll(guest), { message: /no longer offered/ });
  t.deepEqual(scene.dialled, []);
});

test('a program that waits for each answer is served, one byte at a time', async (t) => {
  const guest = (await sceneTo(t, echo)).open();
  const sayBytes = (text: string) => hex(text).forEach((byte) => guest.write(Buffer.from([byte])));
  sayBytes('050100');
  t.is(Buffer.from(await readUntil(guest, '\0'), 'latin1').toString('hex'), AGREED);
  sayBytes(named('one.test', '0050'));
  t.is(Buffer.from(await readUntil(guest, '\x01\0\0\0\0\0\0'), 'latin1').toString('hex'), CONNECTED);
  guest.end('hello');
  t.is((await readAll(guest)).toString(), 'hello');
});
