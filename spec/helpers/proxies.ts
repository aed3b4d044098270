/** Whole proxies in the test's process, and local programs at both ends of their forwards. */

import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { ExecutionContext } from 'ava';
import { connectControl } from '../../lib/control/client/client.js';
import type { LogEvent, LogEventName } from '../../lib/events.js';
import type { Direction } from '../../lib/forward/forms/endpoint-form.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import type { StreamTally } from '../../lib/forward/stream-tally.js';
import type { ChannelOptions } from '../../lib/proxy/channel/channel-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import type { ProxyOptions } from '../../lib/proxy/proxy-options.js';
import type { ForwardStatus } from '../../lib/status/types.js';
import type { Tally } from '../../lib/util/tally.js';
import { callVproxy } from './call-vproxy.js';
import { startControl } from './control.js';
import { temporaryFolder } from './files.js';
import { within } from './time.js';
import { type RunResult, runVproxy } from './vproxy-process.js';

export interface ProxySetup
  extends Partial<Omit<ProxyOptions, 'channels'>>,
    Partial<Omit<ChannelOptions, 'forwards' | 'address'>> {
  readonly outgoing?: readonly string[];
  readonly incoming?: readonly string[];
}

export const outgoing = (...texts: readonly string[]) => texts.map((text) => parseForwardSpec('outgoing', text));
export const incoming = (...texts: readonly string[]) => texts.map((text) => parseForwardSpec('incoming', text));

export class TestProxy {
  readonly proxy: Proxy;
  readonly events: LogEvent[] = [];

  constructor(
    t: ExecutionContext,
    channel: string,
    { outgoing: out = [], incoming: served = [], agent = 'vproxy test', clock, findRival, ...options }: ProxySetup = {},
  ) {
    const forwards = [...outgoing(...out), ...incoming(...served)];
    const channels = [{ address: channel, forwards, ...options }];
    this.proxy = new Proxy({ channels, agent, ...(clock && { clock }), ...(findRival && { findRival }) });
    this.proxy.on('log', (event) => this.events.push(event));
    t.teardown(() => this.proxy.stop());
  }

  start(): Promise<void> {
    return this.proxy.start();
  }

  port(service: string): number {
    const found = this.events.find(({ event, fields }) => event === 'listening' && fields['service'] === service);
    return portOf(String(found?.fields['endpoint']));
  }

  all(name: LogEventName): LogEvent[] {
    return this.events.filter(({ event }) => event === name);
  }

  count(name: LogEventName): number {
    return this.all(name).length;
  }

  /** The counters of a service. */
  tally(direction: Direction, service: string): StreamTally | undefined {
    return this.proxy.listMeasured()[0]?.tally.streamsOf(direction, service);
  }

  /** The next event of this kind from now on, or one already logged after `since` events. */
  async event(name: string, since = 0, timeoutMs = 30_000): Promise<LogEvent> {
    const logged = this.events.slice(since).find(({ event }) => event === name);
    if (logged !== undefined) return logged;
    const next = new Promise<LogEvent>((resolve) => {
      const listener = (event: LogEvent): void => {
        if (event.event !== name) return;
        this.proxy.off('log', listener);
        resolve(event);
      };
      this.proxy.on('log', listener);
    });
    return within(timeoutMs, `the event ${name}`, next);
  }
}

/** The counts of a tally by the values of their labels. */
export const countsOf = (tally: Tally | undefined): Readonly<Record<string, number>> =>
  Object.fromEntries([...(tally?.list() ?? [])].map(({ labels, count }) => [Object.values(labels).join(' '), count]));

export async function startProxy(t: ExecutionContext, channel: string, setup: ProxySetup = {}): Promise<TestProxy> {
  const proxy = new TestProxy(t, channel, setup);
  await proxy.start();
  return proxy;
}

/** The port at the end of an endpoint or of a description. */
export const portOf = (endpoint: string): number => Number(/:(\d+)$/.exec(endpoint)?.[1]);

interface PairSetup {
  /** The side that listens for the channel, and the side that connects. */
  readonly a?: ProxySetup;
  readonly b?: ProxySetup;
  /** Services that `b` serves and `a` listens for, as `NAME:ENDPOINT`. */
  readonly targets?: string | readonly string[];
  /** Follows the address of the channel at both sides. */
  readonly options?: string;
}

