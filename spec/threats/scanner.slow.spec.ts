/** A port scanner, or a client of another protocol, on a listening channel harms neither the session nor later peers. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { type Clock, systemClock } from '../../lib/util/clock.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { ask, echo, localServer, localSocket, portOf, startProxy, TestProxy } from '../helpers/proxies.js';
import { TcpRelay } from '../helpers/relays.js';
import { testWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';

const HOST = '127.0.0.1';

/** A host that listens, and a guest, not started yet, that connects through a relay. */
async function startScene(t: ExecutionContext, how: 'none' | 'tls=psk', clock: Clock = systemClock) {
  const isKeyed = how === 'tls=psk';
  const common = { clock, ...(isKeyed && { keyFiles: [writeKeyFile(temporaryFolder(t), 'key', '1f')] }) };
  const options = `,resume=0${isKeyed ? ',tls=psk' : ''}`;
  const { port } = await localServer(t, echo);
  const host = await startProxy(t, `tcp-listen:${HOST}:0${options}`, { ...common, incoming: [`echo:${port}`] });
  const hostPort = portOf(host.all('channel-listening')[0]?.message ?? '');
  const relay = new TcpRelay();
  const address = `tcp-connect:${HOST}:${await relay.start(t, hostPort)}${options}`;
  const guest = new TestProxy(t, address, { ...common, outgoing: ['echo:0'], waitMs: 30_000 });
  const echoes = async (text: string) => t.is(await ask(t, guest.port('echo'), text), text);
  return { host, guest, hostPort, relay, echoes };
}

/** The number of sessions that a side has had. */
const sessionCount = ({ proxy }: TestProxy): number => proxy.channel('default').history.sessions;

const linesOf = ({ events }: TestProxy): number => events.filter(({ level }) => level !== 'debug').length;

/** Limit on the log lines that a scanner may cause. */
const MAX_LINES = 250;

