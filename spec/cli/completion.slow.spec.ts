/** `vproxy completion`, as the shells run it. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { optionsOf } from '../../cli/command/command.js';
import { loadCommands } from '../../cli/command/table.js';
import { complete, splitLine } from '../../cli/completion/complete.js';
import { SCRIPTS } from '../../cli/completion/scripts.js';
import { valueSort } from '../../cli/completion/values.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { completeInShell, type Offers, type Shell } from '../helpers/complete-in-shell.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { steeredPair } from '../helpers/proxies.js';
import { openTerminal } from '../helpers/terminals.js';
import { testWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { runVproxy, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

/** A test for each shell that is installed. */
function inEachShell(title: string, body: (t: ExecutionContext, shell: Shell) => Promise<void> | void): void {
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    (shell === 'bash' ? test : testWith(shell))(`${shell}: ${title}`, async (t) => {
      t.timeout(240_000);
      await body(t, shell);
    });
  }
}

/** bash replaces only what follows the last colon or equals sign. */
const asOffered = (shell: Shell, word: string): string => (shell === 'bash' ? word.replace(/^.*[:=](?=.)/, '') : word);

inEachShell('its script is one of that shell', (t, shell) => {
  const file = join(temporaryFolder(t), 'script');
  writeFileSync(file, SCRIPTS[shell]);
  const { status, stderr } = spawnSync(shell, ['-n', file], { encoding: 'utf8' });
  t.is(status, 0, stderr);
  t.is(stderr, '');
});

testWith('shellcheck')('shellcheck finds nothing in the script for bash', (t) => {
  const { status, stdout } = spawnSync('shellcheck', ['--shell', 'bash', '-'], {
    encoding: 'utf8',
    input: SCRIPTS.bash,
  });
  t.is(status, 0, stdout);
});

/** The words that are offered at the end of a line. */
const offeredFor = async (line: string): Promise<string[]> =>
  (await complete(splitLine(line))).words.map(({ name }) => name);

test('what is offered in the place of a whole word begins with what was typed of that, and paths are for a part of it', async (t) => {
  const completed = async (line: string) => {
    const { adds, before, typed, words } = await complete(splitLine(line));
    return { adds, before, typed, names: words.map(({ name }) => name) };
  };
  const whole = { adds: '', before: '', typed: '--log-format=j', names: ['--log-format=json'] };
  t.deepEqual(await completed('vproxy --log-format=j'), whole);
  const paths = { adds: 'files', before: '--config=', typed: '/x', names: [] };
  t.deepEqual(await completed('vproxy --config=/x'), paths);
});

test('what can be completed are the commands and options of the tables', async (t) => {
  const commands = await loadCommands();
  const firsts = commands.flatMap(({ name }) => (name === '' ? [] : [name.replace(/ .*/, '')]));
  t.deepEqual(await offeredFor('vproxy '), [...new Set(firsts)]);
  for (const command of commands) {
    const line = `vproxy ${command.name}${command.name === '' ? '' : ' '}-`;
    t.deepEqual(
      await offeredFor(line),
      optionsOf(command).flatMap(({ spellings }) => spellings),
      line,
    );
    const [first = '', second] = command.name.split(' ');
    if (second !== undefined) t.true((await offeredFor(`vproxy ${first} `)).includes(second), command.name);
  }
});

inEachShell('every command is offered, and every option of each', async (t, shell) => {
  const commands = await loadCommands();
  const names = commands.map(({ name }) => name).filter((name) => name !== '');
  const lines = [
    'vproxy ',
    ...names.filter((name) => name.includes(' ')).map((name) => `vproxy ${name.replace(/ .*/, ' ')}`),
    ...commands.map(({ name }) => `vproxy ${name}${name === '' ? '' : ' '}--`),
  ];
  const offers = await completeInShell(t, shell, [...new Set(lines)]);
  for (const name of names) {
    const [first = '', second] = name.split(' ');
    t.true(offers['vproxy ']?.includes(first), name);
    if (second !== undefined) t.true(offers[`vproxy ${first} `]?.includes(second), name);
  }
  for (const command of commands) {
    const line = `vproxy ${command.name}${command.name === '' ? '' : ' '}--`;
    const long = optionsOf(command).map(({ name }) => `--${name}`);
    t.deepEqual([...new Set(offers[line])].sort(), long.sort(), line);
  }
});

