/** What an `origin:` reads in its own text, and in the targets of requests. */
import test from 'ava';
import { VproxyError } from '../../../lib/errors.js';
import { originForm } from '../../../lib/forward/forms/origin-form.js';
import { readTarget } from '../../../lib/forward/origin/request-target.js';

const PLAIN: readonly (readonly [target: string, path: string, sent?: string])[] = [
  ['/', '/'],
  ['/v1/messages?beta=true&x=%2e%2e/', '/v1/messages'],
  ['/v1/%6dessages', '/v1/messages', '/v1/messages'],
  ['/a%3bb;c', '/a;b;c', '/a%3Bb;c'],
  ['/a%20b', '/a b', '/a%20b'],
  ['/%c3%bc', '/ü', '/%C3%BC'],
  ['/a.b/..c/.../x', '/a.b/..c/.../x'],
  ['/a/', '/a/'],
  ['/100%25', '/100%', '/100%25'],
  ['/?', '/'],
];

test('a path is decoded once, and sent in its normal form', (t) => {
  for (const [target, path, sent = path] of PLAIN) {
    const read = readTarget(target);
    t.deepEqual([read.path, read.sentPath], [path, sent], target);
    t.is(
      `${read.sentPath}${read.query}`.slice(sent.length),
      target.includes('?') ? target.slice(target.indexOf('?')) : '',
    );
  }
});

const UNCLEAR: readonly (readonly [target: string, why: RegExp])[] = [
  ...['', '*', 'v1', 'http://a.test/v1', 'a.test:443', '?x'].map((one) => [one, /not a path/] as const),
  ...[
    '/a/../b',
    '/..',
    '/.',
    '/a/./b',
    '/%2e%2e/b',
    '/%2E./b',
    '/a/..;x/b',
    '/a/.;/b',
    '/a/..%3bx/b',
    '/a/..%20/b',
    '/%C2%A0..',
  ].map((one) => [one, /segment \. or \.\./] as const),
  ...['/a%2fb', '/a%2Fb', '/a%5cb', '/a\\b'].map((one) => [one, /slash/] as const),
  ...['//a', '/a//b', '/a//'].map((one) => [one, /empty segment/] as const),
  ...['/%', '/%2', '/%zz', '/%u002e'].map((one) => [one, /no escape/] as const),
  ...['/%252e', '/%25%32%65', '/%2541'].map((one) => [one, /twice/] as const),
  ...['/%00', '/a%0d%0ab', '/%7f'].map((one) => [one, /control/] as const),
  ...['/%c0%af', '/%ff', '/%c3'].map((one) => [one, /UTF-8/] as const),
  ['/a#b', /fragment/],
  ['/a?b#c', /fragment/],
];

test('a path that servers may read differently is refused', (t) => {
  for (const [target, why] of UNCLEAR) t.throws(() => readTarget(target), { message: why }, target);
});

const WRONG: readonly (readonly [text: string, why: RegExp])[] = [
  ['https://a.test', /missing allow=/],
  ['a.test,allow=*:/*', /not an origin/],
  ['ftp://a.test,allow=*:/*', /not an origin/],
  ['https://a.test/v1,allow=*:/*', /without a path/],
  ['https://u@a.test,allow=*:/*', /not an origin/],
  ['https://a.test:0,allow=*:/*', /not an origin/],
  ['https://[a.test],allow=*:/*', /not an origin/],
  ['https://a.test,allow=/v1', /expected METHOD:\/PATH/],
  ['https://a.test,allow=GET:v1', /not a path/],
  ['https://a.test,allow=GET:/a*b', /within/],
  ['https://a.test,allow=GET:/a?b', /other characters/],
  ['https://a.test,allow=GET:/a/../b', /segment/],
  ['https://a.test,allow=GET POST:/', /not a method/],
  ['https://a.test,allow=GET+*:/', /not a method/],
  ['https://a.test,allow=*:/*,header=host:b', /sets this field/],
  ['https://a.test,allow=*:/*,header=Transfer-Encoding:b', /sets this field/],
  ['https://a.test,allow=*:/*,header=x', /NAME:VALUE/],
  ['https://a.test,allow=*:/*,header=x:', /not a valid value/],
  ['https://a.test,allow=*:/*,header=x:@key', /not absolute/],
  ['https://a.test,allow=*:/*,header=x:a\r\nb: c', /not a valid value/],
  ['https://a.test,allow=*:/*,header=x-a:1,header=X_A:2', /given twice/],
  ['https://a.test,allow=*:/*,ca=x.pem', /absolute/],
  ['https://a.test,allow=*:/*,ca=/a,ca=/b', /given twice/],
  ['https://a.test,allow=*:/*,log=all', /log=query/],
  ['https://a.test,allow=*:/*,upgrade=a b', /protocol/],
  ['https://a.test,alow=*:/*', /did you mean allow/],
];

test('a text of a target is read whole, or refused with what is wrong', (t) => {
  for (const [text, why] of WRONG) {
    const parse = () => originForm.parse(text, 'incoming', (name) => name);
    t.throws(parse, { instanceOf: VproxyError, code: 'bad-argument', message: why }, text);
  }
  const read = originForm.parse(
    'https://[2001:db8::1]:8443,allow=GET+HEAD:/a,allow=*:/b/*,header=authorization:Bearer @/run/key',
    'incoming',
    (name) => name,
  );
  t.deepEqual(read, {
    ...{ kind: 'origin', isTls: true, host: '2001:db8::1', port: 8443 },
    allow: [
      { methods: ['GET', 'HEAD'], path: '/a', isBeginning: false, text: 'GET+HEAD:/a' },
      { methods: null, path: '/b/', isBeginning: true, text: '*:/b/*' },
    ],
    headers: [{ name: 'authorization', value: 'Bearer ', file: '/run/key' }],
  });
});
