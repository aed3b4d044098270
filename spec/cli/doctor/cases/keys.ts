/** Key files. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { checkKeyFile } from '../../../../cli/doctor/subjects/key-file.js';
import { temporaryFolder, writeKeyFile } from '../../../helpers/files.js';
import { type FakeMachine, fakeMachine } from '../../../helpers/machines.js';
import { ESTABLISHED, spawnVproxy, TAKING_CONTROL } from '../../../helpers/vproxy-process.js';
import { doctor, doctorWithoutRights, type FindingCase } from './case.js';

const look = (t: ExecutionContext, path: string, machine: FakeMachine = {}) =>
  checkKeyFile(fakeMachine(t, machine), path);

/** Each finding about them. */
export const KEY_CASES: readonly FindingCase[] = [
  {
    id: 'key-good',
    when: 'it is one, with its id and nothing else of it',
    says: /has the key [0-9a-f]{8}$/,
    find: (t) => look(t, writeKeyFile(temporaryFolder(t), 'k', 'ab')),
  },
  {
    id: 'key-missing',
    when: 'there is none',
    remedy: /vproxy genkey \/.*k/,
    find: (t) => doctor(t, ['--key', join(temporaryFolder(t), 'k')]),
  },
  { id: 'key-not-file', when: 'it is a folder', find: (t) => look(t, temporaryFolder(t)) },
  {
    id: 'key-denied',
    when: 'this user cannot read it',
    find: (t) => doctorWithoutRights(t, '--key', writeKeyFile(temporaryFolder(t), 'k', 'ab', 0o200)),
  },
  {
    id: 'key-owner',
    when: 'it belongs to somebody else',
    async find(t) {
      const path = writeKeyFile(temporaryFolder(t), 'k', 'ab');
      const { chownSync } = await import('node:fs');
      // Files owned by root raise no finding, so the file is given to another user.
      if (process.getuid?.() === 0) chownSync(path, 4321, 4321);
      return look(t, path, { userId: 1234 });
    },
  },
  {
    id: 'key-open',
    when: 'others can read it',
    says: /mode 0644/,
    remedy: /chmod 600/,
    find: (t) => look(t, writeKeyFile(temporaryFolder(t), 'k', 'ab', 0o644)),
  },
  {
    id: 'key-invalid',
    when: 'it has the wrong length',
    says: /it has 63 bytes/,
    find(t) {
      const path = join(temporaryFolder(t), 'k');
      writeFileSync(path, `${'ab'.repeat(31)}\n`, { mode: 0o600 });
      return look(t, path);
    },
  },
  {
    id: 'key-differs',
    when: 'the session that runs has another one',
    async find(t) {
      const folder = temporaryFolder(t);
      const [old, fresh] = [writeKeyFile(folder, 'old', 'ab'), writeKeyFile(folder, 'new', 'cd')];
      const channel = `${folder}/c`;
      const host = spawnVproxy(t, ['-c', `unix-listen:${channel}`, '--key', old, '--control', `${folder}/control`]);
      await host.waitForLine(TAKING_CONTROL);
      spawnVproxy(t, ['-c', `unix-connect:${channel}`, '--key', old]);
      await host.waitForLine(ESTABLISHED);
      return doctor(t, ['-c', `unix-listen:${channel}`, '--key', fresh, '--socket', `${folder}/control`]);
    },
  },
];
