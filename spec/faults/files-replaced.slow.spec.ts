/**
 * The files of the program are removed while it runs, as an update of the package does, or overwritten in place, as `cp` does: it
 * continues as before.
 */

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import WebSocket from 'ws';
import { describeAgent } from '../../cli/package-info.js';
import { connectControl } from '../../lib/control/client/client.js';
import { collectOutput } from '../../lib/services/exec/exec-call.js';
import { ask, openStream, routeRequests, startControl } from '../helpers/control.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { freezableMachine } from '../helpers/freezable-machine.js';
import { ask as askEcho, echo, endsInOrder, localServer, startProxy } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { upgrade } from '../helpers/upgrades.js';
import { isRunning, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

/**
 * A process of a copy of the program, with a session; before the first request `change` is called with the folder of the copy, by
 * default to remove it. `configure` writes its file with these lines in front of the channel. Its peer is part of the test.
 */
async function setUp(
  t: ExecutionContext,
  settings: readonly string[] = [],
  change = (program: string): void => rmSync(program, { recursive: true }),
) {
  const folder = temporaryFolder(t);
  const at = (name: string) => join(folder, name);
  const program = temporaryFolder(t);
  cpSync(join(PROJECT_ROOT, 'dist/program'), join(program, 'dist/program'), { recursive: true });
  symlinkSync(join(PROJECT_ROOT, 'node_modules'), join(program, 'node_modules'));

  const target = await localServer(t, echo);
  const offered = { incoming: [`echo:${target.port}`], info: true, copy: { root: temporaryFolder(t) } };
  const peer = await startProxy(t, `unix-connect:${at('channel')}`, offered);
  const { service } = freezableMachine(t);
  peer.proxy.serve('freeze', (stream) => service.serve(stream));
  const configure = (...lines: readonly string[]) => {
    const channel = ['[channels.default]', `address = "unix-listen:${at('channel')}"`, 'outgoing = ["echo:0"]', ''];
    writeFileSync(at('vproxy.toml'), [...lines, ...channel].join('\n'));
  };
  configure(...settings);
  const words = ['--config', at('vproxy.toml'), '--control', at('control.sock'), '--metrics', '127.0.0.1:0'];
  const host = spawnVproxy(t, words, { program: [process.execPath, join(program, 'dist/program/vproxy.cjs')] });
  await peer.event('session-established');
  const [, metricsUrl = ''] = await host.waitForLine(/serving metrics at (\S+)/);
  await host.waitForLine(TAKING_CONTROL);
  change(program);
  const { path: peerControl } = await startControl(t, peer.proxy);
  return { host, control: at('control.sock'), peerControl, metricsUrl, at, configure };
}

/** Requests that fail here; all others succeed. */
const STATUSES: Readonly<Record<string, number>> = {
  'get /v1/connect': 426,
  'get /v1/terminal': 426,
  'delete /v1/streams/{channel}/{id}': 404,
  'post /v1/egress/answer': 404,
  'post /v1/upgrade': 409,
  // The peer does not allow commands.
  'post /v1/exec': 403,
  'post /v1/jobs': 403,
  'get /v1/jobs': 403,
  'get /v1/jobs/{id}/output': 403,
  'delete /v1/jobs/{id}': 403,
};

test('every request is answered, including the first', async (t) => {
  const { host, control, metricsUrl } = await setUp(t, ['[egress.internet]', 'allow = ["127.0.0.1:443"]']);
  const stream = await openStream(t, control, 'service=echo');
  t.true(await endsInOrder(stream));
  const webSocket = new WebSocket(`ws+unix:${control}:/v1/connect?service=echo`);
  await once(webSocket, 'open');
  webSocket.close();
  t.is((await fetch(metricsUrl)).status, 200);
  for (const [route, url, body] of routeRequests(77, '0123abcd')) {
    if (route === 'post /v1/stop') continue;
    const [method = ''] = route.split(' ');
    const { status, text } = await ask({ socketPath: control }, method.toUpperCase(), url, { body });
    t.is(status < 300 ? undefined : status, STATUSES[route], `${route}: ${text}`);
  }
  t.deepEqual(await host.exited, { code: 0, signal: null });
});

test('the peer runs commands, also in a terminal, and copies files', async (t) => {
  const { host, peerControl, at } = await setUp(t, ['allow-exec = true', 'allow-copy = true']);
  const terminal = { term: 'xterm', columns: 80, rows: 24 };
  const call = await connectControl(peerControl).exec(['tty'], { terminal, hasInput: false });
  t.regex(String((await collectOutput(call)).stdout), /^\/dev\/pts\/\d+/);
  await checkCommandAndCopy(t, peerControl, at);
  t.deepEqual(await host.stop(), { code: 0, signal: null });
});

async function checkCommandAndCopy(
  t: ExecutionContext,
  peerControl: string,
  at: (name: string) => string,
): Promise<void> {
  const { stdout } = await collectOutput(await connectControl(peerControl).exec(['echo', 'run']));
  t.is(stdout.toString(), 'run\n');
  mkdirSync(at('from'));
  writeFileSync(at('from/file'), 'copied');
  const words = ['copy', at('from'), `default:${at('to')}`];
  await promisify(execFile)(process.execPath, [join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), ...words], {
    env: { ...process.env, VPROXY_SOCKET: peerControl },
  });
  t.is(readFileSync(at('to/file'), 'utf8'), 'copied');
}

