/** Ports that appear by themselves, between two processes of the real command line; what listens is a third one. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connectControl } from '../../lib/control/client/client.js';
import { temporaryFolder } from '../helpers/files.js';
import { freePort } from '../helpers/ports.js';
import { processPair } from '../helpers/process-pair.js';
import { failureOf, localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { upgrade } from '../helpers/upgrades.js';
import { runVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

/** An echo in a process that is called `echo-program`. */
const PROGRAM = `process.title = 'echo-program';
  require('net').createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => {}).pipe(socket))
    .listen(Number(process.argv[1]), '127.0.0.1', () => console.log('listening'));`;

async function startProgram(t: ExecutionContext, port: number): Promise<ChildProcess> {
  const child = spawn(process.execPath, ['-e', PROGRAM, String(port)], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

/** A host and a guest on one machine: only `port` is announced, so the host listens for it at another one, which is not. */
async function setUp(t: ExecutionContext, forwarding = (port: number): string => String(port)) {
  const port = await freePort();
  const folder = temporaryFolder(t);
  const [host, guest] = [join(folder, 'host.sock'), join(folder, 'guest.sock')];
  const pair = await processPair(t, {
    host: ['--control', host, '--forward-ports', forwarding(port)],
    guest: ['--control', guest, '--announce-ports', String(port)],
  });
  await Promise.all([pair.host, pair.guest].map((side) => side.waitForLine(TAKING_CONTROL)));
  const run = (...words: readonly string[]) => runVproxy(words, { env: { VPROXY_SOCKET: host } });
  return { port, folder, pair, host, guest, run, client: connectControl(host) };
}

/** Where the host listens for a port. */
const appeared = (client: ReturnType<typeof connectControl>): Promise<string> =>
  eventually(async () => (await client.ports()).find(({ endpoint }) => endpoint !== null)?.endpoint, {
    what: 'a port',
  });

const numberOf = (endpoint: string): number => Number(/^127\.0\.0\.\d:(\d+)$/.exec(endpoint)?.[1]);

test.serial('a program that listens at the peer is here while it does, and vproxy ports shows it', async (t) => {
  const { port, run, client, guest, pair } = await setUp(t);
  const { stdout: nothing } = await run('ports');
  t.is(nothing, 'No ports are announced, here or by a peer.\n');
  const program = await startProgram(t, port);
  const endpoint = await appeared(client);
  const here = numberOf(endpoint);
  t.true(here > port && here < port + 64);
  const socket = localSocket(t, { host: '127.0.0.1', port: here });
  socket.write('over there');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  t.is(answer.toString(), 'over there');
  const digits = String(port);
  const table = (by: string, address: string) =>
    [
      `CHANNEL  ${'PORT'.padStart(digits.length)}  PROGRAM       ANNOUNCED BY  ${'HERE'.padEnd(address.length)}  STREAMS`,
      `default  ${digits}  echo-program  ${by.padEnd(12)}  ${address}        1`,
      '',
    ].join('\n');
  t.is((await run('ports', 'default')).stdout, table('peer', endpoint));
  t.is((await run('ports', '--socket', guest)).stdout, table('here', `127.0.0.1:${port}`));
  const { stdout: json } = await run('ports', '--json');
  const [shown] = JSON.parse(json) as { readonly forward: string }[];
  t.deepEqual(JSON.parse(json), [
    {
      channel: 'default',
      port,
      program: 'echo-program',
      announcedBy: 'peer',
      endpoint,
      forward: shown?.forward,
      streams: 1,
    },
  ]);
  const missing = await run('ports', 'vm7');
  t.deepEqual([missing.code, missing.stderr], [69, 'vproxy: error: there is no channel vm7; there are: default\n']);
  const end = failureOf(socket).catch((error: unknown) => error);
  program.kill('SIGKILL');
  await end;
  await eventually(async () => (await client.ports()).length === 0);
  await eventually(
    async () => (await failureOf(localSocket(t, { host: '127.0.0.1', port: here }))).code === 'ECONNREFUSED',
  );
  const said = (lines: readonly string[]) => lines.filter((line) => / port \d+ \(/.test(line));
  t.deepEqual(said(pair.host.lines), [
    `vproxy: port ${port} (echo-program) of the peer is at ${endpoint} here, as ${port} is taken`,
    `vproxy: port ${port} (echo-program) of the peer is at ${endpoint} no more`,
  ]);
  t.deepEqual(said(pair.guest.lines), [
    `vproxy: port ${port} (echo-program) is announced to the peer`,
    `vproxy: port ${port} (echo-program) is announced no more`,
  ]);
});

test.serial('with dir= ports are sockets in a folder of the channel, which goes with them', async (t) => {
  const root = join(temporaryFolder(t), 'run');
  const { port, client, pair } = await setUp(t, (number) => `${number},dir=${root}/{channel}/ports`);
  await startProgram(t, port);
  const path = join(root, 'default/ports', `${port}.sock`);
  t.is(await appeared(client), path);
  const socket = localSocket(t, { path });
  socket.end('hello');
  t.is((await readToEnd(socket)).toString(), 'hello');
  pair.host.kill('SIGTERM');
  await pair.host.exited;
  t.false(existsSync(join(root, 'default/ports')));
});

test.serial('an upgrade of either side keeps the listener and its streams, and what comes later', async (t) => {
  const { port, client, host, guest } = await setUp(t);
  const program = await startProgram(t, port);
  const here = numberOf(await appeared(client));
  const socket = localSocket(t, { host: '127.0.0.1', port: here });
  const echoes = async (text: string): Promise<void> => {
    const answer = once(socket, 'data');
    socket.write(text);
    t.is(String((await answer)[0]), text);
  };
  await echoes('one');
  const before = await client.ports();
  for (const side of [host, guest, host]) {
    const { streams } = await upgrade(t, side);
    t.is(streams, 1);
    await echoes('two');
    t.deepEqual(await client.ports(), before);
  }
  const again = localSocket(t, { host: '127.0.0.1', port: here });
  again.end('three');
  t.is((await readToEnd(again)).toString(), 'three');
  program.kill('SIGKILL');
  await eventually(async () => (await client.ports()).length === 0);
});

test.serial('a reload of either side puts other ports in force, and ends no session', async (t) => {
  const folder = temporaryFolder(t);
  const port = await freePort();
  const files = ['host', 'guest'].map((name) => join(folder, `${name}.toml`)) as [string, string];
  const write = (file: string, setting: string): void => writeFileSync(file, setting === '' ? '' : `${setting}\n`);
  write(files[0], '');
  write(files[1], '');
  const sockets = ['host', 'guest'].map((name) => join(folder, `${name}.sock`)) as [string, string];
  const pair = await processPair(t, {
    host: ['--control', sockets[0], '--config', files[0]],
    guest: ['--control', sockets[1], '--config', files[1]],
  });
  await Promise.all([pair.host, pair.guest].map((side) => side.waitForLine(TAKING_CONTROL)));
  const [host, guest] = [connectControl(sockets[0]), connectControl(sockets[1])];
  await startProgram(t, port);
  write(files[1], `announce-ports = "${port}"`);
  await guest.reload();
  await eventually(async () => (await host.ports()).length === 1);
  t.is((await host.ports())[0]?.endpoint, null, 'this side listens for none yet');
  write(files[0], `forward-ports = "${port},address=127.0.0.2"`);
  await host.reload();
  await appeared(host);
  t.deepEqual(((await host.config()) as { channels: object }).channels, {
    default: { ...((await host.config()) as { channels: { default: object } }).channels.default, outgoing: [] },
  });
  await host.reload();
  await appeared(host);
  write(files[0], '');
  await host.reload();
  await eventually(async () => (await host.ports())[0]?.endpoint === null);
  write(files[1], '');
  await guest.reload();
  await eventually(async () => (await host.ports()).length === 0);
  t.is((await host.channel('default')).history.sessions, 1);
});

test.serial('a rule of the port holds for its streams', async (t) => {
  const folder = temporaryFolder(t);
  const port = await freePort();
  const file = join(folder, 'guest.toml');
  writeFileSync(file, `announce-ports = "${port}"\n[services."port.${port}"]\nstreams = 1\n`);
  const socketPath = join(folder, 'host.sock');
  const pair = await processPair(t, {
    host: ['--control', socketPath, '--forward-ports', `${port},address=127.0.0.2`],
    guest: ['--config', file],
  });
  await pair.host.waitForLine(TAKING_CONTROL);
  await startProgram(t, port);
  await appeared(connectControl(socketPath));
  const first = localSocket(t, { host: '127.0.0.2', port });
  first.write('x');
  await once(first, 'data');
  t.is((await failureOf(localSocket(t, { host: '127.0.0.2', port }))).code, 'ECONNRESET');
});
