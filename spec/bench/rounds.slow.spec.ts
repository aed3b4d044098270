/** The rounds: what is begun, and what is said where it was not. */
import test from 'ava';
import { socket } from '../../bench/contenders/socket.js';
import { startTarget } from '../../bench/load/start-target.js';
import { parseBenchOptions } from '../../bench/options.js';
import { Programs } from '../../bench/process/programs.js';
import { Results } from '../../bench/results.js';
import { runRounds } from '../../bench/rounds.js';
import type { Work } from '../../bench/work/work.js';
import { temporaryFolder } from '../helpers/files.js';

test('when the time is over nothing more is begun: figures stay, and what has none says why', async (t) => {
  const folder = temporaryFolder(t);
  const programs = new Programs(folder);
  t.teardown(() => programs.stop());
  const target = await startTarget(programs);
  const done: string[] = [];
  const work = (id: string, outcomes: Record<string, number>): Work => ({
    id,
    rows: () => [{ key: 'figure', title: id, unit: '' }],
    measure: () => {
      done.push(id);
      return Promise.resolve(outcomes);
    },
  });
  const results = new Results();
  const { amounts } = parseBenchOptions(['--quick', '--megabytes', '1']);
  await runRounds(
    {
      ...{ rounds: 2, contenders: [socket], amounts, quick: true, target: target.program },
      works: [work('first', { figure: 7 }), work('none', {}), work('last', { figure: 8 })],
      setting: { programs, folder, target: target.port },
      isOver: () => done.length === 2,
      progress: () => undefined,
    },
    results,
  );
  t.deepEqual(done, ['first', 'none']);
  t.like(results.cell('first', 'figure', 'socket'), { rounds: [7], failure: undefined });
  t.is(results.cell('none', 'figure', 'socket'), undefined);
  t.like(results.cell('last', 'figure', 'socket'), {
    rounds: [],
    failure: 'not tried: the time of --quick was over',
  });
});
