/** docs/control.md compared with the server: it has every route and limit, and its examples work verbatim. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { ROUTES } from '../../lib/control/routes/table.js';
import { MAX_CONNECTIONS, REQUEST_TIMEOUT_MS } from '../../lib/control/server/http-service.js';
import { ERROR_CODES, VproxyError } from '../../lib/errors.js';
import { PROJECT_ROOT } from '../helpers/files.js';
import { echo, localServer, localSocket, steeredPair } from '../helpers/proxies.js';
import { testWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';

const text = readFileSync(join(PROJECT_ROOT, 'docs/control.md'), 'utf8');

interface Section {
  readonly route: string;
  readonly commands: readonly string[];
}

const sections: Section[] = text
  .split(/^###? /m)
  .filter((section) => /^(GET|POST|PUT|DELETE) /.test(section))
  .map((section) => {
    const blocks = [...section.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block = '']) => block);
    // A backslash continues the line.
    const commands = blocks.flatMap((block) => block.trimEnd().split(/(?<!\\)\n/));
    return { route: section.slice(0, section.indexOf('\n')), commands };
  });

test('every route has its section, with an example', (t) => {
  t.deepEqual(sections.map(({ route }) => route).sort(), ROUTES.map(({ method, path }) => `${method} ${path}`).sort());
  for (const { route, commands } of sections) t.true(commands.length > 0, route);
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
  t.true(text.includes(`within ${REQUEST_TIMEOUT_MS / 1000} seconds`));
});

function run(command: string, environment: Record<string, string>): Promise<{ status: number; output: string }> {
  return new Promise((resolve) => {
    const env = { ...process.env, ...environment };
    execFile('/bin/sh', ['-c', command], { env, timeout: 20_000 }, (error, stdout, stderr) => {
      const status = typeof error?.code === 'number' ? error.code : error === null ? 0 : -1;
      resolve({ status, output: stdout + stderr });
    });
  });
}

testWith('curl', 'socat')('the examples work as they stand there; the figures are those of the table', async (t) => {
  const target = await localServer(t, echo);
  const egress = { internet: { allow: ['deb.debian.org:80,443'] } };
  const { here, control } = await steeredPair(t, {
    // The first one, `f1`, is removed by an example.
    here: { outgoing: ['unused:0', 'echo:0'], egress },
    peer: { incoming: [`echo:${target.port}`], info: true },
  });
  const { path, process } = control;
  // The first stream of this side, which an example resets.
  localSocket(t, here.port('echo'));
  const stream = await eventually(() => here.proxy.listStreams().find(({ id }) => id > 0), { what: 'a stream' });
  const outputs = new Map<string, string>();
  for (const { route, commands } of sections) {
    for (const command of commands) {
      const example = command.replace('/streams/default/2', `/streams/default/${stream.id}`);
      const { status, output } = await run(example, { S: path });
      t.is(status, 0, `${command}\n${output}`);
      outputs.set(route, output);
    }
  }
  t.regex(outputs.get('GET /v1/connect') ?? '', /^HTTP\/1.1 101 .*\r\n\r\nhello\r\n$/s);
  t.regex(outputs.get('POST /v1/channels') ?? '', /"label":"vm2"/);
  const denied = '"isAllowed":false,"rule":null,"why":"169.254.169.254 is link-local';
  t.true(outputs.get('POST /v1/egress/test')?.includes(denied));
  t.regex(outputs.get('GET /v1/events') ?? '', /"event":"stream-opened"/);
  t.deepEqual(process.told, ['upgrade itself 30000', 'drain 5000', 'stop']);
  const described = [...text.matchAll(/^\| `([a-z_]+)` \| (counter|gauge) \|/gm)].map(
    ([, name, type]) => `${name} ${type}`,
  );
  const figures = outputs.get('GET /metrics') ?? '';
  const shown = [...figures.matchAll(/^# TYPE (\S+ \S+)$/gm)].map(([, line = '']) => line);
  // No session has ended yet, and no forward has datagrams.
  const absent = /^vproxy_(?:channel_session_ends|forward_datagrams(?:_dropped)?)_total /;
  const present = described.filter((line) => !absent.test(line));
  t.deepEqual(present, shown);
});