test('a reload works, and newly permitted services are served', async (t) => {
  const { host, control, peerControl, configure, at } = await setUp(t);
  configure('allow-exec = true', 'allow-copy = true', 'log-level = "debug"');
  host.kill('SIGHUP');
  await host.waitForLine(/reloaded: rules changed: default\/exec default\/copy/);
  await eventually(async () => (await connectControl(peerControl).services()).length >= 3);
  await checkCommandAndCopy(t, peerControl, at);

  t.is(await askEcho(t, await host.listeningPort('echo')), 'hello');
  t.is((await connectControl(control).status()).channels.length, 1);
  t.deepEqual(await host.stop(), { code: 0, signal: null });
});

/** The same program as another build: the version differs, and so does the place of each part. */
function overwrite(program: string): void {
  const shift = 'module.exports={\n';
  for (const name of ['library', 'program', 'vproxy'].map((one) => join(program, `dist/program/${one}.cjs`))) {
    const text = readFileSync(name, 'utf8').replaceAll(JSON.stringify(describeAgent().split(' ')[1]), '"9.9.9"');
    const moved = text
      .replace(shift, `${shift}${' '.repeat(5000)}\n`)
      .replace(/^const PARTS = (.*);$/m, (_, json: string) => {
        const places = Object.entries(JSON.parse(json) as Record<string, [number, number, number, number]>);
        const later = places.map(([part, [file, offset, length, line]]) => [
          part,
          [file, offset + 5001, length, line + 1],
        ]);
        return `const PARTS = ${JSON.stringify(Object.fromEntries(later))};`;
      });
    writeFileSync(name, moved);
  }
}

test('after another build is copied over its files, it answers, runs commands, upgrades to that build and stops', async (t) => {
  const { host, control, peerControl } = await setUp(t, ['allow-exec = true'], overwrite);
  const client = connectControl(control);
  t.is((await client.status()).process.version, describeAgent());
  const run = async () => String((await collectOutput(await connectControl(peerControl).exec(['echo', 'run']))).stdout);
  t.is(await run(), 'run\n');
  const { pid, version, sessions } = await upgrade(t, control);
  t.deepEqual([version, sessions], ['vproxy 9.9.9', 1]);
  t.is((await client.status()).process.version, 'vproxy 9.9.9');
  t.is(await run(), 'run\n');
  await client.stop();
  await eventually(() => !isRunning(pid), { what: 'its end' });
  t.deepEqual(await host.exited, { code: 0, signal: null });
});

test('nothing else in the library is loaded late', (t) => {
  const lib = join(PROJECT_ROOT, 'dist/lib');
  const files = readdirSync(lib, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js'));
  const late = files.filter((name) => /\bimport\((?!['"]node:)/.test(readFileSync(join(lib, name), 'utf8')));
  t.deepEqual(late.sort(), [
    // Loaded for a call about jobs; a failure is that of the call.
    'control/client/client.js',
    // Loaded for the first WebSocket; a failure is the answer 500.
    'control/routes/connect.js',
    // Loaded for the first connection; a failure is a log line and the answer 500.
    'control/server/control-server.js',
    // Loaded if permitted; a failure is a log line and a refused stream.
    // Loaded if terminals are recorded; a failure is a log line.
    'proxy/services/recordings.js',
    'services/permitted.js',
    // Loaded with its user: the service exec, or an AF_VSOCK channel, which waits or fails without it.
    'system/libc.js',
    // Loaded with libc.js.
    'system/processes/pipes.js',
  ]);
});
