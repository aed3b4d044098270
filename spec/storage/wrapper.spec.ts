/** The wrapper as a process of its own. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { createStorageEmulator, type StorageHandler } from '../../lib/storage/emulator.js';
import { temporaryFolder } from '../helpers/files.js';
import { startSingleReadEmulator } from '../helpers/storage-emulators.js';
import {
  attachPort,
  type Guest,
  peerAt,
  runWrapper,
  startGuest,
  startWrapper,
  until,
} from '../helpers/storage-setup.js';

/** A guest whose calls this handler answers. */
async function guestWith(t: import('ava').ExecutionContext, handler: StorageHandler): Promise<Guest> {
  const emulator = createStorageEmulator(handler);
  t.teardown(() => emulator.close());
  const address = await emulator.listen({ host: '127.0.0.1', port: 0 });
  return startGuest(t, { peer: peerAt('port' in address ? address.port : 0) });
}

const showArguments: StorageHandler = ({ argv }) => ({ stdout: JSON.stringify(argv) });

test.serial('output, errors and exit status are those of the reply, byte for byte', async (t) => {
  const stdout = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const stderr = Buffer.from([0xc3, 0x28, 0x00]);
  const { folder } = await guestWith(t, ({ argv }) => ({ stdout, stderr, status: Number(argv[1]) }));
  for (const status of [0, 1, 255]) {
    const run = await runWrapper(folder, [String(status)]);
    t.deepEqual(run.stdout, stdout);
    t.is(run.stderr, stderr.toString());
    t.is(run.status, status);
  }
});

test.serial('the path that it was called by is sent, and not what that links to', async (t) => {
  const { folder } = await guestWith(t, showArguments);
  const link = join(folder, 'storcli64');
  const sub = join(folder, 'sub');
  await mkdir(sub);
  const ways: [string, ...string[]][] = [
    ['storcli64'],
    ['sub/../storcli64'],
    [process.execPath, link],
    ['sh', '-c', 'exec storcli64 "$@"', 'sh'],
  ];
  for (const way of ways) {
    const { stdout, status } = await runWrapper(folder, ['/c0', '--flag', ''], {}, way);
    t.deepEqual(JSON.parse(stdout.toString()), [link, '/c0', '--flag', ''], way.join(' '));
    t.is(status, 0);
  }
});

test.serial(
  'an emulator that dies in a call makes the wrapper fail with one line, and the next call works',
  async (t) => {
    const guest = await startGuest(t);
    const port = await attachPort(t, guest.broker);
    const emulator = createStorageEmulator(({ argv }) => {
      if (argv[1] === 'die') throw new Error('dead');
      return { stdout: argv[1] ?? '' };
    });
    t.teardown(() => emulator.close());
    emulator.dial({ host: '127.0.0.1', port });
    t.deepEqual(await runWrapper(guest.folder, ['die']), {
      stdout: Buffer.alloc(0),
      stderr: 'vproxy-storage: the storage emulator (attached 1) failed: it hung up without a reply\n',
      status: 125,
    });
    t.is((await runWrapper(guest.folder, ['next'])).stdout.toString(), 'next');
  },
);

test.serial('without a broker it fails with one line', async (t) => {
  const folder = temporaryFolder(t);
  const { stderr, status } = await runWrapper(folder, ['x']);
  t.is(stderr, `vproxy-storage: no vproxy answers on ${join(folder, 'storage.sock')} (ENOENT)\n`);
  t.is(status, 125);
});

test.serial('without VPROXY_STORAGE_SOCKET it also looks in XDG_RUNTIME_DIR; a deadline of 0 waits', async (t) => {
  const folder = temporaryFolder(t);
  const { broker } = await startGuest(t);
  await broker.listen(join(folder, 'vproxy', 'storage.sock'));
  const environment = { VPROXY_STORAGE_SOCKET: '', XDG_RUNTIME_DIR: folder, VPROXY_STORAGE_TIMEOUT: '0' };
  const run = runWrapper(folder, [], environment);
  await until(() => broker.waitingCalls === 1);
  const emulator = createStorageEmulator(showArguments);
  t.teardown(() => emulator.close());
  emulator.dial({ host: '127.0.0.1', port: await attachPort(t, broker) });
  t.is((await run).status, 0);
});

test.serial('the deadline ends a call that nobody answers, and the broker forgets it', async (t) => {
  const guest = await startGuest(t);
  const { stderr, status } = await runWrapper(guest.folder, ['x'], { VPROXY_STORAGE_TIMEOUT: '0.2' });
  t.is(stderr, 'vproxy-storage: no answer within 0.2 s\n');
  t.is(status, 125);
  await until(() => guest.broker.waitingCalls === 0);
});

test.serial('a deadline that is none is told so', async (t) => {
  const { folder } = await startGuest(t);
  for (const value of ['soon', '-1']) {
    const { stderr, status } = await runWrapper(folder, ['x'], { VPROXY_STORAGE_TIMEOUT: value });
    t.is(stderr, 'vproxy-storage: VPROXY_STORAGE_TIMEOUT is no number of seconds, 0 or more\n');
    t.is(status, 125);
  }
});

test.serial('a reply that is none ends it with 126, shown on one line', async (t) => {
  const emulator = await startSingleReadEmulator(t, () => Buffer.from('\u001b[2Jnonsense\n'));
  const { folder } = await startGuest(t, { peer: peerAt(emulator.port) });
  const { stdout, stderr, status } = await runWrapper(folder, ['x']);
  t.is(stdout.length, 0);
  t.regex(stderr, /^vproxy-storage: [^\n]*is no JSON object: "\\x1b\[2Jnonsense"\n$/);
  t.is(status, 126);
});

test.serial('a request over the bound ends it with 126', async (t) => {
  const { folder } = await startGuest(t);
  const large = Array.from({ length: 12 }, () => 'x'.repeat(100_000));
  const { stderr, status } = await runWrapper(folder, large);
  t.is(stderr, 'vproxy-storage: the storage request exceeds 1048576 bytes\n');
  t.is(status, 126);
});

test.serial('a large output reaches a slow pipe whole', async (t) => {
  const output = Buffer.alloc(8 * 1024 * 1024, 'storage ');
  const { folder, calls } = await guestWith(t, () => ({ stdout: output, status: 7 }));
  // The pipe is not read before the gate is opened.
  const script = 'mkfifo gate; { "$0"; echo "status $?" >&2; } | { read open < gate; cat; }';
  const wrapper = await startWrapper(folder, [], {}, ['sh', '-c', script, join(folder, 'storcli64')]);
  await until(() => calls.length === 1);
  await writeFile(join(folder, 'gate'), 'open\n');
  const { stdout, stderr } = await wrapper.done;
  t.true(stdout.equals(output));
  t.is(stderr, 'status 7\n');
});

test.serial('a reader that goes early is no failure, and an output that cannot be written is one', async (t) => {
  const { folder } = await guestWith(t, () => ({ stdout: Buffer.alloc(8 * 1024 * 1024, 'storage\n'), status: 7 }));
  const run = (script: string) => runWrapper(folder, [], {}, ['sh', '-c', script, join(folder, 'storcli64')]);
  const { stdout, stderr } = await run('{ "$0"; echo "status $?" >&2; } | head -n 1');
  t.deepEqual([stdout.toString(), stderr], ['storage\n', 'status 7\n']);
  const full = await run('"$0" > /dev/full');
  t.regex(full.stderr, /^vproxy-storage: could not write the output \(ENOSPC[^\n]*\)\n$/);
  t.is(full.status, 125);
});
