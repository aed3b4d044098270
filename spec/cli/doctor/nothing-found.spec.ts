/** What `vproxy doctor` has to keep quiet about, and where a look has to be exact. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { checkKeyFile } from '../../../cli/doctor/checks/key-file.js';
import { checkUnixSocket } from '../../../cli/doctor/checks/unix-connect.js';
import { fakeMachine } from '../../helpers/fake-machine.js';
import { writeKeyFile } from '../../helpers/key-files.js';
import { pretend } from '../../helpers/pretender.js';
import { temporaryFolder } from '../../helpers/temp-folder.js';

async function idsOf(t: ExecutionContext, path: string, ownPid: number | null): Promise<readonly string[]> {
  const findings = await checkUnixSocket(fakeMachine(t), { path, isExclusive: true, ownPid });
  return findings.map(({ id }) => id);
}

test.serial('the vproxy that has the channel is not in its own way', async (t) => {
  const path = join(temporaryFolder(t), 's');
  await pretend(t, { program: 'qemu-system-x86', listen: path });
  const { pid } = await pretend(t, { program: 'vproxy', connect: path });
  t.deepEqual(await idsOf(t, path, pid), ['socket-listens']);
  t.deepEqual(await idsOf(t, path, null), ['socket-listens', 'socket-taken']);
});

test.serial('a vproxy that listens takes a second connection, so the first is in nobody’s way', async (t) => {
  const path = join(temporaryFolder(t), 's');
  await pretend(t, { program: 'vproxy', listen: path });
  await pretend(t, { program: 'minicom', connect: path });
  t.deepEqual(await idsOf(t, path, null), ['socket-listens']);
});

test('a key of this user may not even be read by its group', async (t) => {
  const path = writeKeyFile(temporaryFolder(t), 'k', 'ab', 0o640);
  const findings = await checkKeyFile(fakeMachine(t), { path });
  t.deepEqual(
    findings.map(({ id }) => id),
    ['key-open'],
  );
});