/** Each line, and what is offered for it. */
const VALUES: Offers = {
  'vproxy -c unix-': ['unix-connect:', 'unix-listen:'],
  'vproxy --channel vm1=unix-l': ['vm1=unix-listen:'],
  'vproxy channel add vm1=unix-l': ['vm1=unix-listen:'],
  'vproxy -c unix-connect:FOLDER/f': ['unix-connect:FOLDER/file.toml'],
  'vproxy -c vm1=unix-connect:FOLDER/f': ['vm1=unix-connect:FOLDER/file.toml'],
  'vproxy -c unix-connect:/run/x,int': ['unix-connect:/run/x,integrity='],
  'vproxy -c vm1=unix-connect:/run/x,frame=4096,tls=': [
    'vm1=unix-connect:/run/x,frame=4096,tls=cert',
    'vm1=unix-connect:/run/x,frame=4096,tls=psk',
  ],
  'vproxy -c tcp-listen:x:1,tls=cert,ca=FOLDER/f': ['tcp-listen:x:1,tls=cert,ca=FOLDER/file.toml'],
  'vproxy -o web:FOLDER/f': ['web:FOLDER/file.toml'],
  'vproxy -o web:/run/x,m': ['web:/run/x,mode='],
  'vproxy -i log:f': ['log:file:'],
  'vproxy --config FOLDER/f': ['FOLDER/file.toml'],
  'vproxy --config=FOLDER/f': ['--config=FOLDER/file.toml'],
  'vproxy --once --key FOLDER/f': ['FOLDER/file.toml'],
  'vproxy check FOLDER/f': ['FOLDER/file.toml'],
  'vproxy storage link x --folder FOLDER/f': ['FOLDER/folder'],
  'vproxy exec ls FOLDER/fi': ['FOLDER/file.toml'],
  'vproxy copy FOLDER/fi': ['FOLDER/file.toml'],
  'vproxy --log-format ': ['json', 'text'],
  'vproxy --log-format=j': ['--log-format=json'],
  'vproxy log-level ': ['debug', 'error', 'info', 'warn'],
  'vproxy completion ': ['bash', 'fish', 'zsh'],
  'vproxy forward add --out': ['--outgoing'],
  'vproxy ping -c 3 --int': ['--interval'],
  'vproxy exec -t --time': ['--timeout'],
};

inEachShell('values are offered: kinds of channels, paths, words', async (t, shell) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'file.toml'), '');
  mkdirSync(join(folder, 'folder'));
  const put = (text: string): string => text.replace('FOLDER', folder);
  const offers = await completeInShell(t, shell, Object.keys(VALUES).map(put));
  for (const [line, expected] of Object.entries(VALUES)) {
    const found = [...new Set(offers[put(line)])].map((word) => word.replace(/\/$/, '')).sort();
    // zsh names files without the folder that is typed already, and others may offer a folder where a file could be in it.
    const shortened = expected.map((word) => {
      const full = asOffered(shell, put(word));
      return shell === 'zsh' ? full.replace(`${folder}/`, '') : full;
    });
    const files = found.filter((word) => line.includes('--folder') || !word.endsWith('folder'));
    t.deepEqual(files, shortened, `${shell}: ${line}`);
  }
});

inEachShell('behind a command of the other side nothing of vproxy is offered', async (t, shell) => {
  const offers = await completeInShell(t, shell, ['vproxy exec ls --t', 'vproxy exec --t']);
  t.deepEqual([...new Set(offers['vproxy exec --t'])].sort(), ['--timeout', '--tty']);
  if (shell !== 'fish') t.deepEqual(offers['vproxy exec ls --t'], []);
});

inEachShell('names of a vproxy that runs are offered, and nothing where none does', async (t, shell) => {
  const { env } = await steeredPair(t, {
    here: { outgoing: ['ssh:127.0.0.1:0'], egress: { internet: {}, intranet: {} } },
    peer: { incoming: ['web:127.0.0.1:9', 'db:127.0.0.1:9'] },
  });
  const socket = env['VPROXY_SOCKET'];
  const expected: Offers = {
    'vproxy connect ': ['db', 'web'],
    'vproxy connect w': ['web'],
    'vproxy wait --service ': ['db', 'web'],
    'vproxy wait default/w': ['default/web'],
    'vproxy ping d': ['default'],
    'vproxy forward add -o ': ['db:', 'web:'],
    'vproxy stop --j': [],
    'vproxy channel remove d': ['default'],
    'vproxy ping --channel ': ['default'],
    'vproxy exec de': ['default:'],
    'vproxy copy de': ['default:'],
    'vproxy forward remove ': ['f1', 'ssh'],
    'vproxy egress test int': ['internet', 'intranet'],
    [`vproxy channels --socket ${socket} `]: ['default'],
    'vproxy channels --socket /nonexistent/none.sock d': [],
  };
  let wrong = Object.keys(expected);
  // On a busy machine an answer may come too late to be offered.
  const retry = { timeoutMs: 90_000, what: 'the names of the process' };
  const done = eventually(async () => {
    const offers = await completeInShell(t, shell, wrong, env);
    wrong = wrong.filter((line) => [...new Set(offers[line])].sort().join() !== expected[line]?.join());
    return wrong.length === 0;
  }, retry);
  await t.notThrowsAsync(done, `some of: ${Object.keys(expected).join('; ')}`);
});

