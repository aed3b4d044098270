/** `egress:` and `egress:NAME`: an HTTP and SOCKS 5 proxy for the peer, which reaches what the rules of that egress allow. */
import { type EventFields, makeEvent } from '../../events.js';
import type { SessionStream } from '../../session/stream.js';
import { readBuffered, resetSocket } from '../../system/sockets/node-sockets.js';
import { formatHostPort } from '../../util/addresses/host-port.js';
import { describeError } from '../../util/escape.js';
import { type Connection, Connections, type EgressReached, type KnownStream, targetOf } from '../connection.js';
import type { EndpointKind, TargetContext } from '../endpoint-kind.js';
import type { EgressEndpoint } from '../forms/endpoint-forms.js';
import { streamFields } from '../forward-log.js';
import { isRedirected } from '../redirect/redirected.js';
import { type Conversation, type ConversationContext, ConversingTarget, type Tunnel } from './conversation.js';
import { converse } from './converse.js';
import { EgressDialer, type Reached } from './dial.js';
import type { RequestHead } from './head.js';
import { KeptOrigins, type KeptTogether } from './origin.js';
import { printable, Refusal } from './refusal.js';
import { PROXY_REQUESTS, type ProxyRequest } from './request.js';
import type { Destination } from './rules.js';
import { allowedBy, type EgressRules } from './rules.js';

export const egressEndpoint: EndpointKind<EgressEndpoint> = {
  createTarget(endpoint, context) {
    const name = endpoint.name === '' ? context.service : endpoint.name;
    const dialer = new EgressDialer({ name, rules: () => context.egress(name), clock: context.clock });
    return new EgressTarget(name, dialer, context);
  },
};

/** The fields of an `egress` event, besides those of its stream. */
type EgressFacts = Omit<EventFields<'egress'>, keyof EventFields<'stream-opened'> | 'egress'>;

/** Handles the conversation on each stream, or splices it with the socket of its destination. */
export class EgressTarget extends ConversingTarget {
  readonly #name: string;
  readonly #dialer: Pick<EgressDialer, 'dial'>;
  readonly #keptTogether: KeptTogether = new Set();
  /** Open connections to origin servers, without revoked ones. */
  readonly #origins = new Set<Reached>();
  readonly connections: Connections;

  constructor(name: string, dialer: Pick<EgressDialer, 'dial'>, context: TargetContext) {
    super(context);
    this.#name = name;
    this.#dialer = dialer;
    const { clock, onClosed, onLeft } = context;
    this.connections = new Connections({
      clock,
      onLeft,
      onDone: (connection, reason) => {
        this.#leftSplice(connection, reason?.code ?? null);
        onClosed(connection.stream, reason);
      },
    });
  }

  override get openCount(): number {
    return super.openCount + this.connections.size;
  }

  serve(stream: SessionStream): void {
    this.begin(stream, async (guest) => {
      const tunnel = await converse(guest, this.#contextOf(guest));
      if (tunnel !== null) this.#splice(guest, tunnel);
      return tunnel !== null;
    });
  }

  get #rules(): EgressRules | null {
    return this.context.egress(this.#name);
  }

  #contextOf(guest: Conversation): ConversationContext {
    let redirectedFrom: string | undefined;
    const parse = (head: RequestHead): ProxyRequest => {
      const request = this.#parse(guest, head);
      ({ redirectedFrom } = request.destination);
      return request;
    };
    return {
      requests: { ...PROXY_REQUESTS, parse },
      kept: () => new KeptOrigins(this.#keptTogether),
      rules: () => this.#rules,
      dial: (destination) => this.#dial(guest, destination),
      onRefused: (refusal) => this.#refused(guest.stream, refusal, redirectedFrom),
      onLeft: (reached, ending) => {
        const { address, atMs, destination, rule } = reached;
        const { host, port } = destination;
        const durationMs = this.context.clock.now() - atMs;
        const code = this.#origins.delete(reached) ? ending.code : 'denied';
        this.#left(guest.stream, { host, port, address, rule, ...ending, code, durationMs });
      },
    };
  }

  /** A redirected program asks for an address: that of a name, if the resolver has answered with it. */
  #parse(guest: Conversation, head: RequestHead): ProxyRequest {
    const request = PROXY_REQUESTS.parse(head);
    if (request.originTarget !== null || !isRedirected(head)) return request;
    guest.isRedirected = true;
    return { ...request, destination: this.context.names.nameOf(this.#name, request.destination) };
  }

  async #dial({ gone, isRedirected, left, stream }: Conversation, destination: Destination): Promise<Reached> {
    const connection = await this.#dialer.dial(destination, gone, left, isRedirected);
    const { rules } = connection;
    const { socket } = connection;
    const atMs = this.context.clock.now();
    // Another entry of the same text may have taken its place meanwhile: the connection is that one's now.
    const entry = this.#rules?.allow.find(({ text }) => allowedBy(text) === connection.rule);
    const isRevoked = this.#rules !== rules && entry === undefined;
    if (!socket.destroyed && !gone.aborted && !isRevoked) {
      const reached = { ...connection, isAdded: entry?.isAdded ?? false, destination, atMs };
      this.#origins.add(reached);
      this.#opened(stream, reached);
      return reached;
    }
    socket.destroy();
    gone.throwIfAborted();
    const text = formatHostPort(destination);
    if (isRevoked) throw new Refusal('denied', `${text}: ${this.#noLonger}`, { destination: text });
    throw new Refusal('unreachable', `${text} closed the connection at once`, { destination: text });
  }

  /** From here on the connection is like that of any other forward. */
  #splice(guest: Conversation, { answer, reached, rest }: Tunnel): void {
    const { stream } = guest;
    const { address, atMs, destination, isAdded, rule, socket } = reached;
    this.#origins.delete(reached);
    // An upstream proxy may already have passed on some bytes of the destination.
    const early = socket.readableLength > 0 ? (socket.read() as Buffer) : NOTHING;
    const { splice } = this.connections.connect(() => stream, {
      egress: {
        ...placeOf(destination),
        ...{ address, rule, isAdded, atMs },
        sentBefore: stream.sentBytes + answer.length,
        receivedBefore: stream.receivedBytes - guest.unreadBytes - rest.length,
      },
    });
    stream.send(Buffer.concat([answer, early]), 0, answer.length + early.length, false);
    this.connections.seat(socket);
    readBuffered(socket, splice.onread);
    // Reading resumes once the answer has been sent.
    if (stream.isWaiting) socket.pause();
    splice.join(stream, socket);
    this.remove(guest);
    guest.handOver(splice, rest);
  }

