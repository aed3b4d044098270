/** The server of `vproxy web`: the files of the page, what it shows, and what it asks of the processes. */
import { createHash, X509Certificate } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import http, { type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import https from 'node:https';
import net, { type Socket } from 'node:net';
import { type Duplex, pipeline } from 'node:stream';
import { badArgument, toVproxyError, VproxyError } from '../../lib/errors.js';
import type { ListenAddress } from '../../lib/system/sockets/listen-address.js';
import { listenAt } from '../../lib/system/sockets/listen-at.js';
import { formatHostPort, isEveryAddress, isLoopback } from '../../lib/util/addresses/host-port.js';
import { type MachinesView, ORDERS } from '../views.js';
import { answerError, answerJson, answerText, BYTES_TYPE, setHeaders } from './answers.js';
import { Guard, urlOf } from './guard.js';
import type { Machines } from './machines.js';
import { passRequest, passUpgrade, permissionOf } from './pass-on.js';
import { listRecordings, openRecording } from './recordings.js';

export interface WebServerOptions {
  readonly machines: Machines;
  /** A TCP address, or the path of a unix socket for a reverse proxy. */
  readonly address: ListenAddress;
  /** The folder with the files of the page. */
  readonly assets: string;
  readonly isReadOnly: boolean;
  /** The folder of recordings; null: none are played. */
  readonly recordings: string | null;
  /** A certificate and its key, in PEM; null: none. */
  readonly tls: { readonly cert: Buffer; readonly key: Buffer } | null;
}

/** What a page that is not let in is told. */
const STRANGER = 'Open the link that vproxy web has printed: it has the token that this page needs.';

/** The host of the link. */
const OWN_NAME = 'vproxy.localhost';

const OTHER_LOOPBACK: Readonly<Record<string, string>> = { '127.0.0.1': '::1', '::1': '127.0.0.1' };

/** How many ports of the system's choice are tried if each is in use at the other address of loopback. */
const MOST_PORTS = 20;

/** Call `listen` once, then `close`. */
export class WebServer {
  readonly #options: WebServerOptions;
  readonly #guard: Guard;
  readonly #server: Server;
  readonly #files: ReadonlyMap<string, PageFile>;
  /** At the other address of loopback. */
  readonly #beside = net.createServer({ allowHalfOpen: true, noDelay: true });
  /** All of them: an HTTP server forgets those that became WebSockets, and knows none before its TLS handshake. */
  readonly #connections = new Set<Socket>();

  /** Throws `bad-file` if the files of the page are missing, or the certificate and its key are not that. */
  constructor(options: WebServerOptions) {
    const { address, assets, tls } = options;
    this.#options = options;
    this.#files = readFiles(assets);
    this.#guard = new Guard({ isLocal: 'port' in address && isLoopback(address.host), isEncrypted: tls !== null });
    // An upload may take longer than Node lets a request take.
    const settings = { requestTimeout: 0, headersTimeout: 60_000 };
    this.#server = tls === null ? http.createServer(settings) : createTlsServer({ ...settings, ...tls });
    this.#beside.on('connection', (socket) => this.#server.emit('connection', socket));
    this.#server.on('connection', (socket: Socket) => {
      this.#connections.add(socket);
      socket.once('close', () => this.#connections.delete(socket));
    });
    this.#server.on('request', (request, response) => this.#answer(request, response));
    this.#server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
  }

  /** Resolves with the link for a browser, whose host is a placeholder if it is not known. Rejects with `address-…` codes. */
  async listen(): Promise<string> {
    const scheme = this.#options.tls === null ? 'http' : 'https';
    const got = await this.#listenAtBoth(MOST_PORTS);
    if (!('port' in got)) return `${scheme}://HOST/?token=${this.#guard.token}`;
    this.#guard.port = got.port;
    return `${scheme}://${this.#nameOf(got.host)}:${got.port}/?token=${this.#guard.token}`;
  }

  /**
   * Browsers take every name under `localhost` for this machine. With a name of its own the page shares its cookie with no server
   * at another port of 127.0.0.1, which may be a guest's.
   */
  #nameOf(host: string): string {
    if (OTHER_LOOPBACK[host] !== undefined) {
      const { tls } = this.#options;
      const isOwn = tls === null || new X509Certificate(tls.cert).checkHost(OWN_NAME) !== undefined;
      return isOwn ? OWN_NAME : 'localhost';
    }
    return isEveryAddress(host) ? 'HOST' : formatHostPort({ host, port: 0 }).slice(0, -2);
  }

  /**
   * A browser takes a name under `localhost` for both addresses of loopback, and tries ::1 first: whoever else listened there
   * would get the token.
   */
  async #listenAtBoth(triesLeft: number): Promise<ListenAddress> {
    const { address } = this.#options;
    const got = await listenAt(this.#server, address);
    const other = 'port' in got ? OTHER_LOOPBACK[got.host] : undefined;
    if (!('port' in got) || other === undefined) return got;
    try {
      await listenAt(this.#beside, { host: other, port: got.port });
    } catch (error) {
      const { code } = toVproxyError(error);
      // This machine lacks IPv6.
      if (code === 'address-unavailable') return got;
      const isPicked = 'port' in address && address.port === 0;
      if (code !== 'address-in-use' || !isPicked || triesLeft === 0) throw error;
      await new Promise((resolve) => this.#server.close(resolve));
      return this.#listenAtBoth(triesLeft - 1);
    }
    return got;
  }

  async close(): Promise<void> {
    const closed = [this.#server, this.#beside].map((server) => new Promise((resolve) => server.close(resolve)));
    for (const socket of this.#connections) socket.destroy();
    await Promise.all(closed);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    setHeaders(response);
    const judgement = this.#guard.judge(request);
    const { pathname, searchParams, search } = urlOf(request);
    // Nothing more is read of who is not let in.
    if (judgement.kind === 'refused' || judgement.kind === 'stranger') response.setHeader('connection', 'close');
    if (judgement.kind === 'refused') {
      answerText(response, 403, `Refused: ${judgement.why}.`);
    } else if (judgement.kind === 'enter') {
      response.setHeader('set-cookie', this.#guard.cookie);
      this.#answerFile(request, response, 'index.html');
    } else if (judgement.kind === 'stranger') {
      answerText(response, 401, STRANGER);
    } else if (pathname === '/api/recording') {
      this.#answerRecording(searchParams.get('name') ?? '', response).catch((error: unknown) =>
        answerFailure(response, error),
      );
    } else if (pathname.startsWith('/api/')) {
      this.#answerView(pathname, searchParams).then(
        (view) => answerJson(response, view),
        (error: unknown) => answerFailure(response, error),
      );
    } else if (pathname.startsWith('/p/')) {
      try {
        const [path, target] = this.#route(request.method ?? 'GET', pathname);
        passRequest(request, response, path, target + search);
      } catch (error) {
        answerFailure(response, error);
      }
    } else {
      this.#answerFile(request, response, pathname === '/' ? 'index.html' : pathname.slice(1));
    }
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => undefined);
    try {
      const judgement = this.#guard.judge(request, true);
      if (judgement.kind !== 'pass') throw new VproxyError('denied', STRANGER);
      const { pathname, search } = urlOf(request);
      const [path, target] = this.#route('GET', pathname);
      if (target !== '/v1/terminal') throw new VproxyError('not-found', 'there is no such WebSocket');
      passUpgrade(request, socket, head, path, target + search);
    } catch (error) {
      const { code, message } = toVproxyError(error);
      const status = code === 'not-found' ? '404 Not Found' : '403 Forbidden';
      socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n${message}\n`, () =>
        socket.destroy(),
      );
    }
  }

  /** The control socket and the path there of a request to `/p/PROCESS/v1/…`. Throws `not-found` and `denied`. */
  #route(method: string, pathname: string): [socketPath: string, path: string] {
    const [, key = '', path = ''] = /^\/p\/([^/]+)(\/.*)$/.exec(pathname) ?? [];
    const permission = permissionOf(method, path, this.#options.isReadOnly);
    if (permission === 'read-only') throw new VproxyError('denied', 'vproxy web was started with --read-only');
    if (permission === 'unknown') throw new VproxyError('not-found', `the page has no use for ${method} ${path}`);
    return [this.#options.machines.socketOf(decoded(key)), path];
  }

  async #answerView(pathname: string, query: URLSearchParams): Promise<unknown> {
    const { isReadOnly, machines, recordings } = this.#options;
    const number = (name: string, otherwise: number): number => {
      const text = query.get(name) ?? String(otherwise);
      if (!/^\d{1,9}$/.test(text)) throw badArgument(`${name}: not a whole number`);
      return Number(text);
    };
    switch (pathname) {
      case '/api/machines': {
        const order = ORDERS.find((name) => name === query.get('order')) ?? 'name';
        return {
          ...machines.list(number('from', 0), number('count', 50), order, query.get('filter') ?? ''),
          ...{ isReadOnly, hasRecordings: recordings !== null },
        } satisfies MachinesView;
      }
      case '/api/machine':
        return machines.show(
          query.get('process') ?? '',
          query.get('channel') ?? '',
          number('history', 0),
          query.get('jobs') === 'true',
        );
      case '/api/recordings':
        return listRecordings(this.#recordings);
      default:
        throw new VproxyError('not-found', 'there is no such view');
    }
  }

  get #recordings(): string {
    const { recordings } = this.#options;
    if (recordings === null) throw new VproxyError('not-found', 'vproxy web was started without --recordings');
    return recordings;
  }

  async #answerRecording(name: string, response: ServerResponse): Promise<void> {
    const file = await openRecording(this.#recordings, name);
    response.writeHead(200, { 'content-type': BYTES_TYPE, 'content-disposition': 'attachment' });
    pipeline(file, response, () => undefined);
  }

  #answerFile({ method, headers }: IncomingMessage, response: ServerResponse, name: string): void {
    const file = this.#files.get(name);
    if (file === undefined || (method !== 'GET' && method !== 'HEAD')) {
      answerText(response, 404, 'There is no such page.');
      return;
    }
    response.setHeader('cache-control', 'no-cache').setHeader('etag', file.tag);
    if (headers['if-none-match'] === file.tag) response.writeHead(304).end();
    else response.writeHead(200, { 'content-type': file.type }).end(method === 'HEAD' ? undefined : file.bytes);
  }
}

function createTlsServer(options: https.ServerOptions): Server {
  try {
    return https.createServer(options);
  } catch (cause) {
    throw new VproxyError('bad-file', `--cert and --key: ${(cause as Error).message}`, { cause });
  }
}

interface PageFile {
  readonly type: string;
  readonly bytes: Buffer;
  readonly tag: string;
}

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
};

function readFiles(folder: string): ReadonlyMap<string, PageFile> {
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => TYPES[extensionOf(name)] !== undefined) : [];
  if (!names.includes('index.html')) {
    throw new VproxyError(
      'bad-file',
      `the page is not in ${folder}: vproxy web needs the whole package, not one file of it`,
    );
  }
  return new Map(
    names.map((name) => {
      const bytes = readFileSync(`${folder}/${name}`);
      return [name, { type: TYPES[extensionOf(name)] ?? '', bytes, tag: `"${digestOf(bytes)}"` }];
    }),
  );
}

const extensionOf = (name: string): string => name.slice(name.lastIndexOf('.') + 1);

function digestOf(bytes: Buffer): string {
  // Not for secrecy: to tell one build from another.
  return createHash('sha256').update(bytes).digest('base64url').slice(0, 22);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw badArgument('the path is not percent-encoded UTF-8');
  }
}

function answerFailure(response: ServerResponse, error: unknown): void {
  const known = toVproxyError(error);
  const status =
    known.code === 'not-found' ? 404 : known.code === 'denied' ? 403 : known.code === 'bad-argument' ? 400 : 502;
  answerError(response, status, known);
}
