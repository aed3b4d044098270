/** Runs a table of cases against a few processes, which take the rows one after the other and have to survive them all. */
import test, { type ExecutionContext } from 'ava';
import type { HostileCase } from './case.js';
import { runCase } from './run-case.js';
import { startTarget, type TargetProcess } from './target-process.js';

/** Defines a test for each case. `processes` share them, each with a channel of its own. */
export function runTable(cases: readonly HostileCase[], processes: number): void {
  const undo: (() => unknown)[] = [];
  const targets: TargetProcess[] = [];
  const idle: TargetProcess[] = [];
  const waiting: ((target: TargetProcess) => void)[] = [];

  test.before(async () => {
    const shared = { teardown: (act: () => unknown) => void undo.push(act) };
    targets.push(...(await Promise.all(Array.from({ length: processes }, () => startTarget(shared)))));
    idle.push(...targets);
  });

  test.after.always('every process has survived all of its cases', async (t) => {
    for (const { vproxy } of targets) t.is(await Promise.race([vproxy.exited, Promise.resolve('alive')]), 'alive');
    for (const act of undo.reverse()) await act();
  });

  const run = async (t: ExecutionContext, hostile: HostileCase): Promise<void> => {
    const target = idle.pop() ?? (await new Promise<TargetProcess>((resolve) => waiting.push(resolve)));
    try {
      await runCase(t, target, hostile);
    } finally {
      const next = waiting.shift();
      if (next === undefined) idle.push(target);
      else next(target);
    }
  };

  for (const hostile of cases) {
    const outcome = hostile.code ?? 'nothing comes of it';
    test(`a peer sends ${hostile.what}: ${outcome}`, (t) => run(t, hostile));
  }
}
