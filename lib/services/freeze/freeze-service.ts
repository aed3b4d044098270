/** The service `freeze`: freezes file systems of this machine while a stream of its host lasts (docs/restore.md). */
import { readFile } from 'node:fs/promises';
import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import { holdWrites, releaseWrites } from '../../system/files/frozen-writes.js';
import type { Mount } from '../../system/mounts.js';
import type { Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import { formatDuration, formatElapsed } from '../../util/units.js';
import { machineHistory } from '../machine-history.js';
import { readRecords } from '../read-records.js';
import { Hooks } from '../run-hooks.js';
import { chooseFileSystems } from './file-systems.js';
import {
  decodeFreeze,
  encodeFreezeRecord,
  FREEZE_KIND,
  type FreezeRequest,
  MAX_FREEZE_BYTES,
  MAX_MESSAGE_LENGTH,
} from './freeze-messages.js';
import { type Frozen, freeze } from './freezer.js';

interface FreezeServiceOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Default: this machine's. */
  readonly freeze?: typeof freeze;
  readonly mountinfo?: string;
  /** The folder of programs to run before a freeze and after the thaw. */
  readonly hooks?: string;
}

/** Limit on the time until the request, in milliseconds. */
const REQUEST_MS = 10_000;

/** Whether a call on any channel is at work: file systems are this machine's. */
let isTaken = false;

export class FreezeService {
  readonly #options: Required<FreezeServiceOptions>;
  readonly #calls = new Map<Duplex, Promise<void>>();
  readonly #hooks: Hooks;
  #isAllowed = true;

  constructor(options: FreezeServiceOptions) {
    const defaults = { freeze, mountinfo: '/proc/self/mountinfo', hooks: '/etc/vproxy/freeze.d' };
    this.#options = { ...defaults, ...options };
    this.#hooks = new Hooks(this.#options.hooks, options);
  }

  /** A freeze continues if it is no longer allowed; streams that have not requested one are refused. */
  allow(permission: true | null): void {
    this.#isAllowed = permission !== null;
  }

  /** Freezes as the stream requests, until it ends; owns the stream. */
  serve(stream: Duplex): void {
    stream.on('error', () => undefined);
    const call = this.#answer(stream)
      .catch((error: unknown) => void stream.destroy(toVproxyError(error)))
      .finally(() => this.#calls.delete(stream));
    this.#calls.set(stream, call);
  }

  isServing(stream: Duplex): boolean {
    return this.#calls.has(stream);
  }

  /** Freezes whose streams have closed. */
  get unfinished(): string[] {
    const [hooks = 'a thaw'] = this.#hooks.unfinished;
    return [...this.#calls.keys()].filter(({ destroyed }) => destroyed).map(() => hooks);
  }

  /** Ends their hooks; a thaw is short, and is never cut. */
  endUnfinished(): void {
    if (this.unfinished.length > 0) this.#hooks.end();
  }

  /** Thaws. */
  async stop(): Promise<void> {
    for (const stream of this.#calls.keys()) stream.destroy(new VproxyError('shutdown', 'shutting down'));
    this.#hooks.stop();
    await Promise.all(this.#calls.values());
  }

  async #answer(stream: Duplex): Promise<void> {
    const records = readRecords(stream, { what: 'freeze', maxBytes: MAX_FREEZE_BYTES });
    const cancel = this.#options.clock.schedule(REQUEST_MS, () => {
      stream.destroy(new VproxyError('stalled', `freeze: no request for ${REQUEST_MS / 1000} s`));
    });
    const first = await records.next().finally(cancel);
    if (first.done === true) {
      stream.end();
      return;
    }
    if (first.value.kind !== FREEZE_KIND.FREEZE)
      throw new VproxyError('protocol-error', 'freeze: the first record is no request');
    const request = decodeFreeze(first.value.payload);
    if (!this.#isAllowed) throw new VproxyError('denied', 'service freeze is no longer allowed');
    // Whatever else the host sends means nothing; its end means the thaw.
    const ended = endOf(records);
    if (isTaken) {
      fail(stream, ALREADY_FROZEN);
      return;
    }
    isTaken = true;
    try {
      await this.#freeze(stream, request, ended);
    } finally {
      isTaken = false;
    }
  }

  async #freeze(stream: Duplex, { paths: wanted, forMs }: FreezeRequest, ended: Promise<void>): Promise<void> {
    const { log, clock, mountinfo } = this.#options;
    let paths = wanted;
    let frozen: TimedFrozen;
    try {
      const mounts = chooseFileSystems(await readFile(mountinfo, 'utf8'), wanted);
      paths = mounts.map(({ mountPoint }) => mountPoint);
      frozen = await this.#begin(mounts, paths, forMs);
    } catch (error) {
      const { message } = toVproxyError(error);
      log(makeEvent('freeze-failed', `${FAILED}: ${message}`, { paths }));
      fail(stream, message);
      return;
    }
    stream.write(encodeFreezeRecord(FREEZE_KIND.FROZEN, { paths }));
    void ended.then(() => frozen.thaw());
    const { cause, failure } = await frozen.thawed;
    const heldMs = clock.now() - frozen.beganAtMs;
    releaseWrites();
    if (failure === null) {
      const why = cause === 'time' ? 'time ran out' : stream.destroyed ? 'the stream ended' : 'asked';
      const message = `thawed file systems after ${formatElapsed(heldMs)} (${why})`;
      log(makeEvent('thawed', message, { paths, heldMs, cause }, cause === 'asked' ? 'info' : 'warn'));
    } else log(makeEvent('freeze-failed', `${FAILED} after ${formatElapsed(heldMs)}: ${failure}`, { paths }));
    await this.#runHooks('thaw');
    if (failure !== null) fail(stream, failure);
    else stream.end(encodeFreezeRecord(FREEZE_KIND.THAWED, { heldMs, cause }));
  }

  /** Rejects with `freeze-failed` when nothing is frozen any more, and writes are allowed, or when something cannot be thawed. */
  async #begin(mounts: readonly Mount[], paths: readonly string[], forMs: number): Promise<TimedFrozen> {
    const failure = await this.#runHooks('freeze');
    try {
      if (failure !== null) throw new VproxyError('freeze-failed', failure);
      const list = `freezing ${escapeText(paths.join(', '), 512)} for at most ${formatDuration(forMs)}`;
      this.#options.log(makeEvent('freezing', list, { paths, forMs }));
      holdWrites();
      const beganAtMs = this.#options.clock.now();
      const frozen = await this.#options.freeze(mounts, forMs);
      machineHistory.freezes += 1;
      machineHistory.frozenAtMs = Date.now();
      return { ...frozen, beganAtMs };
    } catch (error) {
      releaseWrites();
      await this.#runHooks('thaw');
      throw error;
    }
  }

  #runHooks(moment: 'freeze' | 'thaw'): Promise<string | null> {
    return this.#hooks.run({ args: [moment] });
  }
}

type TimedFrozen = Frozen & { readonly beganAtMs: number };

const FAILED = 'freeze of file systems failed';

const ALREADY_FROZEN = 'file systems are frozen already; vproxy thaw ends that';

function fail(stream: Duplex, message: string): void {
  stream.end(encodeFreezeRecord(FREEZE_KIND.FAILED, { message: message.slice(0, MAX_MESSAGE_LENGTH) }));
}

async function endOf(records: AsyncGenerator): Promise<void> {
  try {
    while ((await records.next()).done !== true);
  } catch {
    // An end, too.
  }
}
