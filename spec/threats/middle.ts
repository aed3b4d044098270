/** A man in the middle of a TCP channel: sees every byte of both sides, and may change, drop, repeat and insert any. */
import net from 'node:net';
import type { ExecutionContext } from 'ava';
import { localServer } from '../helpers/proxies.js';

/** Which way bytes go: the guest dials, the host listens. */
export type Way = 'to-host' | 'to-guest';

export const BOTH_WAYS: readonly Way[] = ['to-host', 'to-guest'];

export const back = (way: Way): Way => (way === 'to-host' ? 'to-guest' : 'to-host');

/** One connection of the guest, and the matching one to the host. */
export class Crossing {
  /** What each side wrote, as it came. */
  readonly seen: Readonly<Record<Way, Buffer[]>> = { 'to-host': [], 'to-guest': [] };
  readonly #ends: Readonly<Record<Way, net.Socket>>;

  constructor(guest: net.Socket, host: net.Socket) {
    this.#ends = { 'to-host': host, 'to-guest': guest };
  }

  /** The socket that leads to a side. */
  end(way: Way): net.Socket {
    return this.#ends[way];
  }

  /** Writes bytes of the attacker's own. */
  inject(way: Way, bytes: Buffer): void {
    if (bytes.length > 0) this.#ends[way].write(bytes);
  }

  /** All that a side wrote. */
  all(way: Way): Buffer {
    return Buffer.concat(this.seen[way]);
  }

  /** Closes both connections. */
  cut(): void {
    for (const way of BOTH_WAYS) this.#ends[way].destroy();
  }
}

/** Changes bytes on their way. */
export type Change = (bytes: Buffer, way: Way, crossing: Crossing) => Buffer;

/** What an attacker does with a new connection; what it returns is applied to all its bytes. */
export type Attack = (crossing: Crossing) => Change;

const HONEST: Attack = () => (bytes) => bytes;

export class Middle {
  readonly port: number;
  readonly crossings: Crossing[] = [];
  #attack: Attack = HONEST;

  private constructor(port: number) {
    this.port = port;
  }

  /** Listens on a port of its own, and connects to `hostPort` for each connection. */
  static async start(t: ExecutionContext, hostPort: number): Promise<Middle> {
    const server = await localServer(t, (socket) => middle.#join(socket, hostPort));
    const middle = new Middle(server.port);
    t.teardown(() => middle.cut());
    return middle;
  }

  /** The newest connection. */
  get newest(): Crossing {
    const newest = this.crossings.at(-1);
    if (newest === undefined) throw new Error('nobody has connected');
    return newest;
  }

  /** Attacks every connection from now on, and closes the present ones. */
  attack(attack: Attack): void {
    this.#attack = attack;
    this.cut();
  }

  /** Passes everything on from now on, on new connections. */
  behave(): void {
    this.attack(HONEST);
  }

  cut(): void {
    for (const crossing of this.crossings) crossing.cut();
  }

  #join(guest: net.Socket, hostPort: number): void {
    const host = net.connect({ host: '127.0.0.1', port: hostPort, allowHalfOpen: true });
    const crossing = new Crossing(guest, host);
    this.crossings.push(crossing);
    const change = this.#attack(crossing);
    for (const [way, from] of [
      ['to-host', guest],
      ['to-guest', host],
    ] as const) {
      const to = crossing.end(way);
      from.setNoDelay(true);
      from.on('error', () => undefined);
      from.on('data', (bytes: Buffer) => {
        crossing.seen[way].push(bytes);
        crossing.inject(way, change(bytes, way, crossing));
      });
      from.once('end', () => to.destroySoon());
      from.once('close', () => to.destroySoon());
    }
  }
}
