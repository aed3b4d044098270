/** Programs of the operator that run when something happens to the machine: the executable files of a folder, as run-parts(8) runs them. */
import { accessSync, constants, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Log, makeEvent } from '../events.js';
import { describeToolFailure, runTool } from '../system/processes/run-tool.js';
import type { Clock } from '../util/clock.js';
import { describeError, escapeText } from '../util/escape.js';
import { orElse } from '../util/or-else.js';

interface HooksOptions {
  /** The arguments of each program. */
  readonly args?: readonly string[];
  /** Environment variables, besides those of this process. */
  readonly env?: Readonly<Record<string, string>>;
  readonly log: Log;
  readonly clock: Clock;
}

/** Limit on all programs of a folder together, in milliseconds. */
const HOOKS_MS = 30_000;

/**
 * Runs the programs of a folder one after the other, in the order of their names; a failure does not stop the rest. Resolves with
 * the first failure, as `PATH: REASON`, or null. Never rejects.
 */
export async function runHooks(
  folder: string,
  { args = [], env = {}, log, clock }: HooksOptions,
): Promise<string | null> {
  const endsAtMs = clock.now() + HOOKS_MS;
  let first: string | null = null;
  for (const name of orElse([], () => readdirSync(folder).sort())) {
    // As run-parts: neither editors' backups nor packages' leftovers.
    const path = join(folder, name);
    if (!/^[\w-]+$/.test(name) || !isExecutable(path)) continue;
    const words = ['/usr/bin/env', ...Object.entries(env).map((pair) => pair.join('=')), path, ...args];
    const failure = await runTool(words, { timeoutMs: Math.max(0, endsAtMs - clock.now()), clock }).then(
      (result) => (result.end === 0 ? null : describeToolFailure(name, result)),
      describeError,
    );
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
