/** `--forward-ports`: a listener here for each port that the peer announces, as long as it does. */

import { once } from 'node:events';
import net from 'node:net';
import { MAX_ANNOUNCED_PORTS } from '../../codec/limits.js';
import type { AnnouncedPort } from '../../codec/payloads.js';
import { systemCode, toVproxyError, VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import type { ForwardSpec } from '../../forward/spec.js';
import { isKept } from '../../system/sockets/listener-store.js';
import { formatHostPort, type HostPort, isInRanges } from '../../util/addresses.js';
import { TokenBucket } from '../../util/bounds.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import type { ForwardAddresses, ForwardEntry, ForwardTable } from '../forward-table.js';
import { describePort } from './port-announcer.js';
import { DEFAULT_PORT_HOST, type PortForwarding, portService, socketPathOf } from './port-rules.js';

/** Listeners that are opened or closed in a second. */
const CHANGES_PER_SECOND = 4;

/** How many numbers from that of the port on are tried. */
const MAX_TRIES = 64;

/** After what is wrong with a listener, it is tried again, in milliseconds. */
const RETRY_MS = 5000;

export interface PortForwarderOptions {
  /** The label of the channel. */
  readonly label: string;
  readonly forwards: ForwardTable;
  /** The addresses of all forwards of the process. */
  readonly addresses: ForwardAddresses;
  readonly clock: Clock;
  readonly log: Log;
  /** How long listeners stay without a peer that says which ports it has, in milliseconds. */
  readonly waitMs: number;
  /** Makes the folder of a unix socket where it is missing; it goes with the channel. Throws `address-…` codes. */
  readonly makeFolder: (spec: ForwardSpec) => void;
}

/** A port of the peer that is listened for here. */
interface OpenPort extends AnnouncedPort {
  /** The id of the outgoing forward that listens. */
  readonly forward: string;
}

/** The ports of the peer; a successor of this process goes on with them. */
export interface PeerPortsState {
  /** What the peer said last, also when it has gone; null: nothing, or too long ago. */
  known: readonly AnnouncedPort[] | null;
  readonly open: Map<number, OpenPort>;
  /** Until when that counts although the peer says nothing, by the clock; null where the peer has said it. */
  silentUntilMs: number | null;
}

/** Opens and closes listeners, one at a time. `stop` once. */
export class PortForwarder {
  readonly state: PeerPortsState;
  readonly #options: PortForwarderOptions;
  readonly #changes: TokenBucket;
  /** Why ports have no listener, as it was logged, and when that is tried again. */
  readonly #failures = new Map<number, { readonly message: string; readonly retryAtMs: number }>();
  /** Undefined before the first one is in force. */
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

  /** Puts another rule in force; null: no port is listened for. Listeners that the rule would make elsewhere are closed. */
  setRule(rule: PortForwarding | null): void {
    const before = this.#rule;
    this.#rule = rule;
    const isMoved = before !== undefined && (rule?.host !== before?.host || rule?.folder !== before?.folder);
    if (isMoved) for (const port of [...this.state.open.keys()]) this.#close(port);
    this.#failures.clear();
    this.#settle();
  }

  /** What the peer announces; null: nothing is known of its ports. Listeners stay for a while then, for its next session. */
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

  /** What the peer announces, with the forwards that listen for it; null where none does. */
  get ports(): readonly (AnnouncedPort & { readonly entry: ForwardEntry | null })[] {
    return (this.state.known ?? []).map((port) => ({ ...port, entry: this.#activeEntry(port.port) }));
  }

  /** Opens and closes nothing more. The forwards go with their table. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelSilence?.();
    this.#cancelRetry?.();
  }

  /** What cannot be handed over now, each as a line for people. */
  obstacles(): string[] {
    return this.#isChanging ? ['a port of the peer is being opened'] : [];
  }

  // ---- inside -------------------------------------------------------------------------------------------------------

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

  /** Makes one change after the other, as fast as they may follow, until what is open is what is wanted. */
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
      const endpoint = forward.endpointText;
      const isElsewhere = !this.#isFolder && !endpoint.endsWith(`:${port.port}`);
      const why = isElsewhere ? `, as ${port.port} is taken` : '';
      const message = `port ${describePort(port)} of the peer is at ${endpoint} here${why}`;
      log(makeEvent('port-opened', message, { port: port.port, program: port.program, endpoint, forward: id }));
    } catch (error) {
      const { code, message } = toVproxyError(error);
      const isNews = this.#failures.get(port.port)?.message !== message;
      this.#failures.set(port.port, { message, retryAtMs: clock.now() + RETRY_MS });
      if (!isNews) return;
      const text = `port ${describePort(port)} of the peer is not listened for: ${message}`;
      log(makeEvent('port-failed', text, { port: port.port, program: port.program, code }));
    }
  }

  get #isFolder(): boolean {
    return (this.#rule?.folder ?? null) !== null;
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

  /** The port, or the next one that is free here and that no other port of the peer has a claim to. Throws `address-in-use`. */
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
      `${formatHostPort({ host, port })} and what follows it is taken, up to ${last}`,
    );
  }

  /** Streams that are open go on. */
  #close(port: number): void {
    const { open } = this.state;
    const closed = open.get(port);
    open.delete(port);
    if (closed === undefined) return;
    const { forwards, log } = this.#options;
    const entry = forwards.find(closed.forward);
    // A reload may have made it one of those that were asked for; people may have removed it.
    if (entry === null || entry.isDeclared) return;
    const { id, forward } = entry;
    const endpoint = forward.endpointText;
    void forwards.remove(entry, true);
    const message = `port ${describePort(closed)} of the peer is at ${escapeText(endpoint)} no more`;
    log(makeEvent('port-closed', message, { port, program: closed.program, endpoint, forward: id }));
  }

  #activeEntry(port: number): ForwardEntry | null {
    const open = this.state.open.get(port);
    const entry = open === undefined ? null : this.#options.forwards.find(open.forward);
    return entry?.isDraining === true ? null : entry;
  }
}

/** Whether an address can be listened on. Other errors than that it is taken show when it is. */
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
