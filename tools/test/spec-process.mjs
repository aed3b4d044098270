// Loaded by AVA into each process that runs specs. Processes started by it find the spec file in VPROXY_TEST_FILE. At exit it
// kills processes that its specs left running, which would keep the output of AVA open, and AVA with it; and if VPROXY_TEST_USAGE
// names a file, it appends a line there: the spec file, the seconds that it took, and the seconds of processor time that it and
// its children used.
//
// It also ends itself when no test has ended for VPROXY_TEST_QUIET_MS of the processor's time, a minute by default. AVA's `timeout`
// counts real time, which on a busy machine says little, and counts it once: if it is up while a test may still take longer
// (`t.timeout`), a run that hangs never ends. So it is just for a process that gives its event loop no turn, and such a test is
// not mentioned to AVA.
import { appendFileSync, readdirSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { Deadline } from '../../dist/spec/helpers/time.js';

/** The time for the start, and from the end of one test to that of the next. */
const QUIET_MS = Number(process.env.VPROXY_TEST_QUIET_MS ?? 60_000);

/** The message with which AVA's processes report the time of a `t.timeout`. */
const LONGER = 'test-timeout-configured';

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

const send = process.send.bind(process);
const pending = new Set();
let longUntilMs = 0;
const late = () => {
  const leftMs = longUntilMs - performance.now();
  if (leftMs > 0) return expectProgress(leftMs);
  console.error(
    `${file}: no test has ended for ${QUIET_MS} ms of the processor's time; pending: ${[...pending].join('; ')}`,
  );
  process.exit(1);
};
const expectProgress = (ms) => {
  deadline?.cancel();
  deadline = new Deadline(ms, late).unref();
};
let deadline = null;
expectProgress(QUIET_MS);
process.send = (message, ...rest) => {
  const { type, period, title } = message.ava ?? {};
  if (type === 'selected-test') pending.add(title);
  if (type === 'test-passed' || type === 'test-failed') pending.delete(title);
  if (type === LONGER) longUntilMs = Math.max(longUntilMs, performance.now() + period);
  expectProgress(QUIET_MS);
  return send(type === LONGER ? { ava: { type, period: 0 } } : message, ...rest);
};

process.once('exit', () => {
  endThoseOf(`VPROXY_TEST_PROCESS=${mark}`);
  const path = process.env.VPROXY_TEST_USAGE;
  if (!path) return;
  const line = [performance.now() / 1000, usedSeconds()].map((seconds) => seconds.toFixed(2));
  appendFileSync(path, `${line.join('\t')}\t${file}\n`);
});
