/** Key files. */
import { chownSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { checkKeyFile } from '../../../../cli/doctor/subjects/key-file.js';
import { temporaryFolder, writeKeyFile } from '../../../helpers/files.js';
import { type FakeMachine, fakeMachine } from '../../../helpers/machines.js';
import { processPair } from '../../../helpers/process-pair.js';
import { atKey, atSecret, doctor, doctorWithoutRights, finds } from './case.js';

const look = (t: ExecutionContext, path: string, machine: FakeMachine = {}) =>
  checkKeyFile(fakeMachine(t, machine), path);

const key = (t: ExecutionContext, mode?: number): string => writeKeyFile(temporaryFolder(t), 'k', 'ab', mode);

export const KEY_CASES = [
  finds('key-good', 'it is one, shown by its id only', /has the key [0-9a-f]{8}$/, (t) => look(t, key(t))),
  atKey('bad-file', 'it does not exist', { remedy: /vproxy genkey \/.*k/ }, (t) =>
    doctor(t, ['--key', join(temporaryFolder(t), 'k')]),
  ),
  atKey('bad-file', 'it is a folder', (t) => look(t, temporaryFolder(t))),
  atSecret('bad-file', 'this user cannot read it', (t) => doctorWithoutRights(t, '--key', key(t, 0o200))),
  atSecret('bad-file', 'it belongs to another user', (t) => {
    const path = key(t);
    // Files owned by root raise no finding, so the file is given to another user.
    if (process.getuid?.() === 0) chownSync(path, 4321, 4321);
    return look(t, path, { userId: 1234 });
  }),
  atSecret('bad-file', 'others can read it', { says: /mode 0644/, remedy: /chmod 600/ }, (t) => look(t, key(t, 0o644))),
  atSecret('bad-file', 'its group can read it', /mode 0640/, (t) => look(t, key(t, 0o640))),
  atKey('bad-file', 'it has the wrong length', /not a key: 63 bytes/, (t) => {
    const path = join(temporaryFolder(t), 'k');
    writeFileSync(path, `${'ab'.repeat(31)}\n`, { mode: 0o600 });
    return look(t, path);
  }),
  finds('key-differs', 'the running session uses another one', async (t) => {
    const folder = temporaryFolder(t);
    const [old, fresh] = [writeKeyFile(folder, 'old', 'ab'), writeKeyFile(folder, 'new', 'cd')];
    const hostPath = join(folder, 'c');
    const { sockets } = await processPair(t, {
      control: 'both',
      hostPath,
      host: ['--key', old],
      guest: ['--key', old],
    });
    return doctor(t, ['-c', `unix-listen:${hostPath}`, '--key', fresh, '--socket', sockets[0]]);
  }),
];