  revoke(egress: string, rules: ReadonlySet<string> | null): number {
    if (egress !== this.#name) return 0;
    const isRevoked = ({ isAdded, rule }: Pick<Reached, 'isAdded' | 'rule'>): boolean =>
      rules === null || (isAdded && rules.has(rule));
    const origins = [...this.#origins].filter(isRevoked);
    for (const reached of origins) {
      this.#origins.delete(reached);
      resetSocket(reached.socket);
    }
    const isRevokedTunnel = ({ egress: to }: Connection): boolean => to !== null && isRevoked(to);
    return origins.length + this.connections.resetWhere(isRevokedTunnel, 'denied', this.#noLonger);
  }

  get #noLonger(): string {
    return `egress "${this.#name}" no longer allows it`;
  }

  // ---- the log --------------------------------------------------------------------------------------------------

  #leftSplice({ egress, stream }: Connection, code: string | null): void {
    if (egress === null) return;
    const { address, atMs, rule } = egress;
    this.#left(stream, {
      ...placeOf(egress),
      ...{ address, rule },
      uploadedBytes: stream.receivedBytes - egress.receivedBefore,
      downloadedBytes: Math.max(0, stream.sentBytes - egress.sentBefore),
      code,
      durationMs: this.context.clock.now() - atMs,
    });
  }

  #opened(stream: SessionStream, { address, destination, rule }: Reached): void {
    const { log } = this.context;
    const place = placeOf(destination);
    stream.reached = targetOf({ address, ...place, rule });
    const fields = log.fields({ ...streamFields(stream), egress: this.#name, ...place, address, rule });
    const text = `stream ${stream.id}: ${describePlace(place)} at ${address}, by ${rule}, opened`;
    log.write(makeEvent('egress-opened', text, fields));
  }

  #left(stream: KnownStream, facts: EgressFacts): void {
    const { log } = this.context;
    const { address, code, downloadedBytes, rule, uploadedBytes } = facts;
    const amount = `${uploadedBytes} bytes up, ${downloadedBytes} down`;
    const ending = code === null ? '' : ` (${code})`;
    const where = `${describePlace(facts)} at ${address}, by ${rule}`;
    const durationMs = Math.round(facts.durationMs);
    const fields = log.fields({ ...streamFields(stream), ...facts, egress: this.#name, durationMs });
    log.write(makeEvent('egress', `stream ${stream.id}: ${where}, closed: ${amount}${ending}`, fields));
  }

  #refused(stream: KnownStream, refusal: Refusal, redirectedFrom: string | undefined): void {
    const { cause, destination, message, reason, verdict } = refusal;
    const line = printable(message);
    const behind = verdict?.why ?? (cause === undefined ? null : printable(describeError(cause)));
    const why = behind ?? line;
    const text = behind === null ? line : `${line}: ${behind}`;
    const { log } = this.context;
    const decided = { ...(redirectedFrom !== undefined && { redirectedFrom }), rule: verdict?.rule ?? null, why };
    const fields = log.fields({ ...streamFields(stream), egress: this.#name, destination, reason, ...decided });
    log.write(makeEvent('egress-refused', `stream ${stream.id}: ${text} (${reason})`, fields));
  }

  // ---- for the forward ------------------------------------------------------------------------------------------

  override stop(): void {
    super.stop();
    this.connections.stop();
  }
}

type Place = Pick<EgressReached, 'host' | 'port' | 'redirectedFrom'>;

const placeOf = ({ host, port, redirectedFrom }: Place): Place =>
  redirectedFrom === undefined ? { host, port } : { host, port, redirectedFrom };

const describePlace = (place: Place): string =>
  `${formatHostPort(place)}${place.redirectedFrom === undefined ? '' : ` (redirected from ${place.redirectedFrom})`}`;

const NOTHING = Buffer.alloc(0);
