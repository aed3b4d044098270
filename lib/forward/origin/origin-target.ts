/** `origin:URL`: a reverse proxy for the peer to one origin server, with the credentials of this side. */
import net from 'node:net';
import type tls from 'node:tls';
import { systemCode, VproxyError } from '../../errors.js';
import { makeEvent } from '../../events.js';
import type { SessionStream } from '../../session/stream.js';
import { guardDescriptor } from '../../system/descriptors.js';
import { lookup } from '../../system/dns/lookup.js';
import { readSmallFile } from '../../system/files/guarded-files.js';
import { formatHostPort, isIP } from '../../util/addresses/host-port.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { describeError, escapeText } from '../../util/escape.js';
import type { KnownStream } from '../connection.js';
import {
  type Conversation,
  type ConversationContext,
  ConversingTarget,
  type Exchange,
} from '../egress/conversation.js';
import type { Reached } from '../egress/dial.js';
import type { Field, RequestHead } from '../egress/head.js';
import { HttpConversation } from '../egress/http-conversation.js';
import { HttpReader } from '../egress/message.js';
import type { Kept, OriginConnection } from '../egress/origin.js';
import { HEAD_MS, headTimeout, printable, Refusal } from '../egress/refusal.js';
import type { EndpointKind, TargetContext } from '../endpoint-kind.js';
import { formatOrigin, type OriginEndpoint } from '../forms/origin-form.js';
import { streamFields } from '../forward-log.js';
import { formatOriginRequest, parseOriginRequest, readFields } from './origin-request.js';

export const originEndpoint: EndpointKind<OriginEndpoint> = {
  createTarget: (endpoint, context) => new OriginTarget(endpoint, context),
};

/** Limit on connecting and the TLS handshake, in milliseconds. */
const CONNECT_MS = 10_000;

/** Secrets are read again after this, in milliseconds. */
const SECRETS_MS = 1000;

/** Room for the authorities that a system trusts, which are about 230 KB. */
const MAX_PEM_BYTES = 1 << 20;

/** Limit on a path in the log, in characters. */
const MAX_LOGGED = 1024;

/** It takes milliseconds to load, and most processes do without. */
const loadTls = (): typeof tls => process.getBuiltinModule('node:tls');

/** What `read` returns. Throws a `Refusal` that does not show the program which file cannot be read. */
function readable<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw new Refusal('bad-credential', 'a credential cannot be read on the host', { cause });
  }
}

/** Serves requests to one origin server. */
class OriginTarget extends ConversingTarget {
  readonly #endpoint: OriginEndpoint;
  readonly #pool: OriginPool;
  /** The fields with their secrets, as read last. */
  #fields: { readonly fields: readonly Field[]; readonly atMs: number } | null = null;
  #authorities: { readonly pem: string; readonly context: tls.SecureContext } | null = null;

  constructor(endpoint: OriginEndpoint, context: TargetContext) {
    super(context);
    this.#endpoint = endpoint;
    this.#pool = new OriginPool(context.clock);
  }

  /** Rejects with `bad-file` for a file that cannot be read. */
  prepare(): Promise<void> {
    return Promise.resolve().then(() => {
      this.#readFields();
      this.#secureContext();
    });
  }