testWith('tmux')('readline puts what bash offers into the line', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'rc'), `PS1='$ '\n${SCRIPTS.bash}`);
  writeFileSync(join(folder, 'vm1.sock'), '');
  mkdirSync(join(folder, 'bin'));
  symlinkSync(join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), join(folder, 'bin/vproxy'));
  const path = `${join(folder, 'bin')}:${process.env['PATH'] ?? ''}`;
  const terminal = await openTerminal(t, `bash --rcfile ${join(folder, 'rc')} -i`, { TERM: 'xterm', PATH: path });
  const shows = async (line: string): Promise<void> => {
    await eventually(async () => (await terminal.screen()).join('').includes(line), { what: line });
  };
  await shows('$');
  await terminal.press('vproxy', 'Space', '-c', 'Space', 'vm1=unix-conn', 'Tab');
  await shows('$ vproxy -c vm1=unix-connect:');
  await terminal.press(`${folder}/vm`, 'Tab', '--log-f', 'Tab', 'js', 'Tab');
  await shows(`$ vproxy -c vm1=unix-connect:${folder}/vm1.sock --log-format json`);
  t.pass();
});

test('--names says nothing, with status 0, where nobody answers in time or at all', async (t) => {
  // Without a time of its own it could wait for ever: AVA's does not restart after other tests of the same file.
  t.timeout(60_000);
  const none = await runVproxy(['completion', '--names', 'channels', '--socket', '/nonexistent/none.sock']);
  t.deepEqual(none, { code: 0, stdout: '', stderr: '' });
  const silent = join(temporaryFolder(t), 'silent.sock');
  const server = createServer().listen(silent);
  t.teardown(() => server.close());
  await once(server, 'listening');
  const waitedMs = once(server, 'connection').then(async (args) => {
    const [socket] = args as [Socket];
    const startedAt = performance.now();
    await once(socket.resume(), 'close');
    return performance.now() - startedAt;
  });
  const late = await runVproxy(['completion', '--names', 'services', '--socket', silent]);
  t.deepEqual(late, { code: 0, stdout: '', stderr: '' });
  t.true((await waitedMs) < 5000);
});

test('a shell that is not known, and a sort of names, are refused', async (t) => {
  const refused = async (...words: string[]) => {
    const { code, stderr } = await runVproxy(['completion', ...words]);
    t.is(code, 64);
    return stderr;
  };
  t.is(
    await refused('tcsh'),
    'vproxy: error: completion: "tcsh" is no shell that it knows; there are: bash, zsh, fish\n',
  );
  t.is(await refused(), 'vproxy: error: completion: the shell is missing; there are: bash, zsh, fish\n');
  t.regex(
    await refused('--names', 'peers'),
    /"peers" is no sort of names; there are: channels, services, forwards, egresses, streams/,
  );
});

test('every kind of channel is offered', async (t) => {
  const kinds = [...CHANNEL_KINDS.keys()];
  t.deepEqual(
    await offeredFor('vproxy -c '),
    kinds.map((kind) => `${kind}:`),
  );
  t.deepEqual(
    await offeredFor('vproxy --channel=vm1='),
    kinds.map((kind) => `--channel=vm1=${kind}:`),
  );
});

test('options behind a comma are those of the kind, each once', async (t) => {
  const channel = await offeredFor('vproxy -c tty-open:/dev/x,');
  t.true(channel.includes('tty-open:/dev/x,baud=') && channel.includes('tty-open:/dev/x,frame='));
  t.false(channel.some((word) => word.endsWith(',ca=')));
  t.deepEqual(await offeredFor('vproxy -c unix-connect:/x,frame=4096,fr'), []);
  t.deepEqual(await offeredFor('vproxy -c unix-connect:/x,,fr'), []);
  t.deepEqual(await offeredFor('vproxy -c unix-connect:/x,,y,fr'), ['unix-connect:/x,,y,frame=']);
  t.deepEqual(await offeredFor('vproxy -i x:file:/l,rotate=1M,'), ['x:file:/l,rotate=1M,keep=']);
  t.deepEqual(await offeredFor('vproxy -o x:unix:/l,mode=0660,user=a,'), ['x:unix:/l,mode=0660,user=a,group=']);
  t.deepEqual(await offeredFor('vproxy -i x:unix:/l,'), []);
});

