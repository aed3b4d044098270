/** Two command lines on one unix channel: the host listens on it, the guest connects. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { ESTABLISHED } from './log-lines.js';
import { temporaryFolder } from './temp-folder.js';
import { type SpawnOptions, spawnVproxy, type VproxyProcess } from './vproxy-process.js';

export interface PairSetup {
  /** Arguments behind the channel. */
  readonly host?: readonly string[];
  readonly guest?: readonly string[];
  readonly hostOptions?: SpawnOptions;
  readonly guestOptions?: SpawnOptions;
  /** Where the host listens. Default: in a folder of its own. */
  readonly hostPath?: string;
  /** What the guest connects to. Default: where the host listens. */
  readonly guestPath?: string;
}

/** A pair whose sides can be started anew. */
export class ProcessPair {
  readonly #t: ExecutionContext;
  readonly #setup: PairSetup;
  readonly #hostPath: string;
  host: VproxyProcess;
  guest: VproxyProcess;

  constructor(t: ExecutionContext, setup: PairSetup) {
    this.#t = t;
    this.#setup = setup;
    this.#hostPath = setup.hostPath ?? join(temporaryFolder(t), 'channel.sock');
    this.host = this.startHost();
    this.guest = this.startGuest();
  }

  startHost(): VproxyProcess {
    const { host = [], hostOptions = {} } = this.#setup;
    this.host = spawnVproxy(this.#t, ['-c', `unix-listen:${this.#hostPath}`, ...host], hostOptions);
    return this.host;
  }

  startGuest(): VproxyProcess {
    const { guest = [], guestOptions = {}, guestPath = this.#hostPath } = this.#setup;
    this.guest = spawnVproxy(this.#t, ['-c', `unix-connect:${guestPath}`, ...guest], guestOptions);
    return this.guest;
  }

  /** Resolves when both sides have logged a session, in lines from these numbers on. */
  async established(from: { readonly host?: number; readonly guest?: number } = {}): Promise<void> {
    await Promise.all([
      this.host.waitForLine(ESTABLISHED, { from: from.host ?? 0 }),
      this.guest.waitForLine(ESTABLISHED, { from: from.guest ?? 0 }),
    ]);
  }
}

/** A pair with an established session. */
export async function processPair(t: ExecutionContext, setup: PairSetup): Promise<ProcessPair> {
  const pair = new ProcessPair(t, setup);
  await pair.established();
  return pair;
}

/** How many descriptors a process has open. */
export function descriptorCount({ pid }: VproxyProcess): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
