/** Which secret files are accepted. */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { readCertificates } from '../../../lib/link/tls-layer.js';
import { readSecretFile, readSmallFile } from '../../../lib/system/files/guarded-files.js';
import { temporaryFolder } from '../../helpers/files.js';
import { testWith } from '../../helpers/test-with.js';

const testAsRoot = testWith('root');

/** A user that is neither root nor this one. */
const STRANGER = 4321;

function writeSecret(t: ExecutionContext, mode = 0o600): string {
  const path = join(temporaryFolder(t), 'secret');
  writeFileSync(path, 'open sesame');
  chmodSync(path, mode);
  return path;
}

test('a file that only this user can read is read, up to a limit', (t) => {
  const path = writeSecret(t);
  t.is(readSecretFile(path), 'open sesame');
  t.is(readSecretFile(path, 11), 'open sesame');
  t.throws(() => readSecretFile(path, 10), { code: 'bad-file', message: `${path}: longer than 10 bytes` });
});

test('a file accessible to other users is not read', (t) => {
  for (const mode of [0o640, 0o604, 0o620, 0o602, 0o610, 0o601]) {
    const path = writeSecret(t, mode);
    t.throws(() => readSecretFile(path), { code: 'bad-file', message: /accessible to other users/ }, `${mode}`);
  }
});

testAsRoot('a file of another user is not read, whatever its mode', (t) => {
  const path = writeSecret(t);
  chownSync(path, STRANGER, STRANGER);
  t.throws(() => readSecretFile(path), { code: 'bad-file', message: `${path}: owned by another user (4321)` });
  const link = `${path}-link`;
  symlinkSync(path, link);
  t.throws(() => readSecretFile(link), { code: 'bad-file', message: /owned by another user/ });
});

test('anything but a file is not read, and no error contains a secret', (t) => {
  const folder = join(temporaryFolder(t), 'folder');
  mkdirSync(folder, { mode: 0o700 });
  t.throws(() => readSecretFile(folder), { code: 'bad-file', message: `${folder}: not a regular file` });
  const fifo = `${folder}/fifo`;
  execFileSync('mkfifo', ['-m', '600', fifo]);
  // Nobody writes to it.
  for (const read of [readSecretFile, (path: string) => readCertificates({ ca: path, cert: path, key: path })])
    t.throws(() => read(fifo), { code: 'bad-file', message: `${fifo}: not a regular file` });
  // It can be opened, but not read.
  t.throws(() => readSmallFile('/proc/self/mem', 9), { code: 'bad-file', message: /^\/proc\/self\/mem: .*EIO/ });
  const error = t.throws(() => readSecretFile(writeSecret(t), 4), { code: 'bad-file' });
  t.false(`${error.stack ?? ''}${String(error.cause)}`.includes('sesame'));
});
