/** Announced ports between two processes of the real command line; a third process listens. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { ControlClient } from '../../lib/control/client/client.js';
import { AS_GUEST, buildGuest } from '../guest-program/build.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { temporaryFolder } from '../helpers/files.js';
import { freePort } from '../helpers/ports.js';
import { type PairSetup, processPair } from '../helpers/process-pair.js';
import { answerTo, ask, failureOf, localSocket, refusal } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { upgrade } from '../helpers/upgrades.js';

/** An echo server in a process named `echo-program`. */
const PROGRAM = `process.title = 'echo-program';
  require('net').createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => {}).pipe(socket))
    .listen(Number(process.argv[1]), '127.0.0.1', () => console.log('listening'));`;

async function startProgram(t: ExecutionContext, port: number): Promise<ChildProcess> {
  const child = spawn(process.execPath, ['-e', PROGRAM, String(port)], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

/** A host and a guest on one machine: only `port` is announced, so the host listens on another one for it. */
async function setUp(t: ExecutionContext, forwarding = (port: number): string => String(port), setup: PairSetup = {}) {
  const port = await freePort();
  const announced = ['--announce-ports', String(port)];
  const { host, guest, sockets, clients, env } = await processPair(t, {
    ...{ control: 'both', host: ['--forward-ports', forwarding(port)], guest: announced, ...setup },
  });
  const run = (...words: readonly string[]) => callVproxy(words, { env });
  return { host, guest, sockets, port, run, client: clients[0] };
}

/** Where the host listens for a port. The owner may be known only later: on a busy machine it is looked up again. */
const appeared = (client: ControlClient): Promise<string> =>
  eventually(
    async () => {
      const [port] = await client.ports();
      return port?.program === null ? undefined : port?.endpoint;
    },
    { what: 'a port' },
  );

/** Resolves when the host no longer has any port. */
const gone = (client: ControlClient) => eventually(async () => (await client.ports()).length === 0);

const numberOf = (endpoint: string): number => Number(/^127\.0\.0\.\d:(\d+)$/.exec(endpoint)?.[1]);

buildGuest();

serialTestWith('go')('vproxy-guest announces a port while a program listens on it', async (t) => {
  const { port, client, guest } = await setUp(t, String, { control: 'host', guestOptions: AS_GUEST });
  for (const text of ['one', 'two']) {
    const read = guest.lines.length;
    const program = await startProgram(t, port);
    t.is(await ask(t, numberOf(await appeared(client)), text), text);
    program.kill('SIGKILL');
    await gone(client);
    // The host may know before the line was read.
    await guest.waitForLine(/no longer announcing/, { from: read });
  }
  const lines = [
    `announcing port ${port} (echo-program) to the peer`,
    `no longer announcing port ${port} (echo-program)`,
  ];
  const said = guest.lines.filter((line) => line.includes('announcing'));
  t.deepEqual(
    said,
    [...lines, ...lines].map((line) => `vproxy: ${line}`),
  );
});

test.serial('a port with a listener on the peer is served here, and vproxy ports shows it', async (t) => {
  const { port, run, client, sockets, host, guest } = await setUp(t);
  t.is((await run('ports')).stdout, 'No ports are announced, here or by a peer.\n');
  const program = await startProgram(t, port);
  const endpoint = await appeared(client);
  const here = numberOf(endpoint);
  t.true(here > port && here < port + 64);
  const socket = localSocket(t, here);
  t.is(await answerTo(socket, 'over there'), 'over there');
  const digits = String(port);
  const table = (by: string, address: string) =>
    `CHANNEL  ${'PORT'.padStart(digits.length)}  PROGRAM       ANNOUNCED BY  ${'HERE'.padEnd(address.length)}  STREAMS\n` +
    `default  ${digits}  echo-program  ${by.padEnd(12)}  ${address}        1\n`;
  t.is((await run('ports', 'default')).stdout, table('peer', endpoint));
  t.is((await run('ports', '--socket', sockets[1])).stdout, table('here', `127.0.0.1:${port}`));
  const [{ forward, ...shown } = {}, ...others] = JSON.parse((await run('ports', '--json')).stdout) as {
    forward?: string;
  }[];
  t.is(typeof forward, 'string');
  const expected = {
    channel: 'default',
    port,
    program: 'echo-program',
    announcedBy: 'peer',
    endpoint,
    streams: 1,
    url: null,
  };
  t.deepEqual([shown, ...others], [expected]);
  const missing = 'vproxy: error: no channel "vm7"; available: default\n';
  t.deepEqual(await run('ports', 'vm7'), { code: 69, stdout: '', stderr: missing });
  const end = failureOf(socket).catch((error: unknown) => error);
  program.kill('SIGKILL');
  await end;
  await gone(client);
  await eventually(async () => (await refusal(t, here)) === 'ECONNREFUSED');
  await Promise.all([host, guest].map((side) => side.waitForLine(/no longer (announcing|listening)/)));
  const said = (lines: readonly string[]) => lines.filter((line) => / port \d+ \(/.test(line));
  t.deepEqual(said(host.lines), [
    `vproxy: listening on ${endpoint} (${port} is already in use) for port ${port} (echo-program) of the peer`,
    `vproxy: no longer listening on ${endpoint} for port ${port} (echo-program) of the peer`,
  ]);
  t.deepEqual(said(guest.lines), [
    `vproxy: announcing port ${port} (echo-program) to the peer`,
    `vproxy: no longer announcing port ${port} (echo-program)`,
  ]);
});

test.serial('with dir= ports are sockets in a folder of the channel, which is removed with them', async (t) => {
  const root = join(temporaryFolder(t), 'run');
  const { port, client, host } = await setUp(t, (number) => `${number},dir=${root}/{channel}/ports`);
  await startProgram(t, port);
  const path = join(root, 'default/ports', `${port}.sock`);
  t.is(await appeared(client), path);
  t.is(await ask(t, path), 'hello');
  await host.stop();
  t.false(existsSync(join(root, 'default/ports')));
});

test.serial('an upgrade of either side keeps the listener and its streams, and accepts new ones', async (t) => {
  const { port, client, sockets } = await setUp(t);
  const program = await startProgram(t, port);
  const here = numberOf(await appeared(client));
  const socket = localSocket(t, here);
  t.is(await answerTo(socket, 'one'), 'one');
  const before = await client.ports();
  for (const side of [...sockets, sockets[0]]) {
    t.like(await upgrade(t, side), { streams: 1 });
    t.is(await answerTo(socket, 'two'), 'two');
    t.deepEqual(await client.ports(), before);
  }
  t.is(await ask(t, here, 'three'), 'three');
  program.kill('SIGKILL');
  await gone(client);
});

test.serial(
  '--http-ports serves a port by name without a listener of its own; an upgrade loses no connection',
  async (t) => {
    const port = await freePort();
    const { guest, sockets, clients, host } = await processPair(t, {
      control: 'both',
      host: ['--http-ports', '127.0.0.1:0'],
      guest: ['--announce-ports', String(port)],
    });
    const [client] = clients;
    const program = await startProgram(t, port);
    await guest.waitForLine(/announcing port/);
    const line = await host.waitForLine(/serving the ports of peers on (\S+), as http:\/\/PORT.LABEL.localhost:\d+\/$/);
    const here = numberOf(line[1] ?? '');
    const [{ endpoint, url } = {}] = await eventually(async () => {
      const ports = await client.ports();
      return ports.length > 0 && ports;
    });
    t.deepEqual([endpoint, url], [null, `http://${port}.default.localhost:${here}/`]);
    const request = `GET / HTTP/1.1\r\nHost: ${port}.default.localhost\r\n\r\n`;
    const [open, partial] = [localSocket(t, here), localSocket(t, here)];
    t.is(await answerTo(open, request), request);
    partial.write(request.slice(0, 30));
    t.like((await client.ports())[0], { streams: 1 });
    for (const socket of [sockets[0], sockets[1], sockets[0]]) {
      const sender = localSocket(t, here);
      t.regex(await answerTo(sender, 'POST / HTTP/1.1\r\nHost: localhost\r\n\r\n'), /^HTTP\/1.1 200 OK/);
      t.like(await upgrade(t, socket), { streams: 1 });
      t.is(await answerTo(open, 'more'), 'more');
      // It is not reset while it still sends.
      t.deepEqual(await once(sender.end(Buffer.alloc(10_000_000)), 'close'), [false]);
    }
    t.is(await answerTo(partial, request.slice(30)), request);
    t.is(await ask(t, here, request), request);
    t.is((await client.ports())[0]?.url, url);
    program.kill('SIGKILL');
    await gone(client);
  },
);

test.serial('an upgrade does not wait for requests to --http-ports, which reach idle channels then', async (t) => {
  // More than those that are restored first.
  const folder = temporaryFolder(t);
  const channels = Array.from({ length: 6 }, (_, at) => ['-c', `vm${at}=unix-connect:${folder}/${at}.sock`]).flat();
  const { sockets, host } = await processPair(t, {
    control: 'both',
    host: [...channels, '--wait', '1', '--http-ports', '127.0.0.1:0'],
  });
  const line = await host.waitForLine(/serving the ports of peers on (\S+),/);
  const here = numberOf(line[1] ?? '');
  const answers: string[] = [];
  const send = (): void => {
    const socket = localSocket(t, here);
    socket.on('data', (piece) => answers.push(String(piece)));
    socket.write('GET / HTTP/1.1\r\nHost: 3000.vm5.localhost\r\n\r\n');
  };
  // A browser opens some ahead of its requests; any program can open many.
  for (let count = 0; count < 200; count += 1) localSocket(t, here);
  send();
  const timer = setInterval(send, 300);
  t.teardown(() => clearInterval(timer));
  await t.notThrowsAsync(upgrade(t, sockets[0]));
  clearInterval(timer);
  const before = answers.length;
  await eventually(() => answers.length > before);
  t.regex(answers.at(-1) ?? '', /^HTTP\/1.1 503 no-session/);
  t.false(answers.some((answer) => answer.includes('404')));
});

test.serial('a reload of either side applies other ports, and ends no session', async (t) => {
  const [folder, port] = [temporaryFolder(t), await freePort()];
  const [hostFile, guestFile] = [join(folder, 'host.toml'), join(folder, 'guest.toml')];
  for (const file of [hostFile, guestFile]) writeFileSync(file, '# None yet.\n');
  const { clients } = await processPair(t, {
    control: 'both',
    host: ['--config', hostFile],
    guest: ['--config', guestFile],
  });
  const [host, guest] = clients;
  const reload = (client: ControlClient, file: string, text: string) => {
    writeFileSync(file, text);
    return client.reload();
  };
  await startProgram(t, port);
  await reload(guest, guestFile, `announce-ports = "${port}"\n`);
  await eventually(async () => (await host.ports()).length === 1);
  t.is((await host.ports())[0]?.endpoint, null, 'this side listens for none yet');
  const forwarded = `forward-ports = "${port},address=127.0.0.2"\n`;
  for (const time of ['first', 'again']) {
    await reload(host, hostFile, forwarded);
    t.is(await appeared(host), `127.0.0.2:${port}`, time);
    t.like(await host.config(), { channels: { default: { outgoing: [] } } });
  }
  await reload(host, hostFile, '# None.\n');
  await eventually(async () => (await host.ports())[0]?.endpoint === null);
  await reload(guest, guestFile, '# None.\n');
  await gone(host);
  t.is((await host.channel('default')).history.sessions, 1);
});
