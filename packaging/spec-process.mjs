// Loaded by AVA into each process that runs specs. Processes started by it find the spec file in VPROXY_TEST_FILE. At exit it
// kills processes that its specs left running, which would keep the output of AVA open, and AVA with it; and if VPROXY_TEST_USAGE
// names a file, it appends a line there: the spec file, the seconds that it took, and the seconds of processor time that it and
// its children used.
import { appendFileSync, readdirSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

/** Ticks in a second of /proc/PID/stat, which is the same on all of Linux (proc(5), sysconf(_SC_CLK_TCK)). */
const TICKS = 100;

/** Processor time of this process and of children that it waited for, in seconds. */
function usedSeconds() {
  const [, fields] = /\) (.*)/s.exec(readFileSync('/proc/self/stat', 'utf8'));
  // utime, stime, cutime and cstime; the first field here is the third one of the file.
  const ticks = fields.split(' ').slice(11, 15).map(Number);
  return ticks.reduce((sum, one) => sum + one, 0) / TICKS;
}

/** Kills each other process that has this text in its environment, and prints it. */
function endThoseOf(mark) {
  for (const pid of readdirSync('/proc').map(Number)) {
    if (!(pid > 0) || pid === process.pid) continue;
    try {
      if (!readFileSync(`/proc/${pid}/environ`, 'utf8').includes(mark)) continue;
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').slice(0, 200);
      process.kill(pid, 'SIGKILL');
      console.error(`${file} left process ${pid} running: ${words}`);
    } catch {
      // It has exited, or belongs to another user.
    }
  }
}

const file = relative('dist', fileURLToPath(test.meta.file));
const mark = `${process.pid}.${performance.timeOrigin}`;
process.env.VPROXY_TEST_FILE = file;
process.env.VPROXY_TEST_PROCESS = mark;
// AVA sends SIGTERM to a process that has been silent for too long.
process.once('SIGTERM', () => process.exit(143));
process.once('exit', () => {
  endThoseOf(`VPROXY_TEST_PROCESS=${mark}`);
  const path = process.env.VPROXY_TEST_USAGE;
  if (!path) return;
  const line = [performance.now() / 1000, usedSeconds()].map((seconds) => seconds.toFixed(2));
  appendFileSync(path, `${line.join('\t')}\t${file}\n`);
});