  serve(stream: SessionStream): void {
    this.begin(stream, async (guest) => {
      guest.expectWithin(HEAD_MS, headTimeout);
      await new HttpConversation(guest, new HttpReader(guest), this.#contextOf(guest)).run();
      return false;
    });
  }

  #contextOf(guest: Conversation): ConversationContext {
    const { service } = this.context;
    /** The request that is served, and since when. */
    let asked: RequestHead | null = null;
    let sinceMs = 0;
    return {
      rules: () => null,
      requests: {
        parse: (head) => {
          asked = head;
          sinceMs = this.context.clock.now();
          return parseOriginRequest(head, this.#endpoint, service);
        },
        format: (request) => formatOriginRequest(request, this.#endpoint, this.#secrets()),
      },
      kept: () => this.#pool,
      dial: () => this.#dial(guest),
      onLeft: () => undefined,
      onExchanged: ({ head }, exchange) => {
        // A refusal may follow a failure.
        if (exchange.code === null) asked = null;
        this.#exchanged(guest.stream, head, exchange, Math.round(this.context.clock.now() - sinceMs));
      },
      onRefused: (refusal) => {
        this.#refused(guest.stream, asked, refusal);
        asked = null;
      },
    };
  }

  // ---- secrets --------------------------------------------------------------------------------------------------

  #readFields(): readonly Field[] {
    const fields = readFields(this.#endpoint.headers);
    this.#fields = { fields, atMs: this.context.clock.now() };
    return fields;
  }

  /** Throws a `Refusal` if a file cannot be read: a request without its credential is not sent. */
  #secrets(): readonly Field[] {
    const known = this.#fields;
    if (known !== null && this.context.clock.now() - known.atMs < SECRETS_MS) return known.fields;
    return readable(() => this.#readFields());
  }

  #secureContext(): tls.SecureContext | undefined {
    const { ca } = this.#endpoint;
    if (ca === undefined) return undefined;
    const pem = readSmallFile(ca, MAX_PEM_BYTES);
    // Node takes an empty text for none, and trusts what it trusts by default.
    if (!/-----BEGIN [A-Z\d ]*CERTIFICATE-----/.test(pem))
      throw new VproxyError('bad-file', `${escapeText(ca)}: has no certificate in PEM`);
    if (this.#authorities?.pem !== pem)
      this.#authorities = { pem, context: loadTls().createSecureContext({ ca: pem }) };
    return this.#authorities.context;
  }

  // ---- connections to the origin server -------------------------------------------------------------------------

  /** Connects, with TLS unless the origin is http. Rejects with a `Refusal`, or if the program has gone away. */
  async #dial(guest: Conversation): Promise<Reached> {
    const { host, isTls, port } = this.#endpoint;
    const { clock } = this.context;
    const { gone, stream } = guest;
    // Each handshake takes the processor for about a millisecond.
    const turn = guest.nextTurn();
    if (turn !== null) await turn;
    gone.throwIfAborted();
    const socket = this.#connect();
    let cancelTimeout: CancelTimer = () => undefined;
    const abort = (): void => void socket.destroy(gone.reason as Error);
    gone.addEventListener('abort', abort);
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once(isTls ? 'secureConnect' : 'connect', resolve).once('error', reject);
        guardDescriptor(socket, (why) => socket.destroy(new Error(why)));
        cancelTimeout = clock.schedule(CONNECT_MS, () =>
          socket.destroy(this.#failed('timeout', `did not answer within ${CONNECT_MS / 1000} s`)),
        );
      });
    } catch (error) {
      gone.throwIfAborted();
      throw error instanceof Refusal ? error : this.#unreached(error, socket);
    } finally {
      cancelTimeout();
      gone.removeEventListener('abort', abort);
    }
    const address = formatHostPort({ host: socket.remoteAddress ?? host, port });
    const rule = formatOrigin(this.#endpoint);
    stream.reached = { destination: formatHostPort({ host, port }), address, rule };
    const destination = { host, port, family: 0 } as const;
    return { socket, address, rule, rules: null, isAdded: false, destination, atMs: clock.now() };
  }

  #connect(): net.Socket {
    const { host, isTls, port } = this.#endpoint;
    const options = { host, port, lookup };
    if (!isTls) return net.connect({ ...options, noDelay: true }).pause();
    const secureContext = readable(() => this.#secureContext());
    const named = isIP(host) === 0 ? { servername: host } : {};
    // Whatever the environment says.
    const strict = { rejectUnauthorized: true, ALPNProtocols: ['http/1.1'] };
    const tlsOptions = { ...options, ...named, ...(secureContext && { secureContext }), ...strict };
    return loadTls().connect(tlsOptions).setNoDelay().pause();
  }

  #failed(reason: Refusal['reason'], what: string, cause?: unknown): Refusal {
    const text = formatOrigin(this.#endpoint);
    return new Refusal(reason, `${text} ${what}`, { destination: text, cause });
  }

