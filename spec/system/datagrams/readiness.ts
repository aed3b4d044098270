/** Waiting for descriptors through epoll; fails if a version of Node lacks the internals for it. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readdirSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Readiness } from '../../../lib/system/datagrams/readiness.js';
import { loadLibc } from '../../../lib/system/libc.js';
import { temporaryFolder } from '../../helpers/files.js';
import { eventually } from '../../helpers/time.js';

/** A FIFO open in both directions: what is written to it can be read from it. */
function openFifo(t: ExecutionContext): number {
  const path = join(temporaryFolder(t), 'fifo');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  t.teardown(() => closeSync(fd));
  return fd;
}

interface Watched {
  readonly fd: number;
  calls: number;
  /** Whether each call reads one byte. */
  isReading: boolean;
}

function watch(t: ExecutionContext, readiness: Readiness): Watched {
  const watched: Watched = { fd: openFifo(t), calls: 0, isReading: true };
  readiness.watch(watched.fd, () => {
    watched.calls += 1;
    if (watched.isReading) readSync(watched.fd, Buffer.alloc(1));
  });
  t.teardown(() => readiness.forget(watched.fd));
  return watched;
}

/** Waits until a later event has been reported. */
async function turn(watched: Watched, count = 1): Promise<void> {
  const before = watched.calls;
  for (let sent = 0; sent < count; sent += 1) {
    writeSync(watched.fd, 'x');
    await eventually(() => watched.calls === before + sent + 1, { what: 'a call', intervalMs: 1 });
  }
}

test('calls come while there is something to read, without reading it, and other descriptors get theirs', async (t) => {
  const readiness = new Readiness(await loadLibc());
  const [one, other] = [watch(t, readiness), watch(t, readiness)];
  await turn(other, 3);
  t.is(one.calls, 0);
  one.isReading = false;
  writeSync(one.fd, 'abc');
  await eventually(() => one.calls >= 5, { what: 'five calls', intervalMs: 1 });
  one.isReading = true;
  const before = one.calls;
  await eventually(() => one.calls === before + 3, { what: 'a call for each byte', intervalMs: 1 });
  await turn(other, 3);
  t.is(one.calls, before + 3);
});

test('writability is reported while requested, and no longer', async (t) => {
  const readiness = new Readiness(await loadLibc());
  const [one, other] = [watch(t, readiness), watch(t, readiness)];
  one.isReading = false;
  readiness.setWriting(one.fd, true);
  await eventually(() => one.calls >= 2, { what: 'calls', intervalMs: 1 });
  readiness.setWriting(one.fd, false);
  const { calls } = one;
  await turn(other, 3);
  t.is(one.calls, calls);
});

test.serial('a forgotten descriptor gets no more calls, and after the last one nothing stays open', async (t) => {
  const readiness = new Readiness(await loadLibc());
  const fifos = [openFifo(t), openFifo(t)] as const;
  const descriptors = () => readdirSync('/proc/self/fd').length;
  const before = descriptors();
  for (let count = 0; count < 3; count += 1) {
    let calls = 0;
    for (const fd of fifos) readiness.watch(fd, () => void (calls += 1));
    t.true(descriptors() > before);
    writeSync(fifos[0], 'x');
    await eventually(() => calls > 0, { what: 'a call', intervalMs: 1 });
    for (const fd of fifos) readiness.forget(fd);
    const told = calls;
    await eventually(() => descriptors() === before, { what: 'the descriptors as before' });
    t.is(calls, told);
    readSync(fifos[0], Buffer.alloc(1));
  }
});

test('a descriptor that epoll rejects throws a system error, and leaves nothing open', async (t) => {
  const readiness = new Readiness(await loadLibc());
  const file = openSync(process.execPath, 'r');
  t.teardown(() => closeSync(file));
  t.throws(() => readiness.watch(file, () => undefined), { code: 'EPERM' });
  // Others still work.
  await turn(watch(t, readiness));
});
