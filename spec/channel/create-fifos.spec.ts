import { execFileSync } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { createFifos } from '../../lib/channel/pipe-open.js';
import { VproxyError } from '../../lib/errors.js';
import { makeFolder } from '../helpers/channel-pair.js';

const PLAIN = { owner: null, mode: 0o660 };

test('three FIFOs are made with their mode, whatever the umask is', async (t) => {
  const base = path.join(await makeFolder(t), 'pipe');
  const fifos = await createFifos(base, PLAIN);
  t.deepEqual(
    fifos.map((fifo) => [fifo.path, fifo.isOld]),
    [
      [base, false],
      [`${base}.in`, false],
      [`${base}.out`, false],
    ],
  );
  for (const fifo of fifos) {
    const found = await fs.lstat(fifo.path);
    t.true(found.isFIFO());
    t.is(found.mode & 0o7777, 0o660);
    t.is(fifo.uid, found.uid);
  }
});

test('FIFOs that are there are kept, with what is in them, and corrected', async (t) => {
  const base = path.join(await makeFolder(t), 'pipe');
  execFileSync('mkfifo', ['-m', '0600', `${base}.in`]);
  const before = await fs.lstat(`${base}.in`);
  const fifos = await createFifos(base, { ...PLAIN, mode: 0o666 });
  t.deepEqual(
    fifos.map(({ isOld }) => isOld),
    [false, true, false],
  );
  const after = await fs.lstat(`${base}.in`);
  t.is(after.ino, before.ino);
  t.is(after.mode & 0o7777, 0o666);
});

for (const [what, make] of [
  ['a file', (file: string) => fs.writeFile(file, 'precious')],
  ['a folder', (file: string) => fs.mkdir(file)],
  ['a link to a FIFO', (file: string) => fs.symlink('fifo', file)],
] as const) {
  test(`${what} in a FIFO's place is cannot-create, and nothing is made`, async (t) => {
    const folder = await makeFolder(t);
    const base = path.join(folder, 'pipe');
    execFileSync('mkfifo', [path.join(folder, 'fifo')]);
    await make(`${base}.out`);
    const attempt = createFifos(base, PLAIN);
    const error = await t.throwsAsync(attempt, { instanceOf: VproxyError, code: 'cannot-create' });
    t.is(error.message, `${base}.out: something else is there, which is no FIFO`);
    t.is(error.row.exit, 73);
    t.deepEqual((await fs.readdir(folder)).sort(), ['fifo', 'pipe.out']);
  });
}

test('what the system refuses is told in its words', async (t) => {
  const folder = await makeFolder(t);
  await t.throwsAsync(createFifos(path.join(folder, 'none/pipe'), PLAIN), {
    code: 'cannot-create',
    message: /none\/pipe: mkfifo: .*No such file/,
  });
  await t.throwsAsync(createFifos(path.join(folder, 'pipe'), { ...PLAIN, owner: 'no-such-user-here' }), {
    code: 'cannot-create',
    message: /chown: .*no-such-user-here/,
  });
});

test('owner and SELinux type are given where there are such', async (t) => {
  const folder = await makeFolder(t);
  const base = path.join(folder, 'pipe');
  const commands: string[] = [];
  const system = {
    selinuxFolder: folder,
    run: async (file: string, args: readonly string[]) => {
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
  await fs.writeFile(path.join(folder, 'enforce'), '0');
  await createFifos(base, options, system);
  t.deepEqual(commands.slice(2, 4), [`chown -h -- qemu:kvm ${base}.in`, `chcon -h -t svirt_image_t -- ${base}.in`]);
  t.is(commands.length, 6);
});

test('a link that is put in the place of a FIFO gets nothing of what the FIFO was to get', async (t) => {
  const folder = await makeFolder(t);
  const [base, victim] = [path.join(folder, 'pipe'), path.join(folder, 'victim')];
  await fs.writeFile(victim, 'a secret', { mode: 0o600 });
  // As the owner of the folder may do it.
  const run = () => fs.symlink(victim, base);
  await t.throwsAsync(createFifos(base, PLAIN, { run }), { code: 'cannot-create', message: /another file/ });
  t.is((await fs.stat(victim)).mode & 0o777, 0o600);
});
