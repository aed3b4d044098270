/** Programs at the ends of forwards: each sends a pattern, and checks that of the other end of its connection. */
import net from 'node:net';
import { resetSocket } from '../../lib/system/sockets/node-sockets.js';
import { endOf } from '../../tools/bench/soak/exchange.js';
import type { Ledger } from '../../tools/bench/soak/ledger.js';
import { patternBytes } from '../../tools/bench/soak/pattern.js';
import { within } from '../helpers/time.js';

/** A target of an opener that sends as much does not read at first; it is more than the system and the windows hold. */
export const BUFFERED_BYTES = 24_000_000;

/** How long a session may take to carry bytes. */
const PROBE_MS = 1000;

/** For each service the side of its openers, and that of its targets. */
const SIDES = { up: ['host', 'guest'], down: ['guest', 'host'] } as const;
type Service = keyof typeof SIDES;
export const SERVICES: [Service, Service] = ['up', 'down'];

/** A connection begins with its number. */
const HEAD_BYTES = 8;

/** A program at one end of a connection, which sends the pattern of its key: 0 at a target that does not know the number yet. */
export class End {
  readonly socket: net.Socket;
  key: number;
  other: End | null = null;
  sentBytes = 0;
  receivedBytes = 0;
  hasFinished = false;
  /** Whether it broke the connection off. */
  hasLeft = false;
  /** Whether its connection may be refused, until it has come to its target: the session has or had no link. */
  mayBeRefused = false;

  constructor(socket: net.Socket, key: number) {
    this.socket = socket;
    this.key = key;
  }

  send(bytes: number): void {
    if (this.key === 0 || this.hasFinished || this.socket.writableNeedDrain) return;
    this.socket.write(patternBytes(this.key, this.sentBytes, bytes));
    this.sentBytes += bytes;
  }

  /** Sends no more, and reads everything. */
  finish(): void {
    this.socket.resume();
    if (this.key === 0 || this.hasFinished) return;
    this.hasFinished = true;
    this.socket.end();
  }

  leave(isReset: boolean): void {
    if (this.key === 0) return;
    this.hasLeft = true;
    if (isReset) resetSocket(this.socket);
    else {
      this.finish();
      this.socket.destroySoon();
    }
  }
}

/** The programs at both sides, judged by a ledger; `isBroken`: the session may have no link. */
export function startPrograms(ledger: Ledger, isBroken: () => boolean) {
  const ends = new Set<End>();
  const ports = { up: 0, down: 0 };
  /** Openers whose connections have not come to a target, by number. */
  const coming = new Map<number, End>();
  let connections = 0;

  /** Judges how the bytes for an end come to their end. */
  const follow = async (end: End, service: Service, side: 'host' | 'guest'): Promise<void> => {
    const ticket = ledger.begin(side);
    ends.add(end);
    end.socket.once('close', () => ends.delete(end));
    const how = await endOf(end.socket);
    const { key, other, receivedBytes, hasLeft, mayBeRefused } = end;
    // The system connected a dial that was given up: its opener is judged.
    if (key === 0 && (how === 'reset' || receivedBytes === 0)) return void end.socket.destroy();
    const isComplete = other?.hasFinished === true && receivedBytes === other.sentBytes;
    const isExcused = hasLeft || other?.hasLeft === true || (other === null && mayBeRefused);
    const disturbances = isExcused ? Number.NaN : ticket.disturbances;
    ledger.judge(service, { ...ticket, disturbances }, { end: how, isPrefix: true, isComplete, receivedBytes });
  };

  const check = (end: End, chunk: Buffer): void => {
    const at = end.receivedBytes;
    end.receivedBytes += chunk.length;
    const isSent = end.other !== null && end.receivedBytes <= end.other.sentBytes;
    if (!isSent || !chunk.equals(patternBytes(end.key ^ 1, at, chunk.length)))
      ledger.problem(`wrong bytes: of pattern ${end.key ^ 1}, ${at} to ${end.receivedBytes}`);
  };

  const open = (service: Service): End => {
    connections += 1;
    const end = new End(net.connect({ port: ports[service], allowHalfOpen: true }), 2 * connections);
    end.socket.write(Buffer.from(BigUint64Array.of(BigInt(connections)).buffer));
    end.sentBytes = HEAD_BYTES;
    end.mayBeRefused = isBroken();
    end.socket.on('data', (chunk: Buffer) => check(end, chunk));
    coming.set(connections, end);
    void follow(end, service, SIDES[service][0]);
    return end;
  };

  const take = (service: Service, socket: net.Socket): void => {
    const end = new End(socket, 0);
    let head = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      if (end.other !== null) {
        check(end, chunk);
        return;
      }
      head = Buffer.concat([head, chunk]);
      end.receivedBytes = Math.min(head.length, HEAD_BYTES);
      if (head.length < HEAD_BYTES) return;
      const number = Number(head.readBigUInt64LE());
      const opener = coming.get(number);
      if (opener === undefined) {
        ledger.problem(`wrong bytes: connection ${number}`);
        return;
      }
      coming.delete(number);
      [end.key, end.other, opener.other] = [opener.key + 1, opener, end];
      check(end, head.subarray(HEAD_BYTES));
      if (opener.hasFinished) end.finish();
      else if (opener.sentBytes >= BUFFERED_BYTES) socket.pause();
    });
    void follow(end, service, SIDES[service][1]);
  };

  /** Whether a new connection of each service carries bytes both ways. */
  const work = async (): Promise<boolean> => {
    const probes = SERVICES.map(async (service) => {
      if (ports[service] === 0) return false;
      const end = open(service);
      end.finish();
      const how = await within(PROBE_MS, 'a probe', endOf(end.socket)).catch(() => end.leave(true));
      return how === 'ended';
    });
    return (await Promise.all(probes)).every(Boolean);
  };

  return { ends, ports, open, take, work };
}
