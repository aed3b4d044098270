/** How commands name their channel: one grammar for all of them. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { readExecArguments } from '../../cli/exec/exec-options.js';
import { takeLabel } from '../../cli/exec/first-word.js';
import { temporaryFolder } from '../helpers/files.js';
import { steeredPair } from '../helpers/proxies.js';

/** A process with the channel `default`, which has a session, and `vm2`, which has none. */
async function twoChannels(t: ExecutionContext) {
  const pair = await steeredPair(t, { peer: { incoming: ['web:127.0.0.1:9'], exec: { commands: 'any' } } });
  await pair.client.addChannel({ label: 'vm2', address: `unix-connect:${join(temporaryFolder(t), 'none.sock')}` });
  return pair;
}

test.serial('the label is an operand of every command about a channel, with a colon or without', async (t) => {
  const { run } = await twoChannels(t);
  for (const words of [
    ['ping', 'default', '-c', '1'],
    ['ping', 'default:', '-c', '1'],
    ['ping', '--channel', 'default', '-c', '1'],
    ['wait', 'default'],
    ['wait', 'default/web'],
    ['wait', '--service', 'default/web'],
    ['wait', 'default', '--service', 'web'],
    ['wait', 'default:', '--channel', 'default', '--service', 'default/web'],
    ['channels', 'default:'],
  ]) {
    t.like(await run(...words), { code: 0, stderr: '' }, words.join(' '));
  }
  const { stdout } = await run('services', 'default');
  t.regex(stdout, /\ndefault +web +peer/);
  t.notRegex((await run('services', 'vm2')).stdout, /web/);
  t.notRegex((await run('events', 'vm2', '--no-follow')).stdout, /default/);
  t.is((await run('forwards', 'vm2')).stdout, 'There are no forwards.\n');
  t.deepEqual(await run('channel', 'remove', 'vm2:'), { code: 0, stdout: '', stderr: '' });
});

test.serial('an unknown channel is an error at once, which lists the others', async (t) => {
  const { run } = await twoChannels(t);
  const line = 'vproxy: error: no channel "vm9"; available: default, vm2\n';
  for (const words of [
    ['wait', '--channel', 'vm9'],
    ['wait', 'vm9/web'],
    ['ping', 'vm9'],
    ['streams', 'vm9'],
    ['events', 'vm9'],
    ['channels', 'vm9'],
  ]) {
    t.deepEqual(await run(...words), { code: 69, stdout: '', stderr: line }, words.join(' '));
  }
});

test.serial('exec takes its first word for a label where a channel has that name, and no program here', async (t) => {
  const { run, client, control } = await twoChannels(t);
  for (const words of [
    'default uname',
    'default -- uname',
    '-n -T default uname',
    'default -n uname',
    'default -n -- uname',
    '--channel default uname',
  ])
    t.like(await run('exec', ...words.split(' ')), { code: 0, stdout: 'Linux\n' }, words);
  await client.addChannel({ label: 'uname', address: `unix-connect:${join(temporaryFolder(t), 'none.sock')}` });
  const { stderr } = await run('exec', '-n', 'uname', '-s');
  t.regex(stderr, /missing channel label; available: default, vm2, uname; did/);
  const taken = (...words: string[]) => takeLabel(readExecArguments(words, {}), words);
  const { path } = control;
  t.like(await taken('exec', '--socket', path, 'uname', '--', '-s'), { channel: 'uname', argv: ['-s'] });
  const expected = { channel: 'default', argv: ['sleep', '5'], hasInput: false, wantsTerminal: false, timeoutMs: 1000 };
  for (const options of ['-nT --timeout 1 --', '-nT --timeout 1'])
    t.like(await taken('exec', '--socket', path, 'default', ...options.split(' '), 'sleep', '5'), expected, options);
  const plain = await taken('exec', '--socket', path, 'uname', '-s');
  t.like(plain, { channel: undefined, argv: ['uname', '-s'] }, 'a program here');
  t.like(await taken('exec', '--socket', path, 'vm7', '-x'), { channel: undefined, argv: ['vm7', '-x'] });
  await t.throwsAsync(taken('exec', '--socket', path, 'default', '-x', 'ls'), { message: /^-x: unknown option/ });
  await Promise.all([client.removeChannel('vm2'), client.removeChannel('uname')]);
  t.like(await run('exec', '-n', 'uname'), { code: 0, stdout: 'Linux\n' });
  t.like(await run('exec', '-n', '--', 'default', 'uname'), { code: 127 });
});

test.serial('a command that the peer cannot run gets a suggestion', async (t) => {
  const { run } = await twoChannels(t);
  for (const [words, line] of [
    [['default:uname'], 'missing channel label; available: default, vm2; did you mean vproxy exec -n default: uname?'],
    [
      ['--channel', 'default', 'ls -la'],
      "ls -la: command not found; no shell reads the command: did you mean vproxy exec -n --channel default sh -c 'ls -la'?",
    ],
    [
      ['default:', 'ulimit', '-n'],
      "ulimit: command not found; no shell reads the command: did you mean vproxy exec -n default: sh -c 'ulimit -n'?",
    ],
    [
      ['default:', "echo it's"],
      `echo it's: command not found; no shell reads the command: did you mean vproxy exec -n default: sh -c "echo it's"?`,
    ],
    [
      ['default:', 'FOO=a b', 'env', '-u', 'X'],
      "FOO=a b: command not found; did you mean vproxy exec -n default: -e 'FOO=a b' env -u X?",
    ],
    [['default:', 'vm2'], 'vm2: command not found'],
    [
      ['root@default', 'uname'],
      'missing channel label; available: default, vm2; did you mean vproxy exec -n --user root default: uname?',
    ],
  ] as const)
    t.is((await run('exec', '-n', ...words)).stderr, `vproxy: error: ${line}\n`, words.join(' '));
});

test('a shell takes the first word for the label, so it needs no colon', (t) => {
  const read = (...words: string[]) => readExecArguments(['shell', ...words], {});
  t.like(read('vm1'), { channel: 'vm1', argv: [] });
  t.like(read('-T', 'vm1', '--cwd', '/'), { channel: 'vm1', cwd: '/' });
  t.like(read('vm1:', 'top', '-d', '1'), { channel: 'vm1', argv: ['top', '-d', '1'], wantsTerminal: null });
  t.like(read('--', 'vm1'), { channel: undefined, argv: ['vm1'] });
});
