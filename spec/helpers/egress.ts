/** An egress whose guest is a spec: an in-memory session, a dialer that leads names to local servers, and recording servers. */
import { once } from 'node:events';
import http from 'node:http';
import type net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { VproxyError } from '../../lib/errors.js';
import type { EventFields, LogEvent } from '../../lib/events.js';
import type { EgressConnection, EgressDialer } from '../../lib/forward/egress/dial.js';
import { EgressTarget } from '../../lib/forward/egress/egress-target.js';
import { Refusal, type RefusalReason } from '../../lib/forward/egress/refusal.js';
import type { Destination, EgressRules } from '../../lib/forward/egress/rules.js';
import type { ResolvedNames } from '../../lib/forward/redirect/resolved-names.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { formatHostPort } from '../../lib/util/addresses/host-port.js';
import { localServer, localSocket, readToEnd } from './proxies.js';
import { type PairOptions, SessionPair } from './session-pair.js';
import { targetPair } from './target-pair.js';
import { within } from './time.js';

/** Where destinations lead, as `HOST:PORT`: to a port of this machine, or to a refusal. All others are denied. */
export type Routes = Readonly<Record<string, number | RefusalReason>>;

export interface EgressSceneOptions extends PairOptions {
  readonly routes?: Routes;
  /** Dials instead of the routes, for specs with their own rules. */
  readonly dialer?: Pick<EgressDialer, 'dial'>;
  readonly maxStreams?: number;
  /** What a resolver has answered before. */
  readonly names?: ResolvedNames;
  /** Whether what allows a route was added at run time. Default false. */
  readonly isAdded?: boolean;
  readonly onDialled?: (socket: net.Socket) => void;
  readonly beforeDialled?: () => Promise<void>;
}

/** A target and its guest. Bytes are carried between them until the spec ends. */
export class EgressScene {
  readonly pair: SessionPair;
  readonly target: EgressTarget;
  /** The current rules, which only the target checks: the routes decide what is let out. */
  rules: EgressRules = { allow: [], deny: [], upstream: null, askMs: null };
  readonly streams: SessionStream[] = [];
  readonly dialled: string[] = [];
  readonly refused: { readonly message: string; readonly facts: EventFields<'egress-refused'> }[] = [];
  readonly left: { readonly message: string; readonly facts: EventFields<'egress'> }[] = [];
  /** Finished streams: the reason, or null. */
  readonly closed: (VproxyError | null)[] = [];
  readonly #t: ExecutionContext;
  readonly #options: EgressSceneOptions;
  #isOver = false;

  constructor(t: ExecutionContext, options: EgressSceneOptions = {}) {
    this.#t = t;
    this.#options = options;
    const dialer = options.dialer ?? { dial: (destination, signal) => this.#dial(destination, signal) };
    const { pair, target } = targetPair(
      'internet',
      'egress:',
      (context) => new EgressTarget('internet', dialer, context),
      {
        pair: new SessionPair(options),
        maxStreams: options.maxStreams ?? 1024,
        egress: () => this.rules,
        ...(options.names !== undefined && { names: options.names }),
        onClosed: (_stream, reason) => this.closed.push(reason),
        log: (event) => this.#hear(event),
      },
    );
    this.pair = pair;
    this.target = target;
    const { server } = pair.b.session;
    pair.b.session.server = {
      serve: (stream, session) => {
        this.streams.push(stream);
        server?.serve(stream, session);
      },
    };
    t.teardown(() => {
      this.#isOver = true;
      this.target.stop();
    });
    void this.#carry();
  }

  #hear({ event, fields, message }: LogEvent): void {
    if (event === 'egress') this.left.push({ message, facts: fields as EventFields<'egress'> });
    if (event === 'egress-refused') this.refused.push({ message, facts: fields as EventFields<'egress-refused'> });
  }

