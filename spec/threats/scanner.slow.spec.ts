/** A port scanner, and any client of another protocol, on a listening channel: no harm to the session that is there, or to the peer that connects later. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { type Clock, systemClock } from '../../lib/util/clock.js';
import { localSocket } from '../helpers/proxies.js';
import { testWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { echoThrough, type Scene, sessionCount, startScene } from './scene.js';

const HOST = '127.0.0.1';

/** Lines of a log that a scanner may cause. */
const MAX_LINES = 250;

/** What scanners send. */
const GREETINGS: readonly [what: string, bytes: Buffer][] = [
  ['nothing', Buffer.alloc(0)],
  ['a request of HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')],
  ['the beginning of ssh', Buffer.from('SSH-2.0-scanner\r\n')],
  ['a hello of TLS', Buffer.from('160301005a0100005603035472657365', 'hex')],
  ['random bytes', randomBytes(70_000)],
  ['zero bytes', Buffer.alloc(140_000)],
];

/** Connects, sends something, and hangs up, orderly or not, or stays until it is closed. */
async function visit(t: ExecutionContext, port: number, bytes: Buffer, leave: 'end' | 'reset' | 'stay'): Promise<void> {
  const socket = localSocket(t, { host: HOST, port });
  socket.on('error', () => undefined).resume();
  await once(socket, 'connect');
  socket.write(bytes);
  if (leave === 'end') socket.end();
  else if (leave === 'reset') socket.resetAndDestroy();
}

for (const how of ['none', 'tls=psk'] as const) {
  test(`${how}: scanners do no harm to the session that is there, and leave nothing behind`, async (t) => {
    const scene = await startScene(t, how);
    const { host, guest, hostPort } = scene;
    await guest.start();
    await guest.event('session-established');
    t.is(await echoThrough(t, scene, 'before'), 'before');
    const linesBefore = host.events.filter(({ level }) => level !== 'debug').length;
    for (let round = 0; round < 10; round += 1) {
      for (const [, bytes] of GREETINGS) {
        for (const leave of ['end', 'reset', 'stay'] as const) await visit(t, hostPort, bytes, leave);
      }
      t.is(await echoThrough(t, scene, `round ${round}`), `round ${round}`);
    }
    t.deepEqual([sessionCount(host), sessionCount(guest)], [1, 1]);
    t.true(host.events.every(({ event }) => event !== 'session-ended'));
    const lines = host.events.filter(({ level }) => level !== 'debug').length - linesBefore;
    t.true(lines < MAX_LINES, `${lines} lines`);
    t.true(openSockets(hostPort) > 1);
    await eventually(() => openSockets(hostPort) <= MAX_WAITING + 1, { what: 'the end of the scanners’ connections' });
  });

  testWith('openssl')(
    `${how}: openssl s_client with a key of its own gets nowhere, and the peer comes in beside it`,
    async (t) => {
      const scene = await startScene(t, how);
      const { host, guest, hostPort } = scene;
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
      t.is(await echoThrough(t, scene, 'beside openssl'), 'beside openssl');
      await Promise.all([...visits, visit()]);
      t.is(await echoThrough(t, scene, 'after openssl'), 'after openssl');
      t.deepEqual([sessionCount(host), sessionCount(guest)], [1, 1]);
    },
  );
}

/** The number of connections that may wait unestablished. */
const MAX_WAITING = 16;

/** Connections that were accepted on a port and not closed on this side, as the system counts them. */
function openSockets(port: number): number {
  const local = new RegExp(`^ *\\d+: [0-9A-F]+:${port.toString(16).toUpperCase().padStart(4, '0')} \\S+ (?:01|08) `);
  return readFileSync('/proc/self/net/tcp', 'utf8')
    .split('\n')
    .filter((line) => local.test(line)).length;
}

/** A clock on which no time is up, however slow this machine is. */
const patientClock: Clock = {
  ...systemClock,
  schedule: (delayMs, callback) => systemClock.schedule(20 * delayMs, callback),
};

/** A connection that holds the guest's bytes until they are released. */
async function slowGuest(t: ExecutionContext): Promise<{ readonly scene: Scene; readonly release: () => void }> {
  const scene = await startScene(t, 'tls=psk', { clock: patientClock });
  const { guest, middle } = scene;
  const held: (() => void)[] = [];
  let isHeld = true;
  middle.attack(() => (bytes, way, crossing) => {
    if (!isHeld) return bytes;
    held.push(() => crossing.inject(way, bytes));
    return Buffer.alloc(0);
  });
  await guest.start();
  await eventually(() => held.length > 0, { what: 'the guest’s connection' });
  const release = (): void => {
    isHeld = false;
    for (const pass of held) pass();
  };
  return { scene, release };
}

test('a slow peer is not crowded out by another machine that opens connections in a loop', async (t) => {
  const { scene, release } = await slowGuest(t);
  for (let count = 0; count < 200; count += 1) {
    const socket = net.connect({ host: HOST, port: scene.hostPort, localAddress: '127.0.0.2' });
    t.teardown(() => socket.destroy());
    socket.on('error', () => undefined).resume();
    await once(socket, 'connect');
  }
  await eventually(() => scene.host.events.some(({ event }) => event === 'channel-crowded'));
  release();
  await scene.guest.event('session-established');
  t.is(scene.middle.crossings.length, 1, 'the first connection is the one');
});

/** A program that opens connections, sends nothing, and says when all of them but those that may wait were closed. */
const OPEN_SILENTLY = `const [port, count, most] = process.argv.slice(1).map(Number); let closed = 0;
for (let left = count; left > 0; left -= 1) require('net').connect(port, '${HOST}').on('error', () => 0).resume()
  .once('close', () => { if (++closed === count - most) console.log('closed'); });`;

testWith('root')('a slow peer is not crowded out by another user, who has the same address', async (t) => {
  const { scene, release } = await slowGuest(t);
  const stranger = spawn(process.execPath, ['-e', OPEN_SILENTLY, ...[scene.hostPort, 200, MAX_WAITING].map(String)], {
    ...{ cwd: '/', uid: 65_534, gid: 65_534 },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => stranger.kill('SIGKILL'));
  await once(stranger.stdout, 'data');
  release();
  await scene.guest.event('session-established');
  t.is(scene.middle.crossings.length, 1, 'the first connection is the one');
});

/** A program that opens connections in a loop, of which it holds 64 at once, and sends nothing. */
const OPEN_FOR_EVER = `const open = new Set(); const connect = () => {
  const socket = require('net').connect(Number(process.argv[1]), '${HOST}').on('error', () => 0).resume();
  socket.once('close', () => open.delete(socket)).once('connect', () => {
    if (open.size >= 64) [...open][0].destroy();
    setImmediate(connect);
  });
  open.add(socket);
}; connect();`;

test('a peer gets in while a program on the same machine opens connections as fast as it can', async (t) => {
  const scene = await startScene(t, 'tls=psk');
  const { host, guest, hostPort } = scene;
  const flooder = spawn(process.execPath, ['-e', OPEN_FOR_EVER, String(hostPort)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => flooder.kill('SIGKILL'));
  await eventually(() => host.events.some(({ event }) => event === 'channel-crowded'));
  await guest.start();
  await eventually(() => sessionCount(guest) > 0 && sessionCount(host) > 0, { timeoutMs: 40_000, what: 'a session' });
  t.is(await echoThrough(t, scene, 'in the flood'), 'in the flood');
  t.true(host.events.filter(({ level }) => level !== 'debug').length < MAX_LINES);
});
