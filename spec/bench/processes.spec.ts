/** CPU time and memory of processes and their descendants. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import test from 'ava';
import { parseProcStat } from '../../bench/process/proc-stat.js';
import { cpuSecondsOf, listTree, memoryOf, residentBytesOf } from '../../bench/process/tree.js';
import { eventually } from '../helpers/time.js';

const FIELDS_AFTER_NAME = 'S 17 42 42 0 -1 4194560 100 0 0 0 250 150 30 20 20 0 1 0 12345 1000 200';

test('times stand behind the name, whatever the name is', (t) => {
  const expected = { pid: 42, parentPid: 17, ownSeconds: 4, reapedSeconds: 0.5 };
  t.deepEqual(parseProcStat(`42 (node) ${FIELDS_AFTER_NAME}`), expected);
  t.deepEqual(parseProcStat(`42 (a) R 9 (b) ${FIELDS_AFTER_NAME}`), expected);
});

test('of this process its own line is understood', (t) => {
  const { pid, parentPid } = parseProcStat(readFileSync('/proc/self/stat', 'utf8'));
  t.deepEqual([pid, parentPid], [process.pid, process.ppid]);
});

test('a child of a child belongs to the tree, and what both have used counts, also when they have ended', async (t) => {
  const burn = 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done';
  const child = spawn('sh', ['-c', `sh -c '${burn}'; echo; sh -c 'sleep 60; :'; :`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const pid = child.pid ?? 0;
  t.teardown(() => listTree([pid]).forEach((stat) => process.kill(stat.pid, 'SIGKILL')));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  await eventually(() => listTree([pid]).length === 3);
  t.true(cpuSecondsOf([pid]) > 0.02);
  t.true(residentBytesOf([pid]) > 0);
  const { residentBytes, privateBytes } = memoryOf([pid]);
  t.true(privateBytes > 0 && residentBytes > privateBytes && residentBytes > residentBytesOf([pid]));
});

test('a process that is not there has used nothing', (t) => {
  t.deepEqual(listTree([2 ** 30]), []);
  t.is(cpuSecondsOf([2 ** 30]), 0);
  t.deepEqual(memoryOf([2 ** 30]), { residentBytes: 0, privateBytes: 0 });
});