test('a forward is offered with the labels of the line, and with kinds for its direction', async (t) => {
  t.deepEqual(await offeredFor('vproxy -c a=stdio: -c b=fd:3 -o '), ['a/', 'b/']);
  t.deepEqual(await offeredFor('vproxy -c stdio: -o '), []);
  t.deepEqual(await offeredFor('vproxy -o x:'), ['x:127.0.0.1:', 'x:unix:', 'x:udp:', 'x:unixgram:']);
  t.deepEqual(
    await offeredFor('vproxy -i a/x:'),
    ['127.0.0.1', 'unix', 'vsock-mux', 'file', 'exec', 'egress', 'udp', 'unixgram', 'resolver'].map(
      (kind) => `a/x:${kind}:`,
    ),
  );
  t.deepEqual(await offeredFor("vproxy -o '*:v"), ['*:vsock-mux:']);
});

test('options are offered without a hyphen where nothing else can be, and none that is refused beside another', async (t) => {
  t.deepEqual(await offeredFor('vproxy stop '), ['--socket', '--name', '-h', '--help']);
  t.deepEqual(await offeredFor('vproxy stop --socket /x '), ['-h', '--help']);
  t.false((await offeredFor('vproxy exec -t --')).includes('--no-tty'));
  t.false((await offeredFor('vproxy forward add -o x:1 --')).includes('--incoming'));
});

test('the processes that answer are offered for --name', async (t) => {
  const name = `completed-${process.pid}`;
  const folder = temporaryFolder(t);
  const env = { XDG_RUNTIME_DIR: folder };
  const channel = `unix-listen:${join(folder, 'c')}`;
  const running = spawnVproxy(t, ['-c', channel, '--name', name], { env, hasDefaultControl: true });
  await running.waitForLine(TAKING_CONTROL);
  await eventually(
    async () => (await runVproxy(['__complete', 'vproxy', 'top', '--name', 'compl'], { env })).stdout.includes(name),
    { what: 'the name of the process', timeoutMs: 60_000 },
  );
  t.deepEqual(await offeredFor('vproxy libvirt-xml --name '), []);
});

test('an option that may be given once is offered once, and nothing behind --', async (t) => {
  t.deepEqual(await offeredFor('vproxy --config f --conf'), []);
  t.deepEqual(await offeredFor('vproxy --key f --ke'), ['--key']);
  t.deepEqual(await offeredFor('vproxy exec -nT --no-'), []);
  t.deepEqual(await offeredFor('vproxy status -- --js'), []);
  t.deepEqual(await offeredFor('vproxy forward remove-'), []);
});

test('a line of bash is cut into words, whose quotes are taken away', (t) => {
  t.deepEqual(splitLine('vproxy '), ['vproxy', '']);
  t.deepEqual(splitLine('  vproxy  -c a=unix-co'), ['vproxy', '-c', 'a=unix-co']);
  t.deepEqual(splitLine(String.raw`vproxy check "a b"'c d'\ e "x\"y`), ['vproxy', 'check', 'a bc d e', 'x"y']);
  t.deepEqual(splitLine(''), []);
});

test('what asks for it is answered in lines, and silently where it can say nothing', async (t) => {
  t.deepEqual(await runVproxy(['__complete', 'vproxy', 'log-level', 'w']), {
    code: 0,
    stdout: '\n\nw\nwarn\t\n',
    stderr: '',
  });
  const path = await runVproxy(['__complete', '--line', 'vproxy -c vm1=unix-connect:/run/v']);
  t.deepEqual(path, { code: 0, stdout: 'files\nvm1=unix-connect:\n/run/v\n', stderr: '' });
  t.deepEqual(await runVproxy(['__complete', 'vproxy', 'bogus', 'x']), { code: 0, stdout: '\n\nx\n', stderr: '' });
  t.like(await runVproxy(['__complete']), { code: 0, stderr: '' });
});

test('what a value is called says what can be one', (t) => {
  const sorts = ['FILE', 'SRC', 'LABEL', 'LABEL:', 'CHANNEL/ID', 'SECONDS', 'text|json', 'PORT|PATH'];
  t.deepEqual(
    sorts.map((called) => valueSort(called)),
    ['file', 'copy', 'channels', 'remote', 'streams', 'none', 'words', 'file'],
  );
});
