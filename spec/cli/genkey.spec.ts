import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { temporaryFolder } from '../helpers/files.js';
import { runVproxy } from '../helpers/vproxy-process.js';

test.serial('genkey prints a key, another one each time', async (t) => {
  const [one, other] = [await runVproxy(['genkey']), await runVproxy(['genkey'])];
  t.regex(one.stdout, /^[0-9a-f]{64}\n$/);
  t.like(one, { code: 0, stderr: '' });
  t.not(one.stdout, other.stdout);
});

test.serial('genkey FILE writes it where only its owner can read it, and says its id', async (t) => {
  const path = join(temporaryFolder(t), 'vm1.key');
  const { code, stdout, stderr } = await runVproxy(['genkey', path]);
  const { id } = SecretKey.parse(readFileSync(path, 'latin1'));
  t.deepEqual({ code, stdout, stderr }, { code: 0, stdout: '', stderr: `vproxy: made ${path}, the key ${id}\n` });
  t.is(statSync(path).mode & 0o777, 0o600);
});

test.serial('genkey leaves a file that is there as it is', async (t) => {
  const path = join(temporaryFolder(t), 'vm1.key');
  writeFileSync(path, 'precious');
  const stderr = `vproxy: error: ${path}: it is there already, and is left as it is\n`;
  t.deepEqual(await runVproxy(['genkey', path]), { code: 73, stdout: '', stderr });
  t.is(readFileSync(path, 'utf8'), 'precious');
  t.is((await runVproxy(['genkey', '/nonexistent/vm1.key'])).code, 73);
  t.is((await runVproxy(['genkey', 'a', 'b'])).code, 64);
  t.is((await runVproxy(['genkey', '--name', 'x'])).code, 64);
});
