/** Entrances at which every connection is a stream to the forward's service: TCP and unix sockets. */
import type net from 'node:net';
import { acceptBuffered, type OnRead } from '../util/buffered-socket.js';
import type { ListenAddress } from '../util/listen.js';
import { resetSocket } from '../util/reset-socket.js';
import type { Caller, Entrance, EntranceContext } from './entrance.js';

/**
 * An entrance at `address`. `waitsForPeer` reads nothing from a connection before the stream is open: a unix socket that
 * is closed with its input unread shows its peer an error and not an end. TCP has RST for that, and may send ahead.
 */
export function socketEntrance(address: ListenAddress, waitsForPeer: boolean, context: EntranceContext): Entrance {
  return {
    address,
    receive: (accepted, onCaller) => onCaller(new SocketCaller(context.service, accepted, waitsForPeer)),
  };
}

class SocketCaller implements Caller {
  readonly service: string;
  readonly from: string | null;
  readonly #waitsForPeer: boolean;
  /** As it was accepted, then as it is read: the first is not kept. */
  #socket: net.Socket;

  constructor(service: string, accepted: net.Socket, waitsForPeer: boolean) {
    this.service = service;
    this.from = accepted.remoteAddress === undefined ? null : `${accepted.remoteAddress}:${accepted.remotePort ?? 0}`;
    this.#socket = accepted;
    this.#waitsForPeer = waitsForPeer;
  }

  get waiting(): net.Socket {
    return this.#socket;
  }

  read(onread: OnRead): net.Socket {
    this.#socket = acceptBuffered(this.#socket, onread);
    if (this.#waitsForPeer) this.#socket.pause();
    return this.#socket;
  }

  opened(): void {
    if (this.#waitsForPeer) this.#socket.resume();
  }

  refuse(): void {
    resetSocket(this.#socket);
  }
}
