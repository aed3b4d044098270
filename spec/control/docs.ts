/** docs/control.md compared with the server: its routes, statuses, limits and figures. A scene plays its examples. */
import test from 'ava';
import { MAX_LONG_REQUESTS } from '../../lib/control/routes/long-requests.js';
import { ROUTES } from '../../lib/control/routes/table.js';
import { MAX_CONNECTIONS, REQUEST_TIMEOUT_MS } from '../../lib/control/server/http-service.js';
import { ERROR_CODES, VproxyError } from '../../lib/errors.js';
import { projectText } from '../helpers/files.js';
import { steeredPair } from '../helpers/proxies.js';

const text = projectText('docs/control.md');

/** The routes with a heading, or an item of a list. */
const documented = [...text.matchAll(/^(?:### |- \*\*`)((?:GET|POST|PUT|DELETE) [^\n`]+)/gm)].map(
  ([, route = '']) => route,
);

/** The requests of the examples: the method and the URL's path. */
const requests = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, code = '']) =>
  code
    .replaceAll('\\\n', '')
    .split('\n')
    .map((line) => {
      const [, method, path = ''] = /(?:http:\/\/vproxy|'(GET) )([^' ?]+)/.exec(line) ?? [];
      return `${method ?? /-X (\w+)/.exec(line)?.[1] ?? (line.includes('--json') ? 'POST' : line.includes(' -T ') ? 'PUT' : 'GET')} ${path}`;
    }),
);

test('every route is described, with an example', (t) => {
  t.deepEqual(documented.sort(), ROUTES.map(({ method, path }) => `${method} ${path}`).sort());
  for (const route of documented) {
    const pattern = new RegExp(`^${route.replace(/\{\w+\}/g, '[^/]+')}$`);
    t.true(
      requests.some((request) => pattern.test(request)),
      route,
    );
  }
});

test('the table of statuses matches the codes of errors.md, and an unknown code is 503', (t) => {
  const listed = new Map<string, number>();
  for (const [, status, codes = ''] of text.matchAll(/^\| (\d{3}) \| (.*) \|$/gm)) {
    // Rows that explain whose fault it is name codes of other rows, too.
    const names = /bad-argument`:|at fault/.test(codes) ? /`(bad-file)`/g : /`([a-z-]+)`/g;
    for (const [, code = ''] of codes.matchAll(names)) listed.set(code, Number(status));
  }
  for (const code of [...Object.keys(ERROR_CODES), 'a-new-code-of-the-peer']) {
    const status = new VproxyError(code, '').row.http;
    t.is(listed.get(code) ?? (status === 500 ? 500 : 503), status, code);
  }
});

test('the limits are those of the server', (t) => {
  t.true(text.includes(`- ${MAX_CONNECTIONS} connections`));
  t.true(text.includes(`- ${MAX_LONG_REQUESTS} requests`));
  t.true(text.includes(`within ${REQUEST_TIMEOUT_MS / 1000} seconds`));
});

test('the figures are those of the table', async (t) => {
  const here = { outgoing: ['echo:0'], egress: { internet: { allow: ['deb.debian.org:80,443'] } } };
  const { client } = await steeredPair(t, { here });
  const rows = [...text.matchAll(/^\| `([a-z_]+)` \| (counter|gauge|histogram) \|/gm)];
  const shown = [...(await client.metrics()).matchAll(/^# TYPE (\S+ \S+)$/gm)].map(([, line = '']) => line);
  // No session has ended and no forward has datagrams yet; nothing was refused, called or measured.
  const absent =
    /^vproxy_(?:channel_session_ends|forward_datagrams|service_re|resolver|storage|exec|cop|egress)|histogram$/;
  t.deepEqual(
    rows.map(([, name, type]) => `${name} ${type}`).filter((line) => shown.includes(line) || !absent.test(line)),
    shown,
  );
});
