import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { isOwnGroup } from '../../lib/system/accounts.js';
import { temporaryFolder } from '../helpers/files.js';

const USER = 1000;

/** Whether group 50 is of the user 1000 alone, with these lines in /etc/group and besides the user's and root's in /etc/passwd. */
function isOwn(t: ExecutionContext, groups: readonly string[], accounts: readonly string[] = []): boolean {
  const folder = temporaryFolder(t);
  const [passwd, group] = [join(folder, 'passwd'), join(folder, 'group')];
  const lines = ['root:x:0:0::/root:/bin/sh', `one:x:${USER}:50::/home/one:/bin/sh`, ...accounts];
  writeFileSync(passwd, `${lines.join('\n')}\n`);
  writeFileSync(group, `${groups.join('\n')}\n`);
  return isOwnGroup(50, USER, passwd, group);
}

test('a group that is the user’s, and has no other member, is its own', (t) => {
  t.true(isOwn(t, ['one:x:50:']));
  t.true(isOwn(t, ['one:x:50:one,root']));
});

test('a group with another member is not', (t) => {
  t.false(isOwn(t, ['one:x:50:one,two'], ['two:x:1001:51::/home/two:/bin/sh']));
  t.false(isOwn(t, ['one:x:50:', 'other:x:50:two'], ['two:x:1001:51::/home/two:/bin/sh']));
});

test('a group that is also another user’s is not', (t) => {
  t.false(isOwn(t, ['one:x:50:'], ['two:x:1001:50::/home/two:/bin/sh']));
});

test('a member or a group that is not known is not', (t) => {
  t.false(isOwn(t, ['one:x:50:somebody']));
  t.false(isOwn(t, ['root:x:0:']));
  t.false(isOwnGroup(50, USER, '/dev/null/passwd', '/dev/null/group'));
});
