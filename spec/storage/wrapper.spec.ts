/** The wrapper as a separate process. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createStorageEmulator, type StorageHandler } from '../../lib/storage/emulator.js';
import { temporaryFolder } from '../helpers/files.js';
import { attachPort, FieldEmulator, type Guest, peerAt, runWrapper, startGuest } from '../helpers/storage.js';
import { eventually } from '../helpers/time.js';

async function guestWith(t: ExecutionContext, handler: StorageHandler): Promise<Guest> {
  const guest = await startGuest(t);
  const emulator = createStorageEmulator(handler);
  t.teardown(() => emulator.close());
  emulator.dial({ host: '127.0.0.1', port: await attachPort(t, guest) });
  return guest;
}

test.serial('output, errors and exit status are those of the reply, byte for byte', async (t) => {
  const stdout = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const stderr = Buffer.from([0xc3, 0x28, 0x00]);
  const { folder } = await guestWith(t, ({ argv }) => ({ stdout, stderr, status: Number(argv[1]) }));
  for (const status of [0, 1, 255])
    t.deepEqual(await runWrapper(folder, [String(status)]), { stdout, stderr: stderr.toString(), status });
});

test.serial('the path by which it was called is sent, not the target of the link', async (t) => {
  const { folder } = await guestWith(t, ({ argv }) => ({ stdout: JSON.stringify(argv) }));
  const link = join(folder, 'storcli64');
  await mkdir(join(folder, 'sub'));
  const ways: [string, ...string[]][] = [
    ['storcli64'],
    ['sub/../storcli64'],
    [process.execPath, link],
    ['sh', '-c', 'exec storcli64 "$@"', 'sh'],
  ];
  for (const way of ways) {
    const { stdout } = await runWrapper(folder, ['/c0', '--flag', ''], {}, way);
    t.is(stdout.toString(), JSON.stringify([link, '/c0', '--flag', '']), way.join(' '));
  }
});

test.serial('without VPROXY_STORAGE_SOCKET it also looks in XDG_RUNTIME_DIR; a deadline of 0 waits', async (t) => {
  const folder = temporaryFolder(t);
  const guest = await startGuest(t);
  await guest.broker.listen(join(folder, 'vproxy', 'storage.sock'));
  const environment = { VPROXY_STORAGE_SOCKET: '', XDG_RUNTIME_DIR: folder, VPROXY_STORAGE_TIMEOUT: '0' };
  const run = runWrapper(folder, ['x'], environment);
  await eventually(() => guest.broker.waitingCalls === 1);
  FieldEmulator.dialing(t, await attachPort(t, guest));
  t.like(await run, { stdout: Buffer.from('x\n'), status: 0 });
});

test.serial('failures are reported in one line, with 125, or with 126 for an invalid message', async (t) => {
  const folder = temporaryFolder(t);
  const guest = await startGuest(t);
  const emulator = await FieldEmulator.readline(t, ([, word]) =>
    word === 'die' ? 'die' : Buffer.from('\u001b[2Jno\n'),
  );
  const served = await startGuest(t, { peer: peerAt(emulator.port) });
  const noNumber = 'VPROXY_STORAGE_TIMEOUT: not a number of seconds, 0 or more';
  const large = Array.from({ length: 12 }, () => 'x'.repeat(100_000));
  const inTime = (value: string) => ({ VPROXY_STORAGE_TIMEOUT: value });
  const failed = 'storage emulator (peer) failed:';
  for (const [at, args, environment, status, line] of [
    [folder, ['x'], {}, 125, `no vproxy answers on ${join(folder, 'storage.sock')} (ENOENT)`],
    [guest.folder, ['x'], inTime('0.2'), 125, 'no answer within 0.2 s'],
    [guest.folder, ['x'], inTime('soon'), 125, noNumber],
    [guest.folder, ['x'], inTime('-1'), 125, noNumber],
    [guest.folder, large, {}, 126, 'the storage request exceeds 1048576 bytes'],
    [served.folder, ['die'], {}, 125, `${failed} it hung up without a reply`],
    [served.folder, ['x'], {}, 126, `${failed} storage reply: not a JSON object: "\\x1b[2Jno"`],
  ] as const) {
    const expected = { stdout: Buffer.alloc(0), stderr: `vproxy-storage: ${line}\n`, status };
    t.deepEqual(await runWrapper(at, args, environment), expected, line);
  }
  await eventually(() => guest.broker.waitingCalls === 0);
});

test.serial('a large output is complete on a slow pipe', async (t) => {
  const output = Buffer.alloc(8 * 1024 * 1024, 'storage ');
  const { folder, calls } = await guestWith(t, () => ({ stdout: output, status: 7 }));
  // The pipe is not read until the gate opens.
  const script = 'mkfifo gate; { "$0"; echo "status $?" >&2; } | { read open < gate; cat; }';
  const run = runWrapper(folder, [], {}, ['sh', '-c', script, join(folder, 'storcli64')]);
  await eventually(() => calls.length === 1);
  await writeFile(join(folder, 'gate'), 'open\n');
  const { stdout, stderr } = await run;
  t.true(stdout.equals(output));
  t.is(stderr, 'status 7\n');
});

test.serial('a reader that exits early is not a failure, but an output that cannot be written is', async (t) => {
  const { folder } = await guestWith(t, () => ({ stdout: Buffer.alloc(8 * 1024 * 1024, 'storage\n'), status: 7 }));
  const run = (script: string) => runWrapper(folder, [], {}, ['sh', '-c', script, join(folder, 'storcli64')]);
  t.like(await run('{ "$0"; echo "status $?" >&2; } | head -n 1'), {
    stdout: Buffer.from('storage\n'),
    stderr: 'status 7\n',
  });
  const { stderr, status } = await run('"$0" > /dev/full');
  t.regex(stderr, /^vproxy-storage: cannot write the output: ENOSPC[^\n]*\n$/);
  t.is(status, 125);
});
