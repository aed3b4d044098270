/** Programs of the operator that run when something happens to the machine: the executable files of a folder, as run-parts(8) runs them. */
import { accessSync, constants, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Log, makeEvent } from '../events.js';
import { describeToolFailure, runTool } from '../system/processes/run-tool.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { describeError, escapeText } from '../util/escape.js';
import { orElse } from '../util/or-else.js';

interface HooksOptions {
  /** The arguments of each program. */
  readonly args?: readonly string[];
  /** Environment variables, besides those of this process. */
  readonly env?: Readonly<Record<string, string>>;
  readonly log: Log;
  readonly clock: Clock;
  /** When aborted, the program that runs goes on by itself, as it may be half done, and the rest is skipped. */
  readonly signal?: AbortSignal;
}

/** Limit on all programs of a folder together, in milliseconds. */
const HOOKS_MS = 30_000;

/** How long hooks may still run once told to end, and once this process stops, in milliseconds. */
const END_MS = 2000;
const STOP_MS = 300;

/** The hooks of a service, which outlive its streams. */
export class Hooks {
  readonly #folder: string;
  readonly #options: Omit<HooksOptions, 'args' | 'env' | 'signal'>;
  /** What ends each run. */
  readonly #runs = new Map<AbortController, CancelTimer | null>();
  #isStopped = false;

  constructor(folder: string, options: Omit<HooksOptions, 'args' | 'env' | 'signal'>) {
    this.#folder = folder;
    this.#options = options;
  }

  /** Runs them like {@link runHooks}, once `ready` resolves or they are told to end. */
  async run(given: Pick<HooksOptions, 'args' | 'env'>, ready?: Promise<unknown>): Promise<string | null> {
    const ending = new AbortController();
    const { signal } = ending;
    this.#runs.set(ending, null);
    if (this.#isStopped) this.#end(STOP_MS);
    await Promise.race([ready, ready && new Promise((resolve) => signal.addEventListener('abort', resolve))]);
    const failure = await runHooks(this.#folder, { ...this.#options, ...given, signal });
    this.#runs.get(ending)?.();
    this.#runs.delete(ending);
    return failure;
  }

  /** Those that run or wait to run, human-readable. */
  get unfinished(): string[] {
    return [...this.#runs].map(() => `hooks in ${escapeText(this.#folder, 200)}`);
  }

  /** Those that still run in two seconds are left alone, each with its line in the log. */
  end(): void {
    this.#end(END_MS);
  }

  /** Like `end`, but sooner, and for later runs as well. */
  stop(): void {
    this.#isStopped = true;
    this.#end(STOP_MS);
  }

  #end(withinMs: number): void {
    const { clock } = this.#options;
    for (const [ending, cancel] of this.#runs)
      if (cancel === null || this.#isStopped) {
        cancel?.();
        this.#runs.set(
          ending,
          clock.schedule(withinMs, () => ending.abort()),
        );
      }
  }
}

/**
 * Runs the programs of a folder one after the other, in the order of their names; a failure does not stop the rest. Resolves with
 * the first failure, as `PATH: REASON`, or null. Never rejects.
 */
export async function runHooks(
  folder: string,
  { args = [], env = {}, log, clock, signal }: HooksOptions,
): Promise<string | null> {
  const endsAtMs = clock.now() + HOOKS_MS;
  let first: string | null = null;
  for (const name of orElse([], () => readdirSync(folder).sort())) {
    // As run-parts: neither editors' backups nor packages' leftovers.
    const path = join(folder, name);
    if (!/^[\w-]+$/.test(name) || !isExecutable(path)) continue;
    const words = ['/usr/bin/env', ...Object.entries(env).map((pair) => pair.join('=')), path, ...args];
    const limits = { timeoutMs: Math.max(0, endsAtMs - clock.now()), clock, mayStay: true, ...(signal && { signal }) };
    const left = `${name} ${signal?.aborted === true ? 'was not run' : 'was left running'}`;
    const failure = await runTool(words, limits).then((result) => {
      if (result.end === 'given-up') return left;
      return result.end === 0 ? null : describeToolFailure(name, result);
    }, describeError);
    const message = `${escapeText(path, 200)}: ${failure === null ? 'done' : escapeText(failure, 300)}`;
    log(makeEvent('hook', message, { path, ok: failure === null }, failure === null ? 'info' : 'warn'));
    if (failure !== null) first ??= message;
  }
  return first;
}

const isExecutable = (path: string): boolean =>
  orElse(false, () => {
    accessSync(path, constants.X_OK);
    return true;
  });
