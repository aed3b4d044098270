/** Connects to the first of several addresses that answers: Happy Eyeballs, version 2 (RFC 8305). */
import net from 'node:net';
import { isIPv6 } from '../../util/addresses/host-port.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { guardDescriptor } from '../descriptors.js';

/** The Connection Attempt Delay of RFC 8305, section 5. */
const ATTEMPT_DELAY_MS = 250;

/** Attempts at once, as each takes a descriptor. A further one replaces the oldest, which has had a second by then. */
const MAX_ATTEMPTS = 4;

export interface RaceOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Starts connecting a socket. Default: TCP, with `allowHalfOpen` and `noDelay`. */
  readonly connect?: (address: string, port: number) => net.Socket;
}

/** The winner: its socket is paused, and nothing was read from it. */
export interface RaceWinner {
  readonly socket: net.Socket;
  readonly address: string;
}

/**
 * Tries addresses in the order of `interleaveFamilies`, the next one when one fails or after 250 ms. The first to connect wins;
 * the others are destroyed. Rejects with an `AggregateError` of the system's errors, in order of occurrence, or with
 * `signal.reason`; nothing is left open then.
 */
export function connectToFirst(
  addresses: readonly string[],
  port: number,
  { clock, signal, connect = connectTcp }: RaceOptions,
): Promise<RaceWinner> {
  return new Promise((resolve, reject) => {
    const waiting = interleaveFamilies(addresses);
    const attempts = new Map<net.Socket, string>();
    const errors: Error[] = [];
    let cancelNext: CancelTimer = () => undefined;

    /** Ends the race and the attempts in progress. */
    const finish = (): void => {
      cancelNext();
      signal.removeEventListener('abort', abort);
      for (const socket of attempts.keys()) socket.destroy();
    };
    const abort = (): void => {
      finish();
      reject(signal.reason as Error);
    };
    const next = (): void => {
      cancelNext();
      const address = waiting.shift();
      if (address !== undefined) attempt(address);
      else if (attempts.size === 0) {
        finish();
        reject(new AggregateError(errors));
      }
    };
    const attempt = (address: string): void => {
      const [oldest] = attempts.size < MAX_ATTEMPTS ? [] : attempts;
      if (oldest !== undefined) {
        attempts.delete(oldest[0]);
        oldest[0].destroy();
        errors.push(Object.assign(new Error(`connect ETIMEDOUT ${oldest[1]}`), { code: 'ETIMEDOUT' }));
      }
      const socket = connect(address, port).pause();
      attempts.set(socket, address);
      guardDescriptor(socket, (why) => socket.destroy(new Error(why)));
      const fail = (error: Error): void => {
        attempts.delete(socket);
        errors.push(error);
        next();
      };
      socket.on('error', fail);
      socket.once('connect', () => {
        attempts.delete(socket);
        socket.off('error', fail);
        finish();
        resolve({ socket, address });
      });
      if (waiting.length > 0) cancelNext = clock.schedule(ATTEMPT_DELAY_MS, next);
    };

    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener('abort', abort);
    next();
  });
}

export const connectTcp = (address: string, port: number): net.Socket =>
  net.connect({ host: address, port, allowHalfOpen: true, noDelay: true });

/** Alternates between the address families while both last, starting with the first address's (section 4). */
export function interleaveFamilies(addresses: readonly string[]): string[] {
  const isFirst = (address: string): boolean => isIPv6(address) === isIPv6(addresses[0] ?? '');
  const first = addresses.filter(isFirst);
  const others = addresses.filter((address) => !isFirst(address));
  return first
    .flatMap((address, index) => [address, ...others.slice(index, index + 1)])
    .concat(others.slice(first.length));
}
