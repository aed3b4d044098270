/** The storage broker of a channel: when it runs, and how it reaches the peer (docs/storage.md). */

import { toVproxyError, VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import type { InputFilters } from '../../forward/input-filter.js';
import type { ServiceRegistry } from '../../forward/service-registry.js';
import type { SessionSource } from '../../forward/session-source.js';
import { MuxStream } from '../../session/mux-stream.js';
import { listenForWrappers, StorageBroker, type StorageCallRecord } from '../../storage/broker.js';
import { type StorageEmulatorChange } from '../../storage/emulator-pool.js';
import { RequestLabeller } from '../../storage/request-labeller.js';
import { storageSocketPaths } from '../../storage/storage-paths.js';
import type { KeepDescriptor, TakeDescriptor } from '../../system/descriptors.js';
import { Budget } from '../../util/bounds.js';
import type { Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import { DEFAULT_LABEL, type ParsedOptions, type StorageOptions } from '../channel/channel-options.js';

/** The name of the service, on both sides. */
export const STORAGE_SERVICE = 'storage';

/** Delay before it retries to listen on a socket, in milliseconds. */
const RESUME_MS = 1000;

/** Whether the broker runs: where the channel leads to a host, unless a forward has its name; elsewhere on request. */
export function hasBroker({ address: { kind, address }, storage = {}, forwards = [] }: ParsedOptions): boolean {
  if (storage.isAllowed === false || forwards.some(({ service }) => service === STORAGE_SERVICE)) return false;
  return (kind.leadsToHost?.(address) ?? false) || (storage.socketPath ?? null) !== null;
}

/** Handed over to a successor: the sockets that the broker listens on, with the indexes of their descriptors. */
export type StorageState = readonly { readonly path: string; readonly descriptor: number }[];

interface StorageServiceOptions {
  readonly storage: StorageOptions;
  readonly source: SessionSource;
  readonly registry: ServiceRegistry;
  readonly name: string | null;
  readonly clock: Clock;
  readonly log: Log;
}

export class StorageService {
  readonly #options: StorageServiceOptions;
  readonly #broker: StorageBroker;
  /** Between `restore` and `goOn`: the descriptors that the predecessor listened on, by path. */
  #inherited = new Map<string, number>();

  /** Offers the service `storage` to the peer. */
  constructor(options: StorageServiceOptions) {
    const { source, registry, storage, name, clock } = options;
    this.#options = options;
    this.#broker = new StorageBroker({
      clock,
      ...(name === null ? {} : { vm: name }),
      ...(storage.parallel === undefined ? {} : { parallel: storage.parallel }),
      peer: {
        isOffered: () => source.session?.peerServices.names.has(STORAGE_SERVICE) ?? false,
        open: () => {
          if (source.session === null) throw new VproxyError('no-session', 'no session with the peer');
          return MuxStream.open(source.session, STORAGE_SERVICE);
        },
      },
    });
    this.#broker.on('call', (call) => this.#logCall(call));
    this.#broker.on('emulator', (change) => this.#logEmulator(change));
    registry.add(STORAGE_SERVICE, (stream, session) =>
      this.#broker.emulators.attach(MuxStream.accept(session, stream)),
    );
  }

  /** Listens for wrappers. Rejects if an explicit path is in use or not permitted; for a default path that is only a warning. */
  async start(): Promise<void> {
    const { storage, log } = this.#options;
    const runtimeDir = storage.runtimeDirectory ?? undefined;
    const outcome = await listenForWrappers(
      this.#broker,
      storage.socketPath ?? undefined,
      storageSocketPaths({ runtimeDir }),
    );
    if ('path' in outcome) {
      const message = `listening on ${escapeText(outcome.path)} for storage calls`;
      log(makeEvent('listening', message, { service: STORAGE_SERVICE, endpoint: outcome.path }));
    } else {
      this.#logOff(outcome.warning);
    }
  }

  /** What cannot be handed over to a successor now, as human-readable lines. */
  obstacles(): string[] {
    const { connectedWrappers } = this.#broker;
    return connectedWrappers === 0 ? [] : [`storage calls in progress (${connectedWrappers})`];
  }

  /** Captures the state for a successor. Attached emulators are not included: they attach again. */
  capture(keep: KeepDescriptor): StorageState {
    return [...this.#broker.descriptors].flatMap(([path, fd]) => (fd === null ? [] : [{ path, descriptor: keep(fd) }]));
  }

  /** Restores a predecessor's state; used instead of `start`, before `goOn`. */
  restore(state: StorageState, take: TakeDescriptor): void {
    this.#inherited = new Map(state.map(({ path, descriptor }) => [path, take(descriptor)]));
  }

  /** Listens where the predecessor did; after `restore`. */
  goOn(): void {
    for (const [path, fd] of this.#inherited)
      this.#broker.listen(path, fd).catch((error: unknown) => this.#logOff(toVproxyError(error)));
    this.#inherited.clear();
  }

  /** Stops accepting calls until `resume`. Calls in progress continue. */
  pause(): void {
    this.#broker.pause();
  }

  /** Resolves with null, or with the reason why it cannot listen again; then it keeps retrying. Never rejects. */
  async resume(): Promise<VproxyError | null> {
    try {
      await this.#broker.resume();
      return null;
    } catch (error) {
      this.#options.clock.schedule(RESUME_MS, () => void this.resume());
      return toVproxyError(error);
    }
  }

  /** The session or the peer's services changed. */
  wake(): void {
    this.#broker.emulators.wake();
  }

  stop(): Promise<void> {
    return this.#broker.close();
  }

  #logOff({ code, message }: VproxyError): void {
    this.#options.log(makeEvent('storage-off', `not serving storage calls: ${message}`, { code }));
  }

  #logCall({ argv, durationMs, emulator, status, replyBytes, error }: StorageCallRecord): void {
    const command = escapeText(argv.join(' '), 200);
    const outcome =
      error === undefined ? `status ${status ?? 'unknown'}` : `${escapeText(error.message)} (${error.code})`;
    const message = `storage call ${command}: ${outcome}, ${Math.round(durationMs)} ms`;
    const fields = {
      command,
      argv,
      status: status ?? null,
      replyBytes: replyBytes ?? null,
      emulator: emulator ?? null,
      durationMs: Math.round(durationMs),
      code: error?.code ?? null,
    };
    this.#options.log(makeEvent('storage-call', message, fields, error === undefined ? 'info' : 'warn'));
  }

  #logEmulator({ name, state, reason }: StorageEmulatorChange): void {
    const why = reason === undefined ? '' : `: ${escapeText(reason.message)} (${reason.code})`;
    const fields = { emulator: name, state, code: reason?.code ?? null };
    this.#options.log(makeEvent('storage-emulator', `storage emulator ${name} ${state}${why}`, fields));
  }
}

/** Limit on buffered requests of one machine, in bytes. */
const MAX_HELD_BYTES = 64 * 2 ** 20;

/**
 * The input filters of a channel: they tag storage requests with the label of the machine they come from (docs/storage.md),
 * if the channel has one.
 */
export function requestFilters({ label }: ParsedOptions): InputFilters {
  if (label === DEFAULT_LABEL) return () => null;
  const budget = new Budget(MAX_HELD_BYTES);
  return (service, state) => (service === STORAGE_SERVICE ? new RequestLabeller(label, budget, state) : null);
}
