/** QEMU's pipe chardev: the FIFOs of a channel, and how they are made. */
import { execFile, execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, statSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import fs from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { createFifos } from '../../lib/channel/pipe-open.js';
import { VproxyError } from '../../lib/errors.js';
import { DEVICE_FLAGS, dial, LinkRecorder, makeFifos, record } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';

/** Opens a FIFO as QEMU does: both ways, and not before vproxy. */
function openAsQemu(t: ExecutionContext, file: string): number {
  const fd = openSync(file, DEVICE_FLAGS);
  t.teardown(() => closeSync(fd));
  return fd;
}

// Serial, and so before the others: it measures the processor time of this process.
test.serial('writes that nobody takes cost no processor time', async (t) => {
  const link = await dial(t, `pipe-open:${makeFifos(t)}`);
  link.start(new LinkRecorder());
  while (link.write(Buffer.alloc(65_536)));
  const before = process.cpuUsage();
  const beganAt = performance.now();
  await promisify(execFile)('sleep', ['0.3']);
  const { user, system } = process.cpuUsage(before);
  const usedMs = (user + system) / 1000;
  const passedMs = performance.now() - beganAt;
  t.true(usedMs < passedMs / 3, `${usedMs} of ${passedMs} ms`);
});

test('what comes out of .out is from the guest, and what goes into .in is for it', async (t) => {
  const host = makeFifos(t);
  const link = await dial(t, `pipe-open:${host}`);
  const handler = record(link);
  writeSync(openAsQemu(t, `${host}.out`), 'from the guest');
  await handler.received(14);
  t.is(handler.bytes.toString(), 'from the guest');
  t.true(link.write(Buffer.from('for the guest')));
  const room = Buffer.alloc(100);
  t.is(room.toString('utf8', 0, readSync(openAsQemu(t, `${host}.in`), room)), 'for the guest');
});

test('the link stays when QEMU goes, and the next QEMU gets what waits in the FIFO', async (t) => {
  const host = makeFifos(t);
  const guest = `${host}-guest`;
  symlinkSync(`${host}.in`, `${guest}.out`);
  symlinkSync(`${host}.out`, `${guest}.in`);
  const near = await dial(t, `pipe-open:${host}`);
  const handler = record(near);
  const first = await dial(t, `pipe-open:${guest}`);
  const firstHandler = record(first);
  first.close();
  await firstHandler.closed;
  near.write(Buffer.from('stale'));
  const next = await dial(t, `pipe-open:${guest}`);
  await record(next).received(5);
  next.write(Buffer.from('back'));
  await handler.received(4);
  t.is(handler.closings.length, 0);
});

test('close waits for nothing but its own writes', async (t) => {
  const link = await dial(t, `pipe-open:${makeFifos(t)}`);
  const handler = record(link);
  link.write(Buffer.from('last words'));
  // Longer than this test may take.
  link.close(600_000);
  t.is((await handler.closed).code, 'shutdown');
});

test('FIFOs that are missing are waited for; anything else is refused', async (t) => {
  const file = join(temporaryFolder(t), 'pipe');
  const refuses = async (code: string, says: string) => {
    const { message } = await t.throwsAsync(dial(t, `pipe-open:${file}`), { instanceOf: VproxyError, code });
    t.true(message.includes(says), message);
  };
  await refuses('channel-missing', `${file}.out`);
  execFileSync('mkfifo', [`${file}.out`]);
  await refuses('channel-missing', `${file}.in`);
  writeFileSync(`${file}.in`, 'precious');
  await refuses('channel-unusable', `${file}.in is not a FIFO`);
  t.is(readFileSync(`${file}.in`, 'utf8'), 'precious');
});

// Making them.

const PLAIN = { owner: null, mode: 0o660 };

test('three FIFOs are made with their mode, whatever the umask is; those that are there are kept, and corrected', async (t) => {
  const base = join(temporaryFolder(t), 'pipe');
  execFileSync('mkfifo', ['-m', '0600', `${base}.in`]);
  const before = statSync(`${base}.in`);
  const fifos = await createFifos(base, { ...PLAIN, mode: 0o666 });
  t.deepEqual(
    fifos.map(({ path, isOld }) => [path, isOld]),
    [
      [base, false],
      [`${base}.in`, true],
      [`${base}.out`, false],
    ],
  );
  for (const fifo of fifos) {
    const found = await fs.lstat(fifo.path);
    t.true(found.isFIFO());
    t.deepEqual([found.mode & 0o7777, fifo.uid], [0o666, found.uid]);
  }
  t.is(statSync(`${base}.in`).ino, before.ino);
});

for (const [what, make] of [
  ['a file', (file: string) => fs.writeFile(file, 'precious')],
  ['a folder', (file: string) => fs.mkdir(file)],
  ['a link to a FIFO', (file: string) => fs.symlink('fifo', file)],
] as const) {
  test(`${what} in a FIFO's place is cannot-create, and nothing is made`, async (t) => {
    const folder = temporaryFolder(t);
    const base = join(folder, 'pipe');
    execFileSync('mkfifo', [join(folder, 'fifo')]);
    await make(`${base}.out`);
    const error = await t.throwsAsync(createFifos(base, PLAIN), { instanceOf: VproxyError, code: 'cannot-create' });
    t.is(error.message, `${base}.out: something else is there, which is no FIFO`);
    t.is(error.row.exit, 73);
    t.deepEqual((await fs.readdir(folder)).sort(), ['fifo', 'pipe.out']);
  });
}

test('what the system refuses is told in its words', async (t) => {
  const folder = temporaryFolder(t);
  for (const [path, owner, message] of [
    ['none/pipe', null, /none\/pipe: mkfifo: .*No such file/],
    ['pipe', 'no-such-user-here', /chown: .*no-such-user-here/],
  ] as const) {
    await t.throwsAsync(createFifos(join(folder, path), { ...PLAIN, owner }), { code: 'cannot-create', message });
  }
});

test('owner and SELinux type are given where there are such', async (t) => {
  const folder = temporaryFolder(t);
  const base = join(folder, 'pipe');
  const commands: string[] = [];
  const system = {
    selinuxFolder: folder,
    run: (file: string, args: readonly string[]) => {
      commands.push([file, ...args].join(' '));
      if (file === 'mkfifo') execFileSync(file, args);
      return Promise.resolve();
    },
  };
  const options = { owner: 'qemu:kvm', mode: 0o660 };
  await createFifos(base, options, system);
  t.false(
    commands.some((command) => command.startsWith('chcon')),
    'SELinux is off',
  );
  commands.length = 0;
  writeFileSync(join(folder, 'enforce'), '0');
  await createFifos(base, options, system);
  t.deepEqual(commands.slice(2, 4), [`chown -h -- qemu:kvm ${base}.in`, `chcon -h -t svirt_image_t -- ${base}.in`]);
  t.is(commands.length, 6);
});

test('a link that is put in the place of a FIFO gets nothing of what the FIFO was to get', async (t) => {
  const folder = temporaryFolder(t);
  const [base, victim] = [join(folder, 'pipe'), join(folder, 'victim')];
  writeFileSync(victim, 'a secret', { mode: 0o600 });
  // As the owner of the folder may do it.
  const run = () => fs.symlink(victim, base);
  await t.throwsAsync(createFifos(base, PLAIN, { run }), { code: 'cannot-create', message: /another file/ });
  t.is(statSync(victim).mode & 0o777, 0o600);
});