  #unreached(cause: unknown, socket: net.Socket): Refusal {
    const codes = (cause instanceof AggregateError ? cause.errors : [cause]).map(systemCode);
    if ((socket as Partial<tls.TLSSocket>).authorizationError)
      return this.#failed('bad-certificate', 'has no valid certificate', cause);
    if (codes.includes('ENOTFOUND') || codes.includes('EAI_AGAIN'))
      return this.#failed('not-found', 'has no address', cause);
    if (codes.includes('ECONNREFUSED')) return this.#failed('refused', 'refused the connection', cause);
    if (codes.includes('ETIMEDOUT')) return this.#failed('timeout', 'did not answer', cause);
    if (socket.bytesRead > 0) return this.#failed('bad-answer', 'does not speak TLS as it should', cause);
    return this.#failed('unreachable', 'cannot be reached from the host', cause);
  }

  // ---- the log --------------------------------------------------------------------------------------------------

  /** A path that is shown to nobody but this side's operator. */
  #shown({ method, target }: RequestHead): { readonly method: string; readonly path: string } {
    const path = this.#endpoint.logsQuery === true ? target : (target.split('?', 1)[0] ?? '');
    return { method, path: path.slice(0, MAX_LOGGED) };
  }

  #exchanged(stream: KnownStream, head: RequestHead, exchange: Exchange, durationMs: number): void {
    const { log } = this.context;
    const { method, path } = this.#shown(head);
    const { code, downloadedBytes, status, uploadedBytes } = exchange;
    const result = `${status ?? 'no answer'}${code === null ? '' : ` (${code})`}`;
    const text = `${method} ${path}: ${result}, ${uploadedBytes} bytes up, ${downloadedBytes} down`;
    const { id, from } = stream;
    const facts = { stream: id, from, method, path, status, uploadedBytes, downloadedBytes, durationMs, code };
    log.write(makeEvent('origin-request', `stream ${stream.id}: ${text}`, log.fields(facts)));
  }

  #refused(stream: KnownStream, head: RequestHead | null, { cause, message, reason }: Refusal): void {
    const { log } = this.context;
    const { method, path } = head === null ? { method: null, path: null } : this.#shown(head);
    const why = printable(cause === undefined ? message : `${message}: ${describeError(cause)}`);
    const facts = { ...streamFields(stream), method, path, reason, why };
    log.write(makeEvent('origin-refused', `stream ${stream.id}: ${why} (${reason})`, log.fields(facts)));
  }

  // ---- for the forward ------------------------------------------------------------------------------------------

  override stop(): void {
    super.stop();
    this.#pool.stop();
  }
}

/** An unused connection is closed after this, in milliseconds: sooner than most servers do it, while a request is on its way. */
const KEPT_MS = 4000;

/** Limit on unused connections. */
const MAX_KEPT = 64;

/** The unused connections to the origin server, for all conversations; the one used last is taken first. */
class OriginPool implements Kept {
  readonly #clock: Clock;
  readonly #kept = new Map<OriginConnection, CancelTimer>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  take(): OriginConnection | null {
    for (const origin of [...this.#kept.keys()].reverse()) {
      this.#remove(origin);
      if (origin.isUsableBy(null)) return origin;
      origin.destroy();
    }
    return null;
  }

  keep(origin: OriginConnection): void {
    this.#kept.set(
      origin,
      this.#clock.schedule(KEPT_MS, () => this.#close(origin)),
    );
    const oldest = this.#kept.size > MAX_KEPT ? this.#kept.keys().next().value : undefined;
    if (oldest !== undefined) this.#close(oldest);
  }

  #remove(origin: OriginConnection): void {
    this.#kept.get(origin)?.();
    this.#kept.delete(origin);
  }

  #close(origin: OriginConnection): void {
    this.#remove(origin);
    origin.destroy();
  }

  /** Others go on with what a conversation leaves. */
  close(): void {}

  stop(): void {
    for (const origin of this.#kept.keys()) this.#close(origin);
  }
}
