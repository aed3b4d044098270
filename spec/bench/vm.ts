/** The parts of the benchmark in a guest that need no guest. */
import test from 'ava';
import { Results } from '../../bench/results.js';
import { VM_CONTENDERS } from '../../bench/vm/contenders.js';
import { parseVmOptions } from '../../bench/vm/options.js';
import { reportVm } from '../../bench/vm/report.js';
import { VM_BARS, VM_WORK } from '../../bench/vm/work.js';

test('every bar of a guest is about a figure that is measured, of contenders that there are', (t) => {
  const ids = VM_CONTENDERS.map(({ id }) => id);
  const isMeasured = ({ work, key }: { work: string; key: string }, contender: string): boolean =>
    VM_WORK.some(
      ({ id, rows, isMultiplexed = false }) =>
        id === work &&
        rows.some((row) => row.key === key) &&
        (!isMultiplexed || VM_CONTENDERS.some((known) => known.id === contender && known.isMultiplexed)),
    );
  for (const bar of VM_BARS) {
    const beside = bar.beside ?? bar.of;
    t.true(ids.includes(bar.of) && ids.includes(beside), bar.title);
    t.true(isMeasured(bar, bar.of) && isMeasured(bar, beside), bar.title);
  }
});

test('the report holds a forward against the relay, and a stream in the process against the raw port', (t) => {
  const results = new Results();
  results.add('up', 'vproxy', { rate: 45 });
  results.add('up', 'relay', { rate: 50 });
  results.add('echo', 'vproxy', { p50: 100, p99: 200 });
  results.add('echo', 'relay', { p50: 80, p99: 90 });
  results.add('down', 'mux', { rate: 70 });
  results.add('down', 'raw', { rate: 100 });
  results.add('beside-bulk', 'vproxy', { p50: 390, p99: 900, up: 10, down: 20 });
  results.add('serial-9600', 'vproxy-serial', { alone: 40, p50: 400, most: 'it broke', bulk: 90 });
  const { text, json } = reportVm(parseVmOptions([]), results, 'tcg');
  t.regex(text, /^In the guest, under tcg:\n\n +vproxy forward +plain relay +MuxStream in process +raw port$/m);
  t.regex(text, /^up, 1 stream +vproxy \/ relay +0\.90 +≥ 0\.8 +met$/m);
  t.regex(text, /^down, 1 stream, in the process +mux \/ raw +0\.70 +≥ 0\.75 +MISSED$/m);
  t.regex(text, /^echo of 1 B, alone, p50 +vproxy \/ relay +1\.25 +≤ 1\.15 +MISSED$/m);
  t.regex(text, /simulated serial line, outside the guest[^]*^9,600 baud: keystroke alone, p50, ms +40\.0 +–$/m);
  t.regex(text, /^as tty-open, serial-9600: it broke$/m);
  const { figures, options } = JSON.parse(json) as { figures: { work: string }[]; options: object };
  t.is(figures.length, 16);
  t.like(options, { rounds: 5, accelerator: 'tcg', bytes: 48e6 });
});
