/** Datagrams of programs that may be missing, for a moment: each row has its figure, or says what to install. */
import test from 'ava';
import { vproxy } from '../../tools/bench/contenders/vproxy.js';
import { parseBenchOptions } from '../../tools/bench/options.js';
import { Programs } from '../../tools/bench/process/programs.js';
import { DATAGRAM_CONTENDERS, DATAGRAM_TOOLS, measureDatagramTools } from '../../tools/bench/work/datagram-tools.js';
import { temporaryFolder } from '../helpers/files.js';

test('datagrams of known programs come through vproxy, or the row says what to install', async (t) => {
  const folder = temporaryFolder(t);
  const programs = new Programs(folder);
  t.teardown(() => programs.stop());
  const contender = DATAGRAM_CONTENDERS.find(({ id }) => id === vproxy.id) ?? vproxy;
  const outcomes = await measureDatagramTools(contender, { folder, programs, target: 0 }, { toolMs: 50 });
  const rows = DATAGRAM_TOOLS.rows(parseBenchOptions([]).amounts);
  t.deepEqual(Object.keys(outcomes).sort(), rows.map(({ key }) => key).sort());
  for (const [key, outcome] of Object.entries(outcomes)) {
    if (typeof outcome === 'string') t.regex(outcome, /^not tried: apt-get install \S/, key);
    else t.true(outcome >= 0, `${key}: ${outcome}`);
  }
});
