/** What a caller may run, where a program is found, and as which user and with which environment it is run. */
import { chmodSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type CommandDecision, decideCommand, type ExecSystem, thisSystem } from '../../lib/exec/decide-command.js';
import type { ExecRequest } from '../../lib/exec/exec-messages.js';
import { TestRunner } from '../helpers/exec-peers.js';
import { temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

const asRoot = testWith('root');

/**
 * A small machine: `usr/box` is many programs, by the name that it is called by; `bin` is a link to `usr`; `usr/plain`
 * and `usr/folder` are not programs.
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
    passwdFile: path.join(root, 'passwd'),
    groupFile: path.join(root, 'group'),
    setprivFiles: [],
    path: `${root}/missing:${root}/bin`,
  };
  return { root, system };
}

const any = { commands: 'any' } as const;

/** A decision by these rules. */
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

test('the first folder of a long PATH that has a program to run gives it, whatever cannot be run before', async (t) => {
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
  test(`what is no program is refused: ${JSON.stringify(name)}`, async (t) => {
    const decide = deciding(machine(t).system, 'any');
    t.is((await t.throwsAsync(decide(name), { code })).message, message);
  });
}

test('of a list, the program itself is allowed, by its path, its name, and through links of folders', async (t) => {
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
      // It is the entry that is run, whatever the caller called it.
      t.deepEqual([options.file, options.argv], [entry, [called, '-a']]);
    }
  }
});

test('of a list, another program that is the same file is not allowed: it looks at its name', async (t) => {
  const { root, system } = machine(t);
  symlinkSync(path.join(root, 'usr/sh'), path.join(root, 'home/uname'));
  mkdirSync(path.join(root, 'home/d'));
  symlinkSync(path.join(root, 'usr/box'), path.join(root, 'home/d/uname'));
  const decide = deciding(system, [`${root}/usr/uname`]);
  for (const name of [
    'sh',
    'box',
    'cat',
    `${root}/bin/sh`,
    `${root}/usr/box`,
    `${root}/home/uname`,
    './uname',
    'd/uname',
    `${root}/usr/uname/../sh`,
    `${root}/usr/missing`,
  ]) {
    const error = await t.throwsAsync(decide(name), { code: 'command-denied' });
    t.regex(error.message, /not an allowed program/);
  }
  // Allowing the file does not allow the names that lead to it.
  await t.throwsAsync(deciding(system, [`${root}/usr/box`])('sh'), { code: 'command-denied' });
});

test('an empty list allows nothing, and an entry that is missing is said to be', async (t) => {
  const { root, system } = machine(t);
  await t.throwsAsync(deciding(system, [])('uname'), { code: 'command-denied' });
  await t.throwsAsync(deciding(system, [`${root}/usr/gone`])(`${root}/usr/gone`), { code: 'command-not-found' });
});

test('of a list, a login shell has to be in it', async (t) => {
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
  test(`of a list, the variable ${JSON.stringify(name)}=${value} may ${isAllowed ? '' : 'not '}be set`, async (t) => {
    const { root, system } = machine(t);
    const request = JSON.parse(
      `{"argv":["uname"],"env":{${JSON.stringify(name)}:${JSON.stringify(value)}}}`,
    ) as ExecRequest;
    const decided = decideCommand(request, { commands: [`${root}/usr/uname`] }, system);
    if (isAllowed) t.is((await decided).options.env[name], value);
    else t.regex((await t.throwsAsync(decided, { code: 'command-denied' })).message, /^variable .*: cannot /);
    // Where anything may be run, anything may be set.
    await t.notThrowsAsync(decideCommand({ ...request, env: { ...request.env, PATH: system.path } }, any, system));
  });
}

test('of a list, the kind of a terminal is looked at like a variable', async (t) => {
  const { root, system } = machine(t);
  const request = { argv: ['uname'], terminal: { columns: 80, rows: 24, term: '/tmp/evil' } };
  const rules = { commands: [`${root}/usr/uname`] };
  await t.throwsAsync(decideCommand(request, rules, system), { code: 'command-denied', message: /TERM/ });
  t.is((await decideCommand(request, any, system)).options.env['TERM'], '/tmp/evil');
});

test('a folder that is not absolute begins at home; one that is missing is an error unless it is the home', async (t) => {
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

test('another user needs root, and has to be there', async (t) => {
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

test('this process’s user may be without an account', async (t) => {
  const { system } = machine(t);
  const { options, user } = await decideCommand({ argv: [] }, any, { ...system, uid: 4711, passwdFile: '/missing' });
  t.is(user, '4711');
  t.deepEqual([options.file, options.argv, options.cwd], ['/bin/sh', ['-sh'], '/']);
});

test('a user of more groups has them by setpriv of util-linux, and by no other', async (t) => {
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

asRoot('setpriv makes it the user in earnest', async (t) => {
  const root = temporaryFolder(t);
  writeFileSync(path.join(root, 'group'), 'extra:x:44:nobody\n');
  const { stdout, stderr } = await new TestRunner(t, { system: { groupFile: path.join(root, 'group') } }).run({
    argv: ['sh', '-c', 'id -un; echo again > /dev/stdout; cat /proc/self/status | grep -c "NoNewPrivs:.0"'],
    user: 'nobody',
  });
  t.deepEqual([stdout, stderr], ['nobody\nagain\n1\n', '']);
});
