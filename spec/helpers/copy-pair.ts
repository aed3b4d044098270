/** A caller and the service `copy`, on a stream in memory or to another program, and trees to copy. */
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { ExecutionContext } from 'ava';
import type { LogEvent } from '../../lib/events.js';
import { type CopyCallOptions, fetchFiles, putFiles } from '../../lib/services/copy/copy-call.js';
import { CopyProgress } from '../../lib/services/copy/copy-progress.js';
import { CopyService } from '../../lib/services/copy/copy-service.js';
import type { CopyFiles } from '../../lib/services/copy/system-files.js';
import type { Accounts } from '../../lib/system/accounts.js';
import { systemClock } from '../../lib/util/clock.js';
import { resettingPair } from './channel-pair.js';
import { sha256, temporaryFolder } from './files.js';
import { testWith } from './test-with.js';
import type { SpawnOptions } from './vproxy-process.js';

export interface CopyPairOptions {
  readonly root?: string | null;
  readonly accounts?: Accounts;
  readonly serviceFiles?: CopyFiles;
  readonly callerFiles?: CopyFiles;
  /** Receives both ends of each stream before anything is sent. */
  readonly onStream?: (caller: Duplex, service: Duplex) => void;
  readonly signal?: AbortSignal;
  readonly keepsLinks?: boolean;
  /** Called when a comparison starts or advances, with the caller's view of it. */
  readonly onComparison?: CopyProgress['onComparison'];
}

interface CopyOutcome {
  readonly targets: readonly string[];
  readonly progress: CopyProgress;
  readonly warnings: readonly string[];
}

/** Starts another program with the service, and returns how a stream to it, or to `sftp`, is opened. */
export type StartFar = (t: ExecutionContext, root: string | null) => Promise<(service?: string) => Promise<Duplex>>;

/** The program whose service the tests of a spec file are about: vproxy, whose service runs in this process, if null. */
export const farSide = {
  start: null as StartFar | null,
  program: null as SpawnOptions | null,
  /** Declares these tests. */
  testWith,
};

export class CopyPair {
  /** What the service logs in this process. */
  readonly events: LogEvent[] = [];
  readonly service: CopyService;
  readonly #options: CopyPairOptions;
  readonly #far: Promise<() => Promise<Duplex>> | null;

  constructor(t: ExecutionContext, options: CopyPairOptions = {}) {
    this.#options = options;
    this.#far = farSide.start?.(t, options.root ?? null) ?? null;
    this.service = new CopyService({
      root: options.root ?? null,
      clock: systemClock,
      log: (event) => this.events.push(event),
      ...(options.serviceFiles && { files: options.serviceFiles }),
      ...(options.accounts && { accounts: options.accounts }),
    });
    t.teardown(() => this.service.stop());
  }

  put(sources: readonly string[], target: string, isResumed = false): Promise<CopyOutcome> {
    return this.#call((options) => putFiles(sources, target, options), isResumed);
  }

  get(sources: readonly string[], target: string, isResumed = false): Promise<CopyOutcome> {
    return this.#call((options) => fetchFiles(sources, target, options), isResumed);
  }

  async #call(run: (options: CopyCallOptions) => Promise<string[]>, isResumed: boolean): Promise<CopyOutcome> {
    const progress = new CopyProgress();
    const warnings: string[] = [];
    const { callerFiles, signal, keepsLinks = false, onComparison = null } = this.#options;
    progress.onComparison = onComparison;
    const targets = await run({
      open: async () => (this.#far === null ? this.#open() : (await this.#far)()),
      isResumed,
      keepsLinks,
      hasTotals: true,
      progress,
      warn: (message) => warnings.push(message),
      ...(callerFiles && { files: callerFiles }),
      ...(signal && { signal }),
    });
    return { targets, progress, warnings };
  }

  #open(): Duplex {
    const [caller, service] = resettingPair();
    this.#options.onStream?.(caller, service);
    this.service.serve(service);
    return caller;
  }
}

/** A tree in the folder `from`, an empty folder `to`, and a pair to copy with; `sources` are paths in `from`. */
export function copyScene(t: ExecutionContext, tree: Tree, options?: CopyPairOptions) {
  const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
  makeTree(from, tree);
  const sources = (...names: readonly string[]): string[] => names.map((name) => join(from, name));
  return { from, to, pair: new CopyPair(t, options), sources };
}

/** A tree as an object: texts and buffers are files, `->` texts links, objects folders. */
export interface Tree {
  readonly [name: string]: string | Buffer | Tree;
}

export function makeTree(folder: string, tree: Tree): void {
  let number = 0;
  const make = (path: string, node: string | Buffer | Tree): void => {
    number += 1;
    const time = 1_500_000_000 + number * 1000 + 0.25;
    if (typeof node === 'string' && node.startsWith('->')) {
      fs.symlinkSync(node.slice(2), path);
      return;
    }
    if (typeof node === 'string' || Buffer.isBuffer(node)) {
      fs.mkdirSync(dirname(path), { recursive: true });
      fs.writeFileSync(path, node);
      fs.chmodSync(path, [0o600, 0o644, 0o755, 0o400][number % 4] ?? 0);
    } else {
      fs.mkdirSync(path, { recursive: true });
      for (const [name, child] of Object.entries(node)) make(join(path, name), child);
      fs.chmodSync(path, [0o700, 0o755, 0o1777][number % 3] ?? 0);
    }
    fs.utimesSync(path, time, time);
  };
  for (const [name, node] of Object.entries(tree)) make(join(folder, name), node);
}

/** Everything that a copy preserves, times to the microsecond, one line per path. */
export function describeTree(path: string): string[] {
  const lines: string[] = [];
  const look = (at: string, name: string): void => {
    const stats = fs.lstatSync(at, { bigint: true });
    const mode = (Number(stats.mode) & 0o7777).toString(8);
    const time = stats.mtimeNs / 1000n;
    if (stats.isSymbolicLink()) lines.push(`${name} -> ${fs.readlinkSync(at)} ${time}`);
    else if (stats.isDirectory()) {
      lines.push(`${name}/ ${mode} ${time}`);
      for (const child of fs.readdirSync(at).sort()) look(join(at, child), `${name}/${child}`);
    } else {
      lines.push(`${name} ${mode} ${time} ${stats.size} ${sha256(fs.readFileSync(at)).slice(0, 16)}`);
    }
  };
  look(path, '');
  return lines;
}
