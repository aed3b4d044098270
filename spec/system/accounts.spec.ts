/** Users and groups by getent(1), and by the files where it is missing. */
import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Accounts, hasOtherUsers } from '../../lib/system/accounts.js';
import { resolveSocketAccess } from '../../lib/system/sockets/listen-address.js';
import { temporaryFolder } from '../helpers/files.js';
import { bestTurnMs } from '../helpers/turn-time.js';

/** A getent with a user and a group that are in no file; it notes that it was called. */
const GETENT = `#!/bin/sh
echo "$@" >> "$0.log"
case "$1 $2" in
'passwd eve' | 'passwd 70001') echo eve:x:70001:70002::/home/eve:/bin/sh ;;
'passwd BOB') echo bob:x:1001:1001::/home/bob: ;;
'group staff') echo staff:*:70003:eve,bob ;;
'initgroups eve') echo 'eve                   70002 70003' ;;
'initgroups bob') echo 'bob                   1001' ;;
'passwd hangs') exec sleep 60 ;;
'initgroups fails') exit 1 ;;
*) exit 2 ;;
esac
`;

/** Accounts with these files, in which only bob is, and a getent with this text; null: none. */
function machine(t: ExecutionContext, text: string | null = GETENT) {
  const folder = temporaryFolder(t);
  const [passwdFile, groupFile, getent] = [join(folder, 'passwd'), join(folder, 'group'), join(folder, 'getent')];
  writeFileSync(passwdFile, 'bob:x:1001:1001::/home/bob:\n');
  writeFileSync(groupFile, 'bob:x:1001:\nlocal:x:44:bob,fails\n');
  if (text !== null) writeFileSync(getent, text);
  if (text !== null) chmodSync(getent, 0o755);
  return { accounts: new Accounts({ passwdFile, groupFile, getent, timeoutMs: 1000 }), log: `${getent}.log` };
}

const EVE = { name: 'eve', uid: 70_001, gid: 70_002, home: '/home/eve', shell: '/bin/sh' };
const BOB = { name: 'bob', uid: 1001, gid: 1001, home: '/home/bob', shell: '/bin/sh' };

test('getent decides who is a user or a group, and in which groups a user is', async (t) => {
  const { accounts } = machine(t);
  t.deepEqual(await accounts.findUser('eve'), EVE);
  t.deepEqual(await accounts.findUser('BOB'), BOB, 'a directory service may know another spelling');
  t.is(await accounts.findUser('bob'), null, 'whatever a file says');
  t.is(await accounts.findUser('70001'), null, 'a number is not a name');
  t.deepEqual([await accounts.findUserById(70_001), await accounts.findUserById(1001)], [EVE, BOB]);
  t.is((await accounts.describeUser(4711, 5)).name, '4711');
  t.deepEqual([await accounts.hasOtherGroups(EVE), await accounts.hasOtherGroups(BOB)], [true, false]);
  t.true(await accounts.hasOtherGroups({ ...BOB, name: 'fails' }), 'a getent without initgroups');
  const access = await resolveSocketAccess({ user: 'eve', group: 'staff', mode: 0o660 }, accounts);
  t.deepEqual(access, { mode: 0o660, uid: 70_001, gid: 70_003 });
  for (const mode of [600, -1, Number.NaN])
    await t.throwsAsync(
      resolveSocketAccess({ mode }, accounts),
      { code: 'bad-argument' },
      'more than 0777, or no mode',
    );
  await t.throwsAsync(resolveSocketAccess({ group: 'local' }, accounts), { message: /^no group "local"/ });
});

test('where getent is missing, or cannot be run, the files decide', async (t) => {
  for (const text of [null, '#!/nowhere/sh\n']) {
    const { accounts } = machine(t, text);
    t.deepEqual([await accounts.findUser('bob'), await accounts.findUser('eve')], [BOB, null]);
    t.deepEqual([await accounts.groupId('local'), await accounts.groupId('staff')], [44, null]);
    t.true(await accounts.hasOtherGroups(BOB));
  }
});

test('a group may have a megabyte of members, and others after it', async (t) => {
  const folder = temporaryFolder(t);
  const groupFile = join(folder, 'group');
  const members = Array.from({ length: 100_000 }, (_, index) => `user${index}`).join(',');
  writeFileSync(groupFile, `many:x:50:${members},bob\nlocal:x:44:`);
  const accounts = new Accounts({ groupFile, getent: null });
  t.deepEqual(
    [await accounts.hasOtherGroups(BOB), await accounts.hasOtherGroups({ ...BOB, name: 'ob' })],
    [true, false],
  );
  t.deepEqual([await accounts.groupId('many'), await accounts.groupId('local')], [50, 44]);
});

test.serial(
  'files of any length, and a line of a megabyte from getent, are read in turns of the event loop',
  async (t) => {
    const folder = temporaryFolder(t);
    const [passwdFile, emptyFile, getent] = [join(folder, 'passwd'), join(folder, 'empty'), join(folder, 'getent')];
    const line = (index: number) => `user${index}:x:${1000 + index}:100::/home/user${index}:/usr/sbin/nologin\n`;
    writeFileSync(passwdFile, Array.from({ length: 80_000 }, (_, index) => line(index)).join(''));
    writeFileSync(emptyFile, '\n'.repeat(2 ** 22));
    writeFileSync(getent, `#!/bin/sh\nprintf 'bob%s\\n' "$(yes ' 1001' | head -200000 | tr -d '\\n')"\n`);
    chmodSync(getent, 0o755);
    const local = new Accounts({ passwdFile, groupFile: passwdFile, getent: null });
    const directory = new Accounts({ passwdFile: emptyFile, getent });
    const longest = await bestTurnMs(20, async () => {
      t.is((await local.findUserById(80_999))?.name, 'user79999');
      t.is(await local.findUser('nobody'), null);
      t.is(await local.groupId('nogroup'), null);
      t.false(await local.hasOtherGroups(BOB));
      t.false(await hasOtherUsers(0, passwdFile));
      t.is(await directory.findUserById(5), null);
      await directory.hasOtherGroups(BOB);
    });
    t.log(`${longest} ms`);
    t.true(longest <= 20, `${longest} ms`);
  },
);

test('a text that cannot be a name is never passed to getent', async (t) => {
  const { accounts, log } = machine(t);
  for (const name of ['', '-s', '--help', 'a:b', 'a\nb', 'a\0b', 'x'.repeat(257), '\u00e9'.repeat(129)])
    t.deepEqual([await accounts.findUser(name), await accounts.groupId(name)], [null, null]);
  t.false(existsSync(log));
});

test('a directory service that does not answer is an error that says so, and holds up nothing else', async (t) => {
  const { accounts } = machine(t);
  const hanging = accounts.findUser('hangs');
  const refused = t.throwsAsync(resolveSocketAccess({ user: 'hangs' }, accounts), { code: 'address-unavailable' });
  t.deepEqual(await accounts.findUser('eve'), EVE);
  await t.throwsAsync(hanging, { message: /^cannot look up user "hangs": \S+ did not answer within 1 s$/ });
  await refused;
});
