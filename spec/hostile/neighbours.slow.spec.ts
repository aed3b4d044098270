/**
 * A neighbour's echoes beside a guest that uses one surface of its channel as hard as it can, and while an upgrade waits for
 * work that a guest does not end: at most twice as long as when quiet.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { MuxStream } from '../../lib/session/mux-stream.js';
import { frameMessage, MessageFrames } from '../../lib/system/dns/message-frames.js';
import { bytesOf, query, shown } from '../helpers/dns.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { FLOODING_NAME_SERVER } from '../helpers/flooding-name-server.js';
import { SURFACES } from '../helpers/hostile-guest.js';
import { processorTime, residentBytes } from '../helpers/measures.js';
import { OwnNetwork } from '../helpers/namespaces.js';
import {
  besideGuest,
  type Disturbance,
  type HostileChannel,
  measureEcho,
  type Neighbours,
  requireGoodEchoes,
  startHostile,
  startNeighbours,
} from '../helpers/neighbours.js';
import { localServer, startProxy } from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { isBlocked } from '../helpers/upgrades.js';
import { isRunning, runVproxy } from '../helpers/vproxy-process.js';

const MEASURING = { rounds: 3, echoesPerRound: 100, attempts: 4 };

/** The additional options of the hostile guest's channel; `port` is that of a program that takes everything. */
const channelOf = (port: number, nameServerPort: number, folder: string): HostileChannel => ({
  incoming: [
    ...['web:egress:', 'dns:resolver:web', `datagrams:udp:127.0.0.1:${port}`],
    `flooded:resolver:any,server=127.0.0.1:${nameServerPort}`,
  ],
  options: {
    egress: { web: { allow: ['allowed.example:80'] }, any: { allow: ['*:80'] } },
    info: true,
    exec: { commands: [] },
    copy: { root: null },
    // A unix socket for each, in a folder.
    forwardPorts: { ranges: [[20_000, 20_063]], folder },
  },
});

const BOUND =
  "const s = require('dgram').createSocket('udp4').bind(0, '127.0.0.1', () => console.log(s.address().port))";

/** A program that prints the port on which it listens. */
async function listener(t: ExecutionContext, words: readonly string[]) {
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'ignore'] });
  t.teardown(() => child.kill('SIGKILL'));
  const gone = once(child, 'exit').then(() => Promise.reject(new Error(`${words.join(' ')} has exited`)));
  gone.catch(() => undefined);
  const [port] = (await Promise.race([once(child.stdout, 'data'), gone])) as [Buffer];
  return { child, port: Number(port) };
}

/** The port of a stopped program: the system buffers what comes, at no cost here. */
async function udpPort(t: ExecutionContext): Promise<number> {
  const { child, port } = await listener(t, ['-e', BOUND]);
  child.kill('SIGSTOP');
  return port;
}

for (const what of Object.keys(SURFACES)) {
  test.serial(`a neighbour's echoes beside a guest that ${what} stay within twice the quiet time`, async (t) => {
    const server = await listener(t, [join(PROJECT_ROOT, FLOODING_NAME_SERVER)]);
    const setup = await startNeighbours(t, channelOf(await udpPort(t), server.port, temporaryFolder(t)));
    const guest = await startHostile(t, what, setup.folder);
    await requireGoodEchoes(t, setup, besideGuest(setup, guest), { ...MEASURING, isBusy: true });
    // Otherwise the guest has not disturbed anything.
    t.is(guest.exitCode, null);
  });
}

/** Asks for the version on as many connections at a time as the argument says, again and again. */
const ASKING = `
  const [path, count] = process.argv.slice(1);
  let open = 0;
  const ask = () => {
    for (; open < Number(count); open += 1)
      require('node:net').connect(path).on('error', () => {}).once('close', () => { if (--open === 0) ask(); }).resume()
        .write('GET /v1/version HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n');
  };
  ask();
  console.log();`;

/** The limit in docs/security.md, in processor time. */
const MAX_TURN_MS = 20;

test.serial('a client that opens 1,000 control connections at a time is served in turns', async (t) => {
  const setup = await startNeighbours(t, { isSteered: true });
  const { child } = await listener(t, ['-e', ASKING, join(setup.folder, 'control.sock'), '1000']);
  const client = () => processorTime(child.pid ?? 0).ranMs;
  let bestMs = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 4; round += 1) {
    let longestMs = 0;
    for (const beganMs = client(); client() - beganMs < 200; ) {
      const { ranMs } = processorTime(setup.vproxy.pid);
      await measureEcho(setup);
      longestMs = Math.max(longestMs, processorTime(setup.vproxy.pid).ranMs - ranMs);
    }
    bestMs = Math.min(bestMs, longestMs);
  }
  const figures = `an echo beside up to ${bestMs.toFixed(1)} ms of processor time`;
  t.log(figures);
  // One echo takes up to two turns.
  t.true(bestMs <= 2 * MAX_TURN_MS, figures);
});

