/** Which commands a caller may run; program lookup, user and environment. */
import { chmodSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  type CommandDecision,
  decideCommand,
  type ExecSystem,
  thisSystem,
} from '../../lib/services/exec/decide-command.js';
import type { ExecRequest } from '../../lib/services/exec/exec-messages.js';
import { Accounts } from '../../lib/system/accounts.js';
import { TestRunner } from '../helpers/exec-peers.js';
import { temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';

const asRoot = testWith('root');

/**
 * A small machine: `usr/box` is many programs, depending on `argv[0]`; `bin` is a link to `usr`; `usr/plain` and
 * `usr/folder` are not programs.
 */
function machine(t: ExecutionContext): { root: string; system: ExecSystem } {
  const root = realpathSync(temporaryFolder(t));
  mkdirSync(path.join(root, 'usr/folder'), { recursive: true });
  mkdirSync(path.join(root, 'home'));
  symlinkSync('usr', path.join(root, 'bin'));
  writeFileSync(path.join(root, 'usr/box'), '#!/bin/sh\necho "box as $0"\n');
  chmodSync(path.join(root, 'usr/box'), 0o755);
  for (const name of ['uname', 'sh', 'cat']) symlinkSync('box', path.join(root, 'usr', name));
  writeFileSync(path.join(root, 'usr/plain'), 'x', { mode: 0o644 });
  const passwd = ['me:x:1000:1000::ROOT/home:ROOT/bin/sh', 'other:x:1001:1001::/nowhere:', 'broken:x:y:z::/:/'];
  writeFileSync(path.join(root, 'passwd'), `${passwd.join('\n').replaceAll('ROOT', root)}\n`);
  writeFileSync(path.join(root, 'group'), 'me:x:1000:\nextra:x:44:root,other\nother:x:1001:other\n');
  const system = {
    ...thisSystem(),
    uid: 1000,
    gid: 1000,
    accounts: new Accounts({ passwdFile: `${root}/passwd`, groupFile: `${root}/group`, getent: null }),
    setprivFiles: [],
    path: `${root}/missing:${root}/bin`,
  };
  return { root, system };
}

const any = { commands: 'any' } as const;

/** Decides by these rules. */
const deciding =
  (system: ExecSystem, commands: 'any' | readonly string[]) =>
  (...argv: string[]): Promise<CommandDecision> =>
    decideCommand({ argv }, { commands }, system);

test('a program is looked up as execvp does', async (t) => {
  const { root, system } = machine(t);
  const decide = deciding(system, 'any');
  const fileOf = async (name: string): Promise<string> => (await decide(name)).options.file;
  t.is(await fileOf('uname'), `${root}/bin/uname`);
  t.is(await fileOf(`${root}/usr/cat`), `${root}/usr/cat`);
  t.is(await fileOf('../usr/cat'), `${root}/home/../usr/cat`);
  const { options } = await decideCommand({ argv: ['cat', 'x'], env: { PATH: `:${root}/usr` } }, any, system);
  t.deepEqual([options.file, options.argv], [`${root}/usr/cat`, ['cat', 'x']]);
});

test('commands of users whose groups come late hold up no others', async (t) => {
  const { root, system } = machine(t);
  let asked = 0;
  class LateAccounts extends Accounts {
    override hasOtherGroups(): Promise<boolean> {
      asked += 1;
      return new Promise(() => undefined);
    }
  }
  const sources = { passwdFile: `${root}/passwd`, groupFile: `${root}/group`, getent: null };
  const late = { ...system, uid: 0, accounts: new LateAccounts(sources) };
  for (let count = 0; count < 4; count += 1) void decideCommand({ argv: ['cat'], user: 'me' }, any, late);
  await eventually(() => asked === 4, { what: 'the questions for groups' });
  t.is((await decideCommand({ argv: ['cat'] }, any, system)).options.file, `${root}/bin/cat`);
});

test('a long PATH yields the first executable program, past files that cannot be run', async (t) => {
  const { root, system } = machine(t);
  const folders = Array.from({ length: 20 }, (_, index) => path.join(root, String(index)));
  for (const folder of folders) mkdirSync(folder);
  const put = (index: number, mode: number) => writeFileSync(path.join(root, String(index), 'tool'), '', { mode });
  const found = async () => {
    const request = { argv: ['tool'], env: { PATH: folders.join(':') } };
    return (await decideCommand(request, any, system)).options.file;
  };
  await t.throwsAsync(found(), { code: 'command-not-found' });
  put(3, 0o644);
  put(12, 0o644);
  await t.throwsAsync(found(), { code: 'command-failed', message: 'tool: permission denied' });
  for (const index of [17, 14, 5, 4, 1, 0]) {
    put(index, 0o755);
    t.is(await found(), path.join(root, String(index), 'tool'));
  }
});

for (const [name, code, message] of [
  ['missing', 'command-not-found', 'missing: command not found'],
  ['', 'command-not-found', "'': command not found"],
  ['a\u001b[2J\n', 'command-not-found', 'a\\x1b[2J\\n: command not found'],
  ['./missing', 'command-not-found', './missing: command not found'],
  ['../usr/plain/x', 'command-not-found', '../usr/plain/x: command not found'],
  ['plain', 'command-failed', 'plain: permission denied'],
  ['folder', 'command-failed', 'folder: is a folder'],
  ['/dev/null', 'command-failed', '/dev/null: is not a regular file'],
] as const) {
  test(`not a program: ${JSON.stringify(name)}`, async (t) => {
    const decide = deciding(machine(t).system, 'any');
    t.is((await t.throwsAsync(decide(name), { code })).message, message);
  });
}

test('with a list, a listed program is allowed by path, by name, and through links of folders', async (t) => {
  const { root, system } = machine(t);
  for (const entry of [`${root}/usr/uname`, `${root}/bin/uname`]) {
    const decide = deciding(system, [entry]);
    for (const [name, called] of [
      ['uname', 'uname'],
      [`${root}/usr/uname`, entry],
      [`${root}/bin/uname`, entry],
      [`${root}/bin/../usr/folder/../uname`, entry],
    ] as const) {
      const { options } = await decide(name, '-a');
      // The list entry is run, whatever the caller called it.
      t.deepEqual([options.file, options.argv], [entry, [called, '-a']]);
    }
  }
});

test('with a list, another name of the same file is not allowed: the program acts by its name', async (t) => {
  const { root, system } = machine(t);
  symlinkSync(path.join(root, 'usr/sh'), path.join(root, 'home/uname'));
  mkdirSync(path.join(root, 'home/d'));
  symlinkSync(path.join(root, 'usr/box'), path.join(root, 'home/d/uname'));
  const decide = deciding(system, [`${root}/usr/uname`]);
  for (const name of [
    ...['sh', 'box', 'cat', './uname', 'd/uname'],
    ...['bin/sh', 'usr/box', 'home/uname', 'usr/uname/../sh', 'usr/missing'].map((name) => `${root}/${name}`),
  ]) {
    const error = await t.throwsAsync(decide(name), { code: 'command-denied' });
    t.regex(error.message, /not an allowed program/);
  }
  // Allowing the file does not allow links to it.
  await t.throwsAsync(deciding(system, [`${root}/usr/box`])('sh'), { code: 'command-denied' });
});

test('an empty list allows nothing, and a missing entry is reported', async (t) => {
  const { root, system } = machine(t);
  await t.throwsAsync(deciding(system, [])('uname'), { code: 'command-denied' });
  await t.throwsAsync(deciding(system, [`${root}/usr/gone`])(`${root}/usr/gone`), { code: 'command-not-found' });
});

test('with a list, a login shell must be listed', async (t) => {
  const { root, system } = machine(t);
  await t.throwsAsync(deciding(system, [`${root}/usr/uname`])(), { code: 'command-denied' });
  const { options } = await deciding(system, [`${root}/usr/sh`])();
  t.deepEqual([options.file, options.argv], [`${root}/usr/sh`, ['-sh']]);
});

for (const [name, value, isAllowed] of [
  ['TERM', 'xterm-256color', true],
  ['LANG', 'de_DE.UTF-8@euro', true],
  ['LC_ALL', 'C', true],
  ['TZ', ':Europe/Berlin', true],
  ['TZ', 'CET-1CEST,M3.5.0,M10.5.0/3', true],
  ['TZ', '/tmp/zone', false],
  ['TZ', ':/tmp/zone', false],
  ['LANG', '../../tmp/evil', false],
  ['LD_PRELOAD', '/tmp/evil.so', false],
  ['PATH', '/tmp', false],
  ['PAGER', 'sh', false],
  ['LC_ALL\n', 'C', false],
  ['LANGUAGE', 'de', false],
  ['XTERM', 'x', false],
  ['__proto__', 'x', false],
] as const) {
  test(`with a list, the variable ${JSON.stringify(name)}=${value} can${isAllowed ? '' : 'not'} be set`, async (t) => {
    const { root, system } = machine(t);
    const request = JSON.parse(
      `{"argv":["uname"],"env":{${JSON.stringify(name)}:${JSON.stringify(value)}}}`,
    ) as ExecRequest;
    const decided = decideCommand(request, { commands: [`${root}/usr/uname`] }, system);
    if (isAllowed) t.is((await decided).options.env[name], value);
    else t.regex((await t.throwsAsync(decided, { code: 'command-denied' })).message, /^variable .*: cannot /);
    // If any program may be run, any variable may be set.
    await t.notThrowsAsync(decideCommand({ ...request, env: { ...request.env, PATH: system.path } }, any, system));
  });
}

test('with a list, the terminal type is checked like a variable', async (t) => {
  const { root, system } = machine(t);
  const request = { argv: ['uname'], terminal: { columns: 80, rows: 24, term: '/tmp/evil' } };
  const rules = { commands: [`${root}/usr/uname`] };
  await t.throwsAsync(decideCommand(request, rules, system), { code: 'command-denied', message: /TERM/ });
  t.is((await decideCommand(request, any, system)).options.env['TERM'], '/tmp/evil');
});

test('a relative folder starts at home; a missing folder is an error unless it is the home', async (t) => {
  const { root, system } = machine(t);
  const cwdOf = async (request: Partial<ExecRequest>): Promise<string> =>
    (await decideCommand({ argv: [`${root}/bin/cat`], ...request }, any, system)).options.cwd;
  t.is(await cwdOf({}), `${root}/home`);
  t.is(await cwdOf({ cwd: '../usr' }), `${root}/home/../usr`);
  t.is(await cwdOf({ cwd: '/' }), '/');
  const refused = async (cwd: string) => (await t.throwsAsync(cwdOf({ cwd }), { code: 'command-failed' })).message;
  t.is(await refused('/missing'), 'folder /missing: does not exist');
  t.is(await refused(`${root}/usr/box`), `folder ${root}/usr/box: not a folder`);
  t.is(await refused(`${root}/usr/box/x`), `folder ${root}/usr/box/x: cannot enter it (ENOTDIR)`);
  const homeless = { ...system, uid: 0, gid: 0 };
  const { options } = await decideCommand({ argv: [`${root}/bin/cat`], user: 'other' }, any, homeless);
  t.is(options.cwd, '/');
});

test('another user needs root, and must exist', async (t) => {
  const { system } = machine(t);
  const as = (user: string, uid: number) => decideCommand({ argv: ['cat'], user }, any, { ...system, uid });
  t.is((await as('me', 1000)).options.uid, undefined);
  const denied = await t.throwsAsync(as('other', 1000), { code: 'command-denied' });
  t.is(denied.message, 'cannot run commands as other: only root can switch users');
  for (const name of ['missing', '1001', 'broken', '']) {
    const error = await t.throwsAsync(as(name, 0), { code: 'command-failed' });
    t.is(error.message, `unknown user "${name}"`);
  }
  const { options, user } = await as('me', 0);
  t.deepEqual([user, options.uid, options.gid, options.owner], ['me', 1000, 1000, { uid: 1000, gid: 1000 }]);
  const { HOME, USER, LOGNAME, SHELL } = options.env;
  t.true(HOME?.endsWith('/home'));
  t.deepEqual([USER, LOGNAME], ['me', 'me']);
  t.true(SHELL?.endsWith('/bin/sh'));
});

test('the user of this process needs no account', async (t) => {
  const { system } = machine(t);
  const { options, user } = await decideCommand({ argv: [] }, any, { ...system, uid: 4711 });
  t.is(user, '4711');
  t.deepEqual([options.file, options.argv, options.cwd], ['/bin/sh', ['-sh'], '/']);
});

test('a user in more groups gets them through setpriv of util-linux only', async (t) => {
  const { root, system } = machine(t);
  writeFileSync(path.join(root, 'setpriv'), '', { mode: 0o755 });
  symlinkSync('box', path.join(root, 'usr/setpriv'));
  const asOther = async (setprivFiles: string[], argv: string[], user = 'other') =>
    (await decideCommand({ argv, user }, any, { ...system, uid: 0, gid: 0, setprivFiles })).options;
  const [busybox, utilLinux] = [`${root}/usr/setpriv`, `${root}/setpriv`];
  const switched = await asOther([busybox, utilLinux], ['cat', '-x']);
  const options = ['setpriv', '--reuid=1001', '--regid=1001', '--init-groups', '--'];
  t.deepEqual([switched.file, switched.argv], [utilLinux, [...options, `${root}/bin/cat`, '-x']]);
  t.deepEqual([switched.uid, switched.owner], [undefined, { uid: 1001, gid: 1001 }]);
  t.deepEqual((await asOther([utilLinux], [])).argv, [...options, '/bin/sh', '-l']);
  for (const plain of [await asOther([busybox], ['cat']), await asOther([utilLinux], ['cat'], 'me')]) {
    t.is(plain.file, `${root}/bin/cat`);
    t.is(typeof plain.uid, 'number');
  }
});

asRoot('setpriv really switches the user', async (t) => {
  const root = temporaryFolder(t);
  writeFileSync(path.join(root, 'group'), 'extra:x:44:nobody\n');
  const accounts = new Accounts({ groupFile: path.join(root, 'group'), getent: null });
  const { stdout, stderr } = await new TestRunner(t, { system: { accounts } }).run({
    argv: ['sh', '-c', 'id -un; echo again > /dev/stdout; cat /proc/self/status | grep -c "NoNewPrivs:.0"'],
    user: 'nobody',
  });
  t.deepEqual([stdout, stderr], ['nobody\nagain\n1\n', '']);
});
