/** Runs tables of cases: each against a process of its own, which takes the rows one after the other and has to survive them all. */
import test from 'ava';
import type { HostileCase } from './case.js';
import { runCase } from './run-case.js';
import { startTarget, type TargetProcess } from './target-process.js';

/** Defines a test for each case of each table. */
export function runTables(...tables: readonly (readonly HostileCase[])[]): void {
  const undo: (() => unknown)[] = [];
  let targets: readonly TargetProcess[] = [];

  test.before(async () => {
    const shared = { teardown: (act: () => unknown) => void undo.push(act) };
    targets = await Promise.all(tables.map(() => startTarget(shared)));
  });

  test.after.always('every process has survived all of its cases', async (t) => {
    for (const { vproxy } of targets) t.is(await Promise.race([vproxy.exited, Promise.resolve('alive')]), 'alive');
    for (const act of undo.reverse()) await act();
  });

  for (const [index, cases] of tables.entries()) {
    let last: Promise<unknown> = Promise.resolve();
    for (const hostile of cases) {
      test(`a peer sends ${hostile.what}: ${hostile.code ?? 'nothing comes of it'}`, async (t) => {
        const before = last;
        const run = before.then(() => runCase(t, targets[index] as TargetProcess, hostile));
        last = run.catch(() => undefined);
        await run;
      });
    }
  }
}
