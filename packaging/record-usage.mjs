// Loaded by AVA into each process that runs specs: where VPROXY_TEST_USAGE names a file, the process adds a line to it as it
// ends: its file of specs, the seconds that it took, and those of processor time that it and what it started have used. What it
// starts finds the file of specs in VPROXY_TEST_FILE.
import { appendFileSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

/** Ticks in a second of /proc/PID/stat, which is the same on all of Linux (proc(5), sysconf(_SC_CLK_TCK)). */
const TICKS = 100;

/** What this process used, and those of its children that it has waited for, in seconds. */
function usedSeconds() {
  const [, fields] = /\) (.*)/s.exec(readFileSync('/proc/self/stat', 'utf8'));
  // utime, stime, cutime and cstime; the first field here is the third one of the file.
  const ticks = fields.split(' ').slice(11, 15).map(Number);
  return ticks.reduce((sum, one) => sum + one, 0) / TICKS;
}

const file = relative('dist', fileURLToPath(test.meta.file));
process.env.VPROXY_TEST_FILE = file;
const path = process.env.VPROXY_TEST_USAGE;
if (path) {
  process.once('exit', () => {
    const line = [performance.now() / 1000, usedSeconds()].map((seconds) => seconds.toFixed(2));
    appendFileSync(path, `${line.join('\t')}\t${file}\n`);
  });
}
