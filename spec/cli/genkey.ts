/** `vproxy genkey`: a new key, printed or in a file that only its owner can read. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { temporaryFolder } from '../helpers/files.js';

test('genkey prints a new key each time, or writes it for its owner only, and overwrites no file', async (t) => {
  const [one, other] = [await callVproxy(['genkey']), await callVproxy(['genkey'])];
  t.regex(one.stdout, /^[0-9a-f]{64}\n$/);
  t.like(one, { code: 0, stderr: '' });
  t.not(one.stdout, other.stdout);
  const path = join(temporaryFolder(t), 'vm1.key');
  const made = await callVproxy(['genkey', path]);
  const { id } = SecretKey.parse(readFileSync(path, 'latin1'));
  t.deepEqual(made, { code: 0, stdout: '', stderr: `vproxy: created ${path}, key ${id}\n` });
  t.is(statSync(path).mode & 0o777, 0o600);
  writeFileSync(path, 'precious');
  const stderr = `vproxy: error: ${path}: already exists; left unchanged\n`;
  t.deepEqual(await callVproxy(['genkey', path]), { code: 73, stdout: '', stderr });
  t.is(readFileSync(path, 'utf8'), 'precious');
  t.is((await callVproxy(['genkey', '/nonexistent/vm1.key'])).code, 73);
});
