/** docs/openapi.json matches the table of routes, and every route answers as it says. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import * as z from 'zod';
import { describeRoutes } from '../../lib/control/routes/openapi.js';
import { ROUTES } from '../../lib/control/routes/table.js';
import { type Answer, openStream, startControl } from '../helpers/control.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { connectedProxies, echo, localServer, localSocket } from '../helpers/proxies.js';

interface Description {
  readonly paths: Record<
    string,
    Record<string, { readonly responses: Record<string, { readonly content?: Content }> }>
  >;
  readonly components: { readonly schemas: Record<string, unknown> };
}

type Content = Readonly<Record<string, { readonly schema: Record<string, unknown> }>>;

const text = readFileSync(join(PROJECT_ROOT, 'docs/openapi.json'), 'utf8');
const description = JSON.parse(text) as Description;

test('docs/openapi.json is what the table of routes says: npm run openapi writes it', (t) => {
  t.deepEqual(description, JSON.parse(JSON.stringify(describeRoutes(ROUTES))) as Description);
});

test('every schema that the description refers to is there', (t) => {
  const names = [...text.matchAll(/"\$ref": "#\/components\/schemas\/(\w+)"/g)].map(([, name = '']) => name);
  t.deepEqual([...new Set(names)].sort(), Object.keys(description.components.schemas).sort());
  t.false(text.includes('$defs'));
});

/** A schema of the description, as one that validates values. */
function schemaOf(schema: Record<string, unknown>): z.ZodType {
  const definitions = { ...schema, $defs: description.components.schemas };
  const local = JSON.stringify(definitions).replaceAll('#/components/schemas/', '#/$defs/');
  return z.fromJSONSchema(JSON.parse(local) as z.core.JSONSchema.JSONSchema);
}

/** The requests that try every route: its method and path in the description, and the request. */
type Trial = readonly [operation: string, url: string, body?: unknown];

test('every route answers as the description says', async (t) => {
  const folder = temporaryFolder(t);
  const target = await localServer(t, echo);
  const { a } = await connectedProxies(
    t,
    join(folder, 'c'),
    {
      outgoing: ['echo:127.0.0.1:0'],
      egress: { internet: { allow: ['127.0.0.0/8:443'], upstream: 'http://[::1]:1' } },
    },
    { incoming: [`echo:127.0.0.1:${target.port}`], info: true },
  );
  const control = await startControl(t, a.proxy);
  const local = localSocket(t, { host: '127.0.0.1', port: a.port('echo') });
  // One of the routes resets its stream.
  local.on('error', () => undefined).write('x');
  await new Promise((resolve) => local.once('data', resolve));
  const [stream] = a.proxy.listStreams();
  const trials: Trial[] = [
    ['get /v1/status', '/v1/status'],
    ['get /v1/channels', '/v1/channels'],
    ['post /v1/channels', '/v1/channels', { address: `unix-connect:${join(folder, 'd')}`, label: 'vm1' }],
    ['get /v1/channels/{label}', '/v1/channels/vm1'],
    ['delete /v1/channels/{label}', '/v1/channels/vm1?mode=now'],
    ['get /v1/forwards', '/v1/forwards'],
    ['post /v1/forwards', '/v1/forwards', { direction: 'incoming', spec: 'web:127.0.0.1:80', channel: 'default' }],
    ['delete /v1/forwards/{id}', '/v1/forwards/f2?mode=drain'],
    ['get /v1/services', '/v1/services'],
    ['get /v1/egress', '/v1/egress'],
    ['post /v1/egress/test', '/v1/egress/test', { name: 'internet', destination: '127.0.0.1:443' }],
    ['get /v1/ports', '/v1/ports'],
    ['get /v1/streams', '/v1/streams'],
    ['delete /v1/streams/{channel}/{id}', `/v1/streams/default/${stream?.id ?? 0}`],
    ['get /v1/events', '/v1/events?follow=false&replay=500'],
    ['post /v1/ping', '/v1/ping', {}],
    ['get /v1/wait', '/v1/wait?service=echo&channel=default&timeout=1'],
    ['get /v1/info', '/v1/info'],
    ['get /v1/boot', '/v1/boot?channel=default'],
    ['put /v1/log-level', '/v1/log-level', { level: 'debug' }],
    ['get /v1/config', '/v1/config'],
    ['post /v1/reload', '/v1/reload'],
    ['post /v1/upgrade', '/v1/upgrade', { program: '/usr/bin/vproxy' }],
    ['post /v1/drain', '/v1/drain', { timeoutS: 5 }],
    ['post /v1/stop', '/v1/stop'],
    ['get /v1/connect', ''],
    ['get /v1/connect/{id}', '/v1/connect/1'],
    ['get /metrics', '/metrics'],
    ['get /v1/openapi.json', '/v1/openapi.json'],
  ];
  const operations = Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method} ${path}`),
  );
  t.deepEqual(trials.map(([operation]) => operation).sort(), operations.sort());
  for (const [operation, url, body] of trials) {
    const [method = '', path = ''] = operation.split(' ');
    const [status = '', { content } = {}] = Object.entries(description.paths[path]?.[method]?.responses ?? {})[0] ?? [];
    if (status === '101') {
      t.truthy(await openStream(t, control.path, 'service=echo'));
      continue;
    }
    const answer = await control.ask(method.toUpperCase(), url, { body });
    t.is(answer.status, Number(status), `${operation}: ${answer.text}`);
    checkContent(answer, content, (what) => t.fail(`${operation}: ${what}`));
  }
  t.is(control.process.logLevel, 'debug');
  t.deepEqual(control.process.told, ['upgrade /usr/bin/vproxy 10000', 'drain 5000', 'stop']);
});

function checkContent(answer: Answer, content: Content | undefined, fail: (what: string) => void): void {
  const [type, wanted] = Object.entries(content ?? {})[0] ?? [];
  if (answer.headers['content-type'] !== type)
    fail(`${answer.headers['content-type'] ?? 'nothing'} is not ${type ?? ''}`);
  if (type === undefined || wanted === undefined) {
    if (answer.text !== '') fail('there is a body');
    return;
  }
  const lines = type === 'application/x-ndjson' ? answer.text.trimEnd().split('\n') : [answer.text];
  for (const line of lines) {
    const { error } = schemaOf(wanted.schema).safeParse(type.startsWith('text/') ? line : JSON.parse(line));
    if (error !== undefined) fail(z.prettifyError(error));
  }
}