/** A question for `marker.example` on a stream to a resolver; resolves with the whole answer as text. */
async function askMarker(stream: MuxStream): Promise<string> {
  const frames = new MessageFrames();
  stream.write(frameMessage(bytesOf(query('marker.example'))));
  for (;;) {
    const [bytes] = (await once(stream, 'data')) as [Buffer];
    frames.push(bytes);
    const answer = frames.next();
    if (answer !== null) return shown(answer);
  }
}

serialTestWith('ip')('20 resolvers read a hosts file of 4 MiB once after each change, and in turns', async (t) => {
  const folder = temporaryFolder(t);
  const hostsFile = join(folder, 'hosts');
  const list = Array.from({ length: 130_000 }, (_, index) => `0.0.0.0 ads${index}.example.com\n`).join('');
  writeFileSync(hostsFile, '');
  const network = await OwnNetwork.start({ hostsFile });
  t.teardown(() => network.stop());
  const services = Array.from({ length: 20 }, (_, index) => `dns${index}`);
  const setup = await startNeighbours(t, {
    incoming: services.map((name) => `${name}:resolver:any`),
    options: { egress: { any: { allow: ['*:80'] } } },
    launcher: network.launcher,
  });
  const { pid } = setup.vproxy;
  const { proxy } = await startProxy(t, `unix-connect:${join(setup.folder, 'hostile.sock')}`);
  const streams = await Promise.all(services.map((name) => proxy.connect(name)));
  t.teardown(() => streams.forEach((stream) => void stream.destroy()));
  const beforeBytes = residentBytes(pid);
  let bestMs = Number.POSITIVE_INFINITY;
  for (const round of [1, 2, 3, 4]) {
    writeFileSync(hostsFile, `${list}93.184.216.${round} marker.example\n`);
    let longestMs = 0;
    const isRead = async (): Promise<boolean> => {
      const answers = Promise.all(streams.map(askMarker));
      const state = { isDone: false };
      void answers.finally(() => (state.isDone = true));
      while (!state.isDone) {
        const { ranMs } = processorTime(pid);
        await measureEcho(setup);
        longestMs = Math.max(longestMs, processorTime(pid).ranMs - ranMs);
      }
      return (await answers).every((answer) => answer.endsWith(`93.184.216.${round}`));
    };
    await eventually(isRead, { what: 'the new hosts file', timeoutMs: 60_000 });
    bestMs = Math.min(bestMs, longestMs);
  }
  const mebibytes = (residentBytes(pid) - beforeBytes) / 2 ** 20;
  const figures = `an echo beside up to ${bestMs.toFixed(1)} ms of processor time; ${mebibytes.toFixed(0)} MiB more`;
  t.log(figures);
  // One echo takes up to two turns.
  t.true(bestMs <= 2 * MAX_TURN_MS, figures);
  t.true(mebibytes < 160, figures);
});

/** Requests whose bodies never end: each is an obstacle; the guest may have one per stream. */
const REQUESTS = 800;

/** An upgrade that waits; it ends with its successor, and this process continues. */
function waitingUpgrade({ folder, vproxy: { pid } }: Neighbours): Disturbance & { readonly successor: () => number } {
  let ended: Promise<unknown> = Promise.resolve();
  const successor = () => Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim());
  return {
    successor,
    async goOn() {
      const socket = join(folder, 'control.sock');
      ended = runVproxy(['upgrade', '--socket', socket, '--wait', '300'], { timeoutMs: 300_000 });
      await eventually(() => successor() > 0 && isBlocked(successor()), { what: 'a successor that waits' });
    },
    ranMs: () => 0,
    async stop() {
      if (successor() > 0) process.kill(successor(), 'SIGKILL');
      await ended;
    },
  };
}

test.serial('800 requests that never end, for which an upgrade waits', async (t) => {
  let connections = 0;
  const origin = await localServer(t, (socket) => {
    connections += 1;
    socket.resume();
  });
  const setup = await startNeighbours(t, {
    incoming: ['web:egress:'],
    options: { egress: { web: { allow: [`127.0.0.1:${origin.port}`] } } },
    isSteered: true,
  });
  const guest = await SocketPeer.established(join(setup.folder, 'hostile.sock'));
  t.teardown(() => guest.close());
  const head = `POST http://127.0.0.1:${origin.port}/ HTTP/1.1\r\nHost: 127.0.0.1:${origin.port}\r\nContent-Length: 9\r\n\r\n`;
  for (let sent = 1; sent <= REQUESTS; sent += 1) {
    const id = guest.highestId + 2;
    guest.sendOpen(id, 'web');
    guest.sendData(id, Buffer.from(head));
    // This many may be unanswered at once.
    if (sent % 200 === 0) await guest.ping(30_000);
  }
  await eventually(() => connections === REQUESTS, { what: 'the requests' });
  const upgrade = waitingUpgrade(setup);
  await requireGoodEchoes(t, setup, upgrade, MEASURING);
  t.true(isRunning(upgrade.successor()), 'it waits for the guest');
  await upgrade.stop();
  t.true(isRunning(setup.vproxy.pid));
});
