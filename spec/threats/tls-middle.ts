/**
 * A man in the middle who lets the opening pass, and then terminates TLS itself: a server to its client, and a client
 * to its server.
 */
import type net from 'node:net';
import tls from 'node:tls';
import { splitOpening } from './hello-editor.js';
import { type Attack, BOTH_WAYS, back, type Crossing, type Way } from './middle.js';

/** The credentials that the attacker shows to each of them. */
export interface TlsDisguise {
  readonly asServer: tls.TlsOptions;
  readonly asClient: tls.ConnectionOptions;
}

/** The ends of TLS that an attacker has, and whether one of them was ever accepted. */
export class TlsMiddle {
  readonly #disguise: TlsDisguise;
  /** The number of handshakes that were begun with it, one for each side. */
  begun = 0;
  /** What came out of TLS, which the sides meant for each other. */
  readonly read: Buffer[] = [];

  constructor(disguise: TlsDisguise) {
    this.#disguise = disguise;
  }

  /** What it does with a connection. */
  readonly attack: Attack = () => {
    let isTaken = false;
    return (bytes, way, crossing) => {
      if (isTaken) return Buffer.alloc(0);
      const first = firstRecord(crossing, way);
      if (first === null) return bytes;
      isTaken = true;
      this.#take(crossing, way, first);
      return Buffer.alloc(0);
    };
  };

  /** `way` is that of TLS's client, whose first record came. */
  #take(crossing: Crossing, way: Way, first: Buffer): void {
    for (const end of BOTH_WAYS) crossing.end(end).removeAllListeners('data').pause();
    const client = crossing.end(back(way));
    client.unshift(first);
    const server = tls.createServer(this.#disguise.asServer, (socket) => this.#listen(socket));
    server.on('tlsClientError', () => undefined);
    server.emit('connection', client);
    const socket = tls.connect({ ...this.#disguise.asClient, socket: crossing.end(way), rejectUnauthorized: false });
    this.#listen(socket);
    this.begun += 2;
  }

  #listen(socket: net.Socket): void {
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => this.read.push(bytes));
  }
}

/** The beginning of TLS in what a side wrote, after its HELLOs; null before it. */
export function firstRecord(crossing: Crossing, way: Way): Buffer | null {
  try {
    const { behind } = splitOpening(crossing.all(way));
    return behind[0] === HANDSHAKE ? behind : null;
  } catch {
    return null;
  }
}

const HANDSHAKE = 22;
