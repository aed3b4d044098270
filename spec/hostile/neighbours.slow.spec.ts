/**
 * A neighbour's echoes beside a guest that uses one surface of its channel as hard as it can, and while an upgrade waits for
 * work that a guest does not end: at most twice as long as when quiet.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { SURFACES } from '../helpers/hostile-guest.js';
import {
  besideGuest,
  type Disturbance,
  type HostileChannel,
  type Neighbours,
  requireGoodEchoes,
  startHostile,
  startNeighbours,
} from '../helpers/neighbours.js';
import { localServer } from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually } from '../helpers/time.js';
import { isBlocked } from '../helpers/upgrades.js';
import { isRunning, runVproxy } from '../helpers/vproxy-process.js';

const MEASURING = { rounds: 3, echoesPerRound: 100, attempts: 4 };

/** The additional options of the hostile guest's channel; `port` is that of a program that takes everything. */
const channelOf = (port: number, folder: string): HostileChannel => ({
  incoming: ['web:egress:', 'dns:resolver:web', `datagrams:udp:127.0.0.1:${port}`],
  options: {
    egress: { web: { allow: ['allowed.example:80'] } },
    info: true,
    exec: {},
    copy: { root: null },
    // A unix socket for each, in a folder.
    forwardPorts: { ranges: [[20_000, 20_063]], folder },
  },
});

const BOUND =
  "const s = require('dgram').createSocket('udp4').bind(0, '127.0.0.1', () => console.log(s.address().port))";

/** The port of a stopped program: the system buffers what comes, at no cost here. */
async function udpPort(t: ExecutionContext): Promise<number> {
  const child = spawn(process.execPath, ['-e', BOUND], { stdio: ['ignore', 'pipe', 'ignore'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [port] = (await once(child.stdout, 'data')) as [Buffer];
  child.kill('SIGSTOP');
  return Number(port);
}

for (const what of Object.keys(SURFACES)) {
  test.serial(`a neighbour's echoes beside a guest that ${what} stay within twice the quiet time`, async (t) => {
    const setup = await startNeighbours(t, channelOf(await udpPort(t), temporaryFolder(t)));
    const guest = await startHostile(t, what, setup.folder);
    await requireGoodEchoes(t, setup, besideGuest(setup, guest), { ...MEASURING, isBusy: true });
    // Otherwise the guest has not disturbed anything.
    t.is(guest.exitCode, null);
  });
}

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