/** Two started proxies on one channel, at `path`, with an established session; `connect` dials a service, or the first one. */
export async function proxyPair(t: ExecutionContext, { a = {}, b = {}, targets = [], options = '' }: PairSetup = {}) {
  const path = join(temporaryFolder(t), 'channel.sock');
  const served = [targets].flat();
  const services = served.map((target) => target.slice(0, target.indexOf(':')));
  const listening = services.map((service) => `${service}:0`);
  const left = await startProxy(t, `unix-listen:${path}${options}`, { name: 'a', outgoing: listening, ...a });
  const right = await startProxy(t, `unix-connect:${path}${options}`, { name: 'b', incoming: served, ...b });
  await Promise.all([left, right].map((side) => side.event('session-established')));
  const connect = (service = services[0] ?? ''): net.Socket => localSocket(t, left.port(service));
  return { a: left, b: right, path, connect };
}

/** The state of the first forward of a side. */
export const forwardOf = ({ proxy }: TestProxy): ForwardStatus => {
  const [found] = proxy.listForwards();
  if (found === undefined) throw new Error('there is no forward');
  return found;
};

export { localServer } from './local-server.js';

/** Where a forward listens: a port of this machine, or a path. */
type Place = number | string;

/** A local program that connects to a forward; destroyed when the test ends. */
export function localSocket(t: ExecutionContext, place: Place | net.NetConnectOpts): net.Socket {
  const address = typeof place === 'number' ? { port: place } : typeof place === 'string' ? { path: place } : place;
  const socket = net.connect({ host: '127.0.0.1', ...address, allowHalfOpen: true });
  // Callers that wait for something learn how it ends; otherwise it may end in any way.
  socket.on('error', () => undefined);
  t.teardown(() => socket.destroy());
  return socket;
}

/** Everything that a program gets back for a text and EOF. */
export async function ask(t: ExecutionContext, place: Place, text = 'hello'): Promise<string> {
  const socket = localSocket(t, place);
  socket.end(text);
  return (await readToEnd(socket)).toString();
}

export async function answerTo(socket: net.Socket, text: string): Promise<string> {
  const answer = once(socket, 'data') as Promise<[Buffer]>;
  socket.write(text);
  return (await within(30_000, 'an answer', answer))[0].toString();
}

/** A connection to an echo, over which a byte has come back. */
export async function openEcho(t: ExecutionContext, place: Place): Promise<net.Socket> {
  const socket = localSocket(t, place);
  t.is(await answerTo(socket, 'x'), 'x');
  return socket;
}

/** Whether an open connection to an echo still carries bytes, and ends cleanly. */
export async function endsInOrder(socket: net.Socket): Promise<boolean> {
  const rest = readToEnd(socket);
  socket.end('last');
  return (await rest).toString() === 'last';
}

export const refusal = async (t: ExecutionContext, place: Place): Promise<string | undefined> =>
  (await failureOf(localSocket(t, place))).code;

/** All bytes until EOF, without ending the other direction; rejects with the socket's error. */
export function readToEnd(socket: Duplex): Promise<Buffer> {
  const all = new Promise<Buffer>((resolve, reject) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.once('end', () => resolve(Buffer.concat(chunks)));
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed without an end')));
  });
  return within(30_000, 'the end of a stream', all);
}

/** The error with which a socket fails; rejects if it ends cleanly. */
export function failureOf(socket: net.Socket): Promise<NodeJS.ErrnoException> {
  const failure = new Promise<NodeJS.ErrnoException>((resolve, reject) => {
    socket.once('error', resolve);
    socket.once('end', () => reject(new Error('ended in order')));
    socket.resume();
  });
  return within(30_000, 'the failure of a socket', failure);
}

export const echo = (socket: net.Socket): void => void socket.pipe(socket);

/** Commands that connect their process's standard streams to something. */
const NEEDS_PROCESS: ReadonlySet<unknown> = new Set(['exec', 'shell', 'connect']);

/** A pair with a session: the controlled side is `here`; `run` runs a command, in `env`, to its end. */
export async function steeredPair(
  t: ExecutionContext,
  { here = {}, peer = {} }: { readonly here?: ProxySetup; readonly peer?: ProxySetup } = {},
) {
  const { a, b } = await proxyPair(t, { a: here, b: peer });
  const control = await startControl(t, a.proxy);
  const env = { VPROXY_SOCKET: control.path };
  const run = (...args: readonly string[]): Promise<RunResult> =>
    NEEDS_PROCESS.has(args[0]) ? runVproxy(args, { env }) : callVproxy(args, { env });
  return { here: a, peer: b, control, client: connectControl(control.path), env, run };
}
