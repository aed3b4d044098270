import { lstatSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { formatFifoLine } from '../../cli/commands/ports.js';
import { temporaryFolder } from '../helpers/files.js';
import { runVproxy } from '../helpers/vproxy-process.js';

test.serial('pipe-create makes the FIFOs, tells so, and prints the lines for tmpfiles.d', async (t) => {
  const path = join(temporaryFolder(t), 'vm1');
  const user = String(process.getuid?.());
  const { code, stdout, stderr } = await runVproxy(['pipe-create', path, '--mode', '600', '--owner', user]);
  t.is(code, 0, stderr);
  const { gid } = lstatSync(path);
  const files = [path, `${path}.in`, `${path}.out`];
  t.is(stdout, files.map((file) => `p+ ${file} 0600 ${user} ${gid} - -\n`).join(''));
  t.is(stderr, files.map((file) => `vproxy: made ${file}\n`).join(''));
  for (const file of files) t.is(lstatSync(file).mode & 0o7777, 0o600);

  const again = await runVproxy(['pipe-create', path]);
  t.is(again.code, 0);
  t.is(again.stderr, files.map((file) => `vproxy: kept ${file}\n`).join(''));
  t.is(lstatSync(path).mode & 0o7777, 0o660);
});

test.serial('pipe-create ends with status 73 where something else is in the way', async (t) => {
  const path = join(temporaryFolder(t), 'vm1');
  writeFileSync(`${path}.in`, 'precious');
  t.deepEqual(await runVproxy(['pipe-create', path]), {
    code: 73,
    stdout: '',
    stderr: `vproxy: error: ${path}.in: something else is there, which is no FIFO\n`,
  });
});

test('a path in a line for tmpfiles.d is quoted where it has to be', (t) => {
  t.is(formatFifoLine('/run/a', 0o60, 'qemu', 'kvm'), 'p+ /run/a 0060 qemu kvm - -');
  t.is(formatFifoLine('/run/a b"%t\\', 0o660, '0', '0'), 'p+ "/run/a b\\"%%t\\\\" 0660 0 0 - -');
});
