/** The service `info`: answers the peer's requests about this machine (docs/info.md). */
import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../../errors.js';
import type { Clock } from '../../util/clock.js';
import { LoopTurns } from '../../util/concurrency.js';
import { readRecords, writeRecord } from '../read-records.js';
import { readBoot } from './boot.js';
import { decodeAsk, encodeTime, encodeTold, INFO_KIND, type InfoSubject, MAX_ASK_BYTES } from './info-messages.js';
import { MachineReader } from './machine-reader.js';
import { type MachineSources, thisMachine } from './this-machine.js';

export interface InfoServiceOptions {
  readonly clock: Clock;
  /** Milliseconds since 1970. Default: the system's. */
  readonly timeOfDay?: () => number;
  /** Default: the machine that this process runs on. */
  readonly sources?: MachineSources;
}

/** How long an answer is cached, in milliseconds: so endless requests inspect the machine only twice a second. */
const NEW_MS = 500;

/** Limit on the time between two records of a client. */
const IDLE_MS = 10_000;

/** An answer being prepared, or cached. */
interface Finding {
  /** The record with the answer. */
  readonly told: Promise<Buffer>;
  /** When it was completed, by the clock; null while it is being prepared. */
  foundAtMs: number | null;
}

export class InfoService {
  readonly #clock: Clock;
  readonly #timeOfDay: () => number;
  readonly #read: Readonly<Record<InfoSubject, () => Promise<object>>>;
  readonly #findings = new Map<InfoSubject, Finding>();
  readonly #streams = new Set<Duplex>();
  /** Shared by all clients. */
  readonly #turns = new LoopTurns();

  constructor({ clock, timeOfDay = Date.now, sources = thisMachine() }: InfoServiceOptions) {
    const machine = new MachineReader(sources, clock);
    this.#clock = clock;
    this.#timeOfDay = timeOfDay;
    this.#read = { machine: () => machine.read(), boot: () => readBoot(sources) };
  }

  /** Without a permission, ends all streams. */
  allow(permission: true | null): void {
    if (permission === null) this.#end(new VproxyError('denied', 'service info is no longer allowed'));
  }

  /** Answers requests on a stream, and owns it. A protocol error, or 10 s without a request, resets the stream. */
  serve(stream: Duplex): void {
    this.#streams.add(stream);
    stream.once('close', () => this.#streams.delete(stream));
    stream.on('error', () => undefined);
    this.#answerAll(stream).catch((error: unknown) => stream.destroy(toVproxyError(error)));
  }

  /** Ends all streams. */
  stop(): Promise<void> {
    this.#end(new VproxyError('shutdown', 'shutting down'));
    return Promise.resolve();
  }

  #end(reason: VproxyError): void {
    for (const stream of this.#streams) stream.destroy(reason);
  }

  async #answerAll(stream: Duplex): Promise<void> {
    const records = readRecords(stream, { what: 'info', maxBytes: MAX_ASK_BYTES, turns: this.#turns });
    for (;;) {
      const cancel = this.#clock.schedule(IDLE_MS, () => {
        stream.destroy(new VproxyError('stalled', `info: no request for ${IDLE_MS / 1000} s`));
      });
      const next = await records.next().finally(cancel);
      if (next.done === true) break;
      const answer = await this.#answer(next.value.kind, next.value.payload);
      if (answer !== null) await writeRecord(stream, answer);
    }
    stream.end();
  }

  /** Returns null for an unknown kind, as from a newer peer. */
  async #answer(kind: number, payload: Buffer): Promise<Buffer | null> {
    if (kind === INFO_KIND.TIME) return encodeTime(this.#timeOfDay());
    if (kind !== INFO_KIND.ASK) return null;
    return this.#find(decodeAsk(payload));
  }

  /** Inspects the machine once at a time, for all concurrent requests. */
  #find(about: InfoSubject): Promise<Buffer> {
    const known = this.#findings.get(about);
    const isNew = known !== undefined && this.#clock.now() - (known.foundAtMs ?? this.#clock.now()) < NEW_MS;
    if (isNew) return known.told;
    const told = this.#read[about]().then((value) => encodeTold(about, value));
    const finding: Finding = { told, foundAtMs: null };
    this.#findings.set(about, finding);
    const found = (): void => {
      finding.foundAtMs = this.#clock.now();
    };
    told.then(found, found);
    return told;
  }
}
