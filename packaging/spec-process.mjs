// Loaded by AVA into each process that runs specs. What the process starts finds the file of specs in VPROXY_TEST_FILE. As the
// process ends, it ends what its specs have left running, which would keep the output of AVA open, and AVA with it; and where
// VPROXY_TEST_USAGE names a file, it adds a line there: its file of specs, the seconds that it took, and those of processor time
// that it and what it started have used.
import { appendFileSync, readdirSync, readFileSync } from 'node:fs';
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

/** Ends each other process that has this text in its environment, and names it. */
function endThoseOf(mark) {
  for (const pid of readdirSync('/proc').map(Number)) {
    if (!(pid > 0) || pid === process.pid) continue;
    try {
      if (!readFileSync(`/proc/${pid}/environ`, 'utf8').includes(mark)) continue;
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').slice(0, 200);
      process.kill(pid, 'SIGKILL');
      console.error(`${file} left process ${pid} running: ${words}`);
    } catch {
      // Gone meanwhile, or somebody else's.
    }
  }
}

const file = relative('dist', fileURLToPath(test.meta.file));
const mark = `${process.pid}.${performance.timeOrigin}`;
process.env.VPROXY_TEST_FILE = file;
process.env.VPROXY_TEST_PROCESS = mark;
// AVA ends a process that has been silent for too long with SIGTERM.
process.once('SIGTERM', () => process.exit(143));
process.once('exit', () => {
  endThoseOf(`VPROXY_TEST_PROCESS=${mark}`);
  const path = process.env.VPROXY_TEST_USAGE;
  if (!path) return;
  const line = [performance.now() / 1000, usedSeconds()].map((seconds) => seconds.toFixed(2));
  appendFileSync(path, `${line.join('\t')}\t${file}\n`);
});
