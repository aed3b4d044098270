/** Who may ask `vproxy web`. */
import type { IncomingMessage } from 'node:http';
import test from 'ava';
import { Guard } from '../../web/server/guard.js';

const HOST = 'vproxy.localhost:8080';

function guardAt(isLocal = true): { guard: Guard; cookie: string } {
  const guard = new Guard({ isLocal, isEncrypted: false });
  guard.port = 8080;
  return { guard, cookie: guard.cookie.split(';')[0] ?? '' };
}

const request = (headers: Readonly<Record<string, string>>, url = '/api/machines', method = 'GET') =>
  ({ method, url, headers: { host: HOST, ...headers } }) as unknown as IncomingMessage;

test('only requests with the token, from the page that was served, pass', (t) => {
  const { guard, cookie } = guardAt();
  const kindOf = (headers: Readonly<Record<string, string>>, url?: string, method?: string, isUpgrade?: boolean) =>
    guard.judge(request(headers, url, method), isUpgrade).kind;
  t.is(kindOf({}), 'stranger');
  t.is(kindOf({ cookie }), 'pass');
  t.is(kindOf({ cookie: `other=1; ${cookie}` }), 'pass');
  t.is(kindOf({ cookie: `${cookie}x` }), 'stranger');
  // As long as the right one.
  t.is(kindOf({ cookie: cookie.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A')) }), 'stranger');
  t.is(kindOf({ cookie: cookie.replace('8080', '8081') }), 'stranger');
  t.is(kindOf({ cookie: 'vproxy-web-8080=' }), 'stranger');
  const own = { cookie, origin: `http://${HOST}` };
  for (const origin of ['http://evil.example', 'null', `http://${HOST}.evil`, 'http://vproxy.localhost:8081', '']) {
    t.is(kindOf({ cookie, origin }), 'refused', origin);
    t.is(kindOf({ ...own, origin }, '/p/a/v1/terminal', 'GET', true), 'refused', origin);
  }
  for (const site of ['cross-site', 'same-site']) t.is(kindOf({ cookie, 'sec-fetch-site': site }), 'refused', site);
  for (const site of ['same-origin', 'none']) t.is(kindOf({ cookie, 'sec-fetch-site': site }), 'pass', site);
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
    t.is(kindOf(own, '/p/a/v1/jobs', method), 'refused', method);
    t.is(kindOf({ ...own, 'vproxy-web': '1' }, '/p/a/v1/jobs', method), 'pass', method);
  }
  // A browser tells the origin of every WebSocket.
  t.is(kindOf({ cookie }, '/p/a/v1/terminal', 'GET', true), 'refused');
  t.is(kindOf(own, '/p/a/v1/terminal', 'GET', true), 'pass');
});

test('the link lets in, wherever it was followed, and only at the page itself', (t) => {
  const { guard } = guardAt();
  const link = `/?token=${guard.token}`;
  t.is(guard.judge(request({}, link)).kind, 'enter');
  t.is(guard.judge(request({ 'sec-fetch-site': 'cross-site' }, link)).kind, 'enter');
  t.is(guard.judge(request({}, `/?token=${guard.token.slice(1)}`)).kind, 'stranger');
  t.is(guard.judge(request({}, `/api/machines?token=${guard.token}`)).kind, 'stranger');
  t.is(guard.judge(request({ 'vproxy-web': '1' }, link, 'POST')).kind, 'stranger');
  t.regex(guard.token, /^[\w-]{43}$/);
  t.not(new Guard({ isLocal: true, isEncrypted: false }).token, guard.token);
  t.regex(guard.cookie, /^vproxy-web-8080=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict$/);
  t.regex(new Guard({ isLocal: false, isEncrypted: true }).cookie, /; Secure$/);
});

test('on loopback, only Hosts of this machine are served', (t) => {
  const { guard, cookie } = guardAt();
  for (const host of ['vproxy.localhost:8080', 'localhost', 'LOCALHOST:1', '127.0.0.1:8080', '127.9.9.9', '[::1]:8080'])
    t.is(guard.judge(request({ cookie, host })).kind, 'pass', host);
  for (const host of [
    '',
    'evil.example',
    '192.0.2.1:8080',
    '[::2]:8080',
    'localhost.evil.example',
    '127.0.0.1.evil',
    '[x]',
    'a:b:c',
  ])
    t.is(guard.judge(request({ cookie, host })).kind, 'refused', host);
  const public_ = guardAt(false);
  t.is(public_.guard.judge(request({ cookie: public_.cookie, host: 'vm.example' })).kind, 'pass');
});