  async #carry(): Promise<void> {
    while (!this.#isOver) {
      this.pair.settle();
      await setImmediate();
    }
  }

  async #dial(destination: Destination, signal: AbortSignal): Promise<EgressConnection> {
    const text = formatHostPort(destination);
    const { rules } = this;
    this.dialled.push(text);
    await this.#options.beforeDialled?.();
    signal.throwIfAborted();
    const route = this.#options.routes?.[text] ?? 'denied';
    if (typeof route === 'string') {
      const verdict = { isAllowed: false, rule: null, why: 'no entry allows it' };
      const message =
        route === 'denied' ? `${text} is not allowed by egress "internet" on the host` : `${text}: ${route}`;
      throw new Refusal(route, message, { destination: text, verdict: route === 'denied' ? verdict : null });
    }
    const socket = localSocket(this.#t, { host: '127.0.0.1', port: route }).pause();
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    socket.setNoDelay();
    this.#options.onDialled?.(socket);
    const { isAdded = false } = this.#options;
    return { socket, address: `127.0.0.1:${route}`, isAdded, rule: `allow "${text}"`, rules };
  }

  open(): MuxStream {
    const stream = MuxStream.open(this.pair.a.session, 'internet');
    stream.on('error', () => undefined);
    // Unread output is dropped, like that of a program on a forward.
    stream.on('stop', () => undefined);
    return stream;
  }

  /** Sends a text and ends, or keeps reading; returns everything answered until EOF. */
  async say(words: Buffer | string, { isEnding = true }: { readonly isEnding?: boolean } = {}): Promise<string> {
    const stream = this.open();
    if (isEnding) stream.end(words, 'latin1');
    else stream.write(words, 'latin1');
    return (await readAll(stream)).toString('latin1');
  }
}

/** Everything that a program receives until EOF. Rejects with the error of a stream that is reset. */
export function readAll(stream: MuxStream): Promise<Buffer> {
  stream.once('end', () => stream.end());
  const all = readToEnd(stream);
  stream.resume();
  return all;
}

export function readUntil(stream: MuxStream, text: string): Promise<string> {
  const read = new Promise<string>((resolve, reject) => {
    let all = '';
    const take = (chunk: Buffer): void => {
      all += chunk.toString('latin1');
      if (!all.includes(text)) return;
      stream.off('data', take).pause();
      resolve(all);
    };
    stream.on('data', take).resume();
    stream.once('close', () => reject(new Error(`closed behind ${JSON.stringify(all)}`)));
  });
  return within(20_000, JSON.stringify(text), read);
}

const HEADS = /[A-Z]+ \S+ HTTP\/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n/g;

/** A server that records its input, byte by byte, and answers each complete head with its next, or last, answer. */
export class RecordingOrigin {
  port = 0;
  readonly received: string[] = [];

  static async start(t: ExecutionContext, answers: readonly (string | null)[] = [OK]): Promise<RecordingOrigin> {
    const origin = new RecordingOrigin();
    let answered = 0;
    const serve = (socket: net.Socket): void => {
      const at = origin.received.push('') - 1;
      let heads = 0;
      socket.on('data', (chunk: Buffer) => {
        const text = `${origin.received[at] ?? ''}${chunk.toString('latin1')}`;
        origin.received[at] = text;
        for (const whole = text.match(HEADS)?.length ?? 0; heads < whole; heads += 1) {
          const answer = answers[Math.min(answered, answers.length - 1)] ?? null;
          answered += 1;
          if (answer === null) socket.destroy();
          else socket.write(answer, 'latin1');
        }
      });
      socket.on('end', () => socket.end());
    };
    origin.port = (await localServer(t, serve)).port;
    return origin;
  }

  get bytes(): string {
    return this.received.join('');
  }
}

/** The port of a Node server that answers as `handle` says; it ends with the test. */
export async function httpServer(t: ExecutionContext, handle: http.RequestListener): Promise<number> {
  const server = http.createServer(handle);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as net.AddressInfo).port;
}

export const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

export const get = (host: string, path = '/', fields = ''): string =>
  `GET http://${host}${path} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`;

const PLACE = 'one.test:80';

interface LeadingOptions extends EgressSceneOptions {
  /** The destinations that lead to the server, as `HOST:PORT`. */
  readonly places?: readonly string[];
}

/** An egress to a server whose connections `serve` gets. */
export async function sceneTo(
  t: ExecutionContext,
  serve: (socket: net.Socket) => void,
  { places = [PLACE], routes, ...options }: LeadingOptions = {},
): Promise<EgressScene> {
  const { port } = await localServer(t, serve);
  const own = Object.fromEntries(places.map((place) => [place, port]));
  return new EgressScene(t, { ...options, routes: { ...own, ...routes } });
}

/** An egress to a recording server, and that server. */
export async function sceneToOrigin(
  t: ExecutionContext,
  {
    answers,
    places = [PLACE],
  }: { readonly answers?: readonly (string | null)[]; readonly places?: readonly string[] } = {},
) {
  const origin = await RecordingOrigin.start(t, answers);
  const routes = Object.fromEntries(places.map((place) => [place, origin.port]));
  return { origin, scene: new EgressScene(t, { routes }) };
}