/** The bytes that scanners send. */
const GREETINGS: readonly Buffer[] = [
  ...['', 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n', 'SSH-2.0-scanner\r\n'].map((text) => Buffer.from(text)),
  // A TLS ClientHello.
  Buffer.from('160301005a0100005603035472657365', 'hex'),
  randomBytes(70_000),
  Buffer.alloc(140_000),
];

/** Connects, sends bytes, and hangs up, in order or with a reset, or stays until it is closed. */
async function visit(t: ExecutionContext, port: number, bytes: Buffer, leave: 'end' | 'reset' | 'stay'): Promise<void> {
  const socket = localSocket(t, { host: HOST, port });
  socket.on('error', () => undefined).resume();
  await once(socket, 'connect');
  socket.write(bytes);
  if (leave === 'end') socket.end();
  else if (leave === 'reset') socket.resetAndDestroy();
}

for (const how of ['none', 'tls=psk'] as const) {
  test(`${how}: scanners do not harm an existing session, and leave nothing behind`, async (t) => {
    const { host, guest, hostPort, echoes } = await startScene(t, how);
    await guest.start();
    await guest.event('session-established');
    await echoes('before');
    const linesBefore = linesOf(host);
    for (let round = 0; round < 10; round += 1) {
      for (const bytes of GREETINGS) {
        for (const leave of ['end', 'reset', 'stay'] as const) await visit(t, hostPort, bytes, leave);
      }
      await echoes(`round ${round}`);
    }
    t.deepEqual([sessionCount(host), sessionCount(guest)], [1, 1]);
    t.is(host.count('session-ended'), 0);
    const lines = linesOf(host) - linesBefore;
    t.true(lines < MAX_LINES, `${lines} lines`);
    t.true(openSockets(hostPort) > 1);
    const what = 'the end of the scanners’ connections';
    await eventually(() => openSockets(hostPort) <= MAX_WAITING + 1, { what, timeoutMs: 60_000 });
  });

  testWith('openssl')(`${how}: openssl s_client with its own key gets nowhere, the peer gets in`, async (t) => {
    const { host, guest, hostPort, echoes } = await startScene(t, how);
    const command = ['s_client', '-connect', `${HOST}:${hostPort}`, '-tls1_3', '-psk', '2e'.repeat(32)];
    const visit = async () => {
      const child = spawn('openssl', [...command, '-psk_identity', '12345678'], {
        stdio: ['pipe', 'ignore', 'pipe'],
      });
      t.teardown(() => child.kill('SIGKILL'));
      let said = '';
      child.stderr.on('data', (text: Buffer) => (said += text.toString()));
      const [status] = (await once(child, 'close')) as [number | null];
      t.true(status !== 0 && /error:/.test(said), said);
    };
    const visits = [visit(), visit()];
    await guest.start();
    await guest.event('session-established');
    await echoes('beside openssl');
    await Promise.all([...visits, visit()]);
    await echoes('after openssl');
    t.deepEqual([sessionCount(host), sessionCount(guest)], [1, 1]);
  });
}

/** Limit on connections that have not completed a handshake. */
const MAX_WAITING = 16;

/** Connections accepted on a port and not closed on this side, as the system counts them. */
function openSockets(port: number): number {
  const local = new RegExp(`^ *\\d+: [0-9A-F]+:${port.toString(16).toUpperCase().padStart(4, '0')} \\S+ (?:01|08) `);
  return readFileSync('/proc/self/net/tcp', 'utf8')
    .split('\n')
    .filter((line) => local.test(line)).length;
}

/** A clock on which nothing times out, however slow this machine is. */
const patientClock: Clock = {
  ...systemClock,
  schedule: (delayMs, callback) => systemClock.schedule(20 * delayMs, callback),
};

/** A host, and a guest whose connection is held up. */
async function slowGuest(t: ExecutionContext) {
  const scene = await startScene(t, 'tls=psk', patientClock);
  scene.relay.isHolding = true;
  await scene.guest.start();
  await eventually(() => scene.relay.connections === 1, { what: 'the guest’s connection' });
  return scene;
}

/** The guest continues, and is established on its first connection. */
async function getsIn(t: ExecutionContext, { guest, relay }: Awaited<ReturnType<typeof slowGuest>>): Promise<void> {
  relay.goOn();
  await guest.event('session-established');
  t.is(guest.count('channel-closed'), 0);
}

test('a slow peer is not crowded out by another machine that opens connections in a loop', async (t) => {
  const scene = await slowGuest(t);
  for (let count = 0; count < 200; count += 1) {
    const socket = net.connect({ host: HOST, port: scene.hostPort, localAddress: '127.0.0.2' });
    t.teardown(() => socket.destroy());
    socket.on('error', () => undefined).resume();
    await once(socket, 'connect');
  }
  await scene.host.event('channel-crowded');
  await getsIn(t, scene);
});

/** A program that opens connections, sends nothing, and reports when all but those that may wait were closed. */
const OPEN_SILENTLY = `const [port, count, most] = process.argv.slice(1).map(Number); let closed = 0;
for (let left = count; left > 0; left -= 1) require('net').connect(port, '${HOST}').on('error', () => 0).resume()
  .once('close', () => { if (++closed === count - most) console.log('closed'); });`;

testWith('root')('a slow peer is not crowded out by another user, who has the same address', async (t) => {
  const scene = await slowGuest(t);
  const stranger = spawn(process.execPath, ['-e', OPEN_SILENTLY, ...[scene.hostPort, 200, MAX_WAITING].map(String)], {
    ...{ cwd: '/', uid: 65_534, gid: 65_534 },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => stranger.kill('SIGKILL'));
  await once(stranger.stdout, 'data');
  await getsIn(t, scene);
});

/** A program that opens connections in a loop, holds 64 at once, and sends nothing. */
const OPEN_FOR_EVER = `const open = new Set(); const connect = () => {
  const socket = require('net').connect(Number(process.argv[1]), '${HOST}').on('error', () => 0).resume();
  socket.once('close', () => open.delete(socket)).once('connect', () => {
    if (open.size >= 64) [...open][0].destroy();
    setImmediate(connect);
  });
  open.add(socket);
}; connect();`;

test('a peer gets in while a program on the same machine opens connections as fast as it can', async (t) => {
  const { host, guest, hostPort, echoes } = await startScene(t, 'tls=psk');
  const flooder = spawn(process.execPath, ['-e', OPEN_FOR_EVER, String(hostPort)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => flooder.kill('SIGKILL'));
  await host.event('channel-crowded');
  await guest.start();
  await eventually(() => sessionCount(guest) > 0 && sessionCount(host) > 0, { timeoutMs: 40_000, what: 'a session' });
  await echoes('in the flood');
  t.true(linesOf(host) < MAX_LINES);
});
