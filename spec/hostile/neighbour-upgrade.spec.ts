/** A neighbour's echoes while an upgrade waits for what a guest does not end: at most twice as long as in quiet. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type Disturbance, type Neighbours, requireGoodEchoes, startNeighbours } from '../helpers/neighbours.js';
import { localServer } from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually } from '../helpers/time.js';
import { isBlocked } from '../helpers/upgrades.js';
import { isRunning, runVproxy } from '../helpers/vproxy-process.js';

const MEASURING = { rounds: 3, echoesPerRound: 100, attempts: 4 };

/** Requests whose bodies never end: each is an obstacle, of which the guest may have as many as it has streams. */
const REQUESTS = 800;

/** An upgrade that waits; it ends with its successor, and this process goes on. */
class WaitingUpgrade implements Disturbance {
  readonly #socket: string;
  readonly #pid: number;
  #ended: Promise<unknown> = Promise.resolve();

  constructor({ folder, vproxy }: Neighbours) {
    this.#socket = join(folder, 'control.sock');
    this.#pid = vproxy.pid;
  }

  get successor(): number {
    return Number(readFileSync(`/proc/${this.#pid}/task/${this.#pid}/children`, 'utf8').trim());
  }

  async goOn(): Promise<void> {
    this.#ended = runVproxy(['upgrade', '--socket', this.#socket, '--wait', '300'], { timeoutMs: 300_000 });
    await eventually(() => this.successor > 0 && isBlocked(this.successor), { what: 'a successor that waits' });
  }

  async stop(): Promise<void> {
    if (this.successor > 0) process.kill(this.successor, 'SIGKILL');
    await this.#ended;
  }
}

test('800 requests that never end, for which an upgrade waits', async (t) => {
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
    // So many may wait for an answer at once.
    if (sent % 200 === 0) await guest.ping(30_000);
  }
  await eventually(() => connections === REQUESTS, { what: 'the requests' });
  const upgrade = new WaitingUpgrade(setup);
  await requireGoodEchoes(t, setup, upgrade, MEASURING);
  t.true(isRunning(upgrade.successor), 'it waits for the guest');
  await upgrade.stop();
  t.true(isRunning(setup.vproxy.pid));
});
