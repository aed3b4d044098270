/** `--forward-ports`: a listener here for each port that the peer announces, for as long as it does. */

import { once } from 'node:events';
import net from 'node:net';
import { MAX_ANNOUNCED_PORTS } from '../../codec/limits.js';
import type { AnnouncedPort } from '../../codec/payloads.js';
import { systemCode, toVproxyError, VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import type { ForwardSpec } from '../../forward/spec.js';
import { isKept } from '../../system/sockets/listener-store.js';
import { formatHostPort, type HostPort, isInRanges } from '../../util/addresses/host-port.js';
import { TokenBucket } from '../../util/bounds.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import type { ForwardAddresses, ForwardEntry, ForwardTable } from '../forward-table.js';
import { describePort } from './port-announcer.js';
import { DEFAULT_PORT_HOST, type PortForwarding, portService, socketPathOf } from './port-rules.js';

/** How many listeners are opened or closed per second. */
const CHANGES_PER_SECOND = 4;

/** How many port numbers are tried, starting with the port's own. */
const MAX_TRIES = 64;

/** Delay before a failed listener is retried, in milliseconds. */
const RETRY_MS = 5000;

export interface PortForwarderOptions {
  readonly label: string;
  readonly forwards: ForwardTable;
  /** The addresses of all forwards of the process. */
  readonly addresses: ForwardAddresses;
  readonly clock: Clock;
  readonly log: Log;
  /** How long listeners stay open without a peer that announces ports, in milliseconds. */
  readonly waitMs: number;
  /** Creates the missing folder of a unix socket; it is removed with the channel. Throws `address-…` codes. */
  readonly makeFolder: (spec: ForwardSpec) => void;
}

/** A port of the peer with a listener here. */
interface OpenPort extends AnnouncedPort {
  /** The id of the outgoing forward that listens. */
  readonly forward: string;
}

/** The ports of the peer; handed over to a successor. */
export interface PeerPortsState {
  /** The peer's last announcement, kept for a while without a session; null if none, or too old. */
  known: readonly AnnouncedPort[] | null;
  readonly open: Map<number, OpenPort>;
  /** When that expires without a session, by the clock; null while the peer announces it. */
  silentUntilMs: number | null;
}

/** Opens and closes listeners, one at a time. Call `stop` once. */
export class PortForwarder {
  readonly state: PeerPortsState;
  readonly #options: PortForwarderOptions;
  readonly #changes: TokenBucket;
  /** Why ports have no listener, as logged, and when to retry. */
  readonly #failures = new Map<number, { readonly message: string; readonly retryAtMs: number }>();
  /** Undefined before the first rule is set. */
  #rule: PortForwarding | null | undefined;
  #cancelSilence: CancelTimer | null = null;
  #isChanging = false;
  #cancelRetry: CancelTimer | null = null;
  #isStopped = false;

  constructor(
    options: PortForwarderOptions,
    state: PeerPortsState = { known: null, open: new Map(), silentUntilMs: null },
  ) {
    const { clock } = options;
    this.state = state;
    this.#options = options;
    this.#changes = new TokenBucket(CHANGES_PER_SECOND, CHANGES_PER_SECOND, clock.now());
    if (state.silentUntilMs !== null) this.#beSilentUntil(state.silentUntilMs);
  }

  /** Applies a new rule; null for no listeners. Closes the listeners that the rule places elsewhere. */
  setRule(rule: PortForwarding | null): void {
    const before = this.#rule;
    this.#rule = rule;
    const isMoved = before !== undefined && (rule?.host !== before?.host || rule?.folder !== before?.folder);
    if (isMoved) for (const port of [...this.state.open.keys()]) this.#close(port);
    this.#failures.clear();
    this.#settle();
  }

  /** Takes over the peer's announcement; null if its ports are unknown: then listeners stay for a while, for its next session. */
  update(ports: readonly AnnouncedPort[] | null): void {
    const { state } = this;
    if (ports === null) {
      const { clock, waitMs } = this.#options;
      if (state.known !== null && state.silentUntilMs === null) this.#beSilentUntil(clock.now() + waitMs);
      return;
    }
    this.#cancelSilence?.();
    state.silentUntilMs = null;
    state.known = ports;
    this.#settle();
  }

  /** The announced ports, with the forwards that listen for them, or null. */
  get ports(): readonly (AnnouncedPort & { readonly entry: ForwardEntry | null })[] {
    return (this.state.known ?? []).map((port) => ({ ...port, entry: this.#activeEntry(port.port) }));
  }

  /** Stops opening and closing listeners. The table of forwards stops the forwards. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelSilence?.();
    this.#cancelRetry?.();
  }

  /** What cannot be handed over now, as human-readable lines. */
  obstacles(): string[] {
    return this.#isChanging ? ['a port of the peer is being opened'] : [];
  }

  // ---- internal -----------------------------------------------------------------------------------------------------

  #beSilentUntil(untilMs: number): void {
    const { clock } = this.#options;
    const { state } = this;
    state.silentUntilMs = untilMs;
    this.#cancelSilence = clock.schedule(Math.max(0, untilMs - clock.now()), () => {
      state.silentUntilMs = null;
      state.known = null;
      this.#settle();
    });
  }

  /** The ports that should have a listener. */
  get #wanted(): readonly AnnouncedPort[] {
    const ranges = this.#rule?.ranges ?? [];
    return (this.state.known ?? []).filter(({ port }) => isInRanges(ranges, port)).slice(0, MAX_ANNOUNCED_PORTS);
  }

  /** Makes one change at a time, within the rate limit, until the open listeners are the wanted ones. */
  #settle(): void {
    if (!this.#isChanging && !this.#isStopped) void this.#change();
  }

  async #change(): Promise<void> {
    const { clock } = this.#options;
    for (;;) {
      const wanted = this.#wanted;
      const gone = [...this.state.open.keys()].find((port) => !wanted.some((one) => one.port === port));
      const nowMs = clock.now();
      const isDue = (port: number): boolean => (this.#failures.get(port)?.retryAtMs ?? nowMs) <= nowMs;
      const added = wanted.find(({ port }) => !this.state.open.has(port) && isDue(port));
      if (gone === undefined && added === undefined) break;
      if (!this.#changes.take(nowMs)) {
        this.#retryIn(1000 / CHANGES_PER_SECOND);
        return;
      }
      if (gone !== undefined) {
        this.#close(gone);
        continue;
      }
      this.#isChanging = true;
      if (added !== undefined) await this.#tryToOpen(added);
      this.#isChanging = false;
      if (this.#isStopped) return;
    }
    const numbers = new Set(this.#wanted.map(({ port }) => port));
    for (const port of this.#wanted) this.#rename(port);
    for (const port of this.#failures.keys()) if (!numbers.has(port)) this.#failures.delete(port);
    const [next] = [...this.#failures.values()].map(({ retryAtMs }) => retryAtMs).sort((one, other) => one - other);
    if (next !== undefined) this.#retryIn(next - clock.now());
  }

  #retryIn(delayMs: number): void {
    this.#cancelRetry?.();
    this.#cancelRetry = this.#options.clock.schedule(delayMs, () => this.#settle());
  }

  #rename({ port, program }: AnnouncedPort): void {
    const open = this.state.open.get(port);
    if (open !== undefined && open.program !== program) this.state.open.set(port, { ...open, program });
  }

  async #tryToOpen(port: AnnouncedPort): Promise<void> {
    const { clock, log } = this.#options;
    try {
      const entry = await this.#listen(port);
      const { id, forward } = entry;
      this.state.open.set(port.port, { ...port, forward: id });
      this.#failures.delete(port.port);
      const { bound = forward.spec.endpoint, endpointText: endpoint } = forward;
      const isElsewhere = 'host' in bound && bound.port !== port.port;
      const why = isElsewhere ? ` (${port.port} is already in use)` : '';
      const message = `listening on ${endpoint}${why} for port ${describePort(port)} of the peer`;
      log(makeEvent('port-opened', message, { port: port.port, program: port.program, endpoint, forward: id }));
    } catch (error) {
      const { code, message } = toVproxyError(error);
      const isNews = this.#failures.get(port.port)?.message !== message;
      this.#failures.set(port.port, { message, retryAtMs: clock.now() + RETRY_MS });
      if (!isNews) return;
      const text = `cannot listen for port ${describePort(port)} of the peer: ${message}; retrying`;
      log(makeEvent('port-failed', text, { port: port.port, program: port.program, code }));
    }
  }

  async #listen({ port }: AnnouncedPort): Promise<ForwardEntry> {
    const { forwards, label, makeFolder } = this.#options;
    const { host = DEFAULT_PORT_HOST, folder = null } = this.#rule ?? {};
    const endpoint =
      folder === null
        ? ({ kind: 'tcp', host, port: await this.#freePort(host, port) } as const)
        : ({ kind: 'unix', path: socketPathOf(folder, label, port) } as const);
    const spec = { direction: 'outgoing', service: portService(port), endpoint } as const;
    makeFolder(spec);
    const entry = forwards.create(spec, false);
    await forwards.start(entry);
    return entry;
  }

  /** The port, or the next one that is free here and not claimed by another port of the peer. Throws `address-in-use`. */
  async #freePort(host: string, port: number): Promise<number> {
    const claimed = new Set(this.#wanted.map((one) => one.port));
    const last = Math.min(65_535, port + MAX_TRIES - 1);
    for (let number = port; number <= last; number += 1) {
      if (number !== port && claimed.has(number)) continue;
      const address = { host, port: number };
      if (!this.#options.addresses.has(address) && (isKept(address) || (await isFree(address)))) return number;
    }
    throw new VproxyError(
      'address-in-use',
      `${formatHostPort({ host, port })} and the following ports, up to ${last}, are already in use`,
    );
  }

  /** Open streams continue. */
  #close(port: number): void {
    const { open } = this.state;
    const closed = open.get(port);
    open.delete(port);
    if (closed === undefined) return;
    const { forwards, log } = this.#options;
    const entry = forwards.find(closed.forward);
    // A reload may have adopted it as a configured forward; a user may have removed it.
    if (entry === null || entry.isDeclared) return;
    const { id, forward } = entry;
    const endpoint = forward.endpointText;
    void forwards.remove(entry, true);
    const message = `no longer listening on ${escapeText(endpoint)} for port ${describePort(closed)} of the peer`;
    log(makeEvent('port-closed', message, { port, program: closed.program, endpoint, forward: id }));
  }

  #activeEntry(port: number): ForwardEntry | null {
    const open = this.state.open.get(port);
    const entry = open === undefined ? null : this.#options.forwards.find(open.forward);
    return entry?.isDraining === true ? null : entry;
  }
}

/** Whether an address is free. Any other error will surface when the forward listens on it. */
async function isFree({ host, port }: HostPort): Promise<boolean> {
  const server = net.createServer();
  try {
    const listening = once(server, 'listening');
    server.listen(port, host);
    await listening;
    return true;
  } catch (error) {
    return systemCode(error) !== 'EADDRINUSE';
  } finally {
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  }
}
