/** `vproxy completion`, as the shells run it. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { optionsOf } from '../../cli/command/command.js';
import { loadCommands } from '../../cli/command/table.js';
import { complete, splitLine } from '../../cli/completion/complete.js';
import { SCRIPTS } from '../../cli/completion/scripts.js';
import { valueSort } from '../../cli/completion/values.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { localServer, steeredPair } from '../helpers/proxies.js';
import { openTerminal } from '../helpers/terminals.js';
import { testWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { runVproxy, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

/** Adds a test for each installed shell. */
function inEachShell(title: string, body: (t: ExecutionContext, shell: Shell) => Promise<void> | void): void {
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    (shell === 'bash' ? test : testWith(shell))(`${shell}: ${title}`, async (t) => {
      t.timeout(240_000);
      await body(t, shell);
    });
  }
}

/** bash replaces only the text after the last colon or equals sign. */
const asOffered = (shell: Shell, word: string): string => (shell === 'bash' ? word.replace(/^.*[:=](?=.)/, '') : word);

testWith('shellcheck')('shellcheck finds nothing in the script for bash', (t) => {
  const { status, stdout } = spawnSync('shellcheck', ['--shell', 'bash', '-'], {
    encoding: 'utf8',
    input: SCRIPTS.bash,
  });
  t.is(status, 0, stdout);
});

/** Each line, and what every shell offers for it. */
const IN_SHELLS: Offers = {
  'vproxy -c unix-': ['unix-connect:', 'unix-listen:'],
  'vproxy --channel vm1=unix-l': ['vm1=unix-listen:'],
  'vproxy -c unix-connect:FOLDER/f': ['unix-connect:FOLDER/file.toml'],
  'vproxy -c vm1=unix-connect:FOLDER/f': ['vm1=unix-connect:FOLDER/file.toml'],
  'vproxy -c vm1=unix-connect:/run/x,frame=4096,tls=': [
    'vm1=unix-connect:/run/x,frame=4096,tls=cert',
    'vm1=unix-connect:/run/x,frame=4096,tls=psk',
  ],
  'vproxy -c tcp-listen:x:1,tls=cert,ca=FOLDER/f': ['tcp-listen:x:1,tls=cert,ca=FOLDER/file.toml'],
  'vproxy -i log:f': ['log:file:'],
  'vproxy --config FOLDER/f': ['FOLDER/file.toml'],
  'vproxy --config=FOLDER/f': ['--config=FOLDER/file.toml'],
  'vproxy storage link x --folder FOLDER/f': ['FOLDER/folder'],
  'vproxy copy FOLDER/fi': ['FOLDER/file.toml'],
  'vproxy --log-format ': ['json', 'text'],
  'vproxy --log-format=j': ['--log-format=json'],
  'vproxy forward add --out': ['--outgoing'],
};

inEachShell('commands, options and values are offered: kinds of channels, paths, words', async (t, shell) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'file.toml'), '');
  mkdirSync(join(folder, 'folder'));
  const put = (text: string): string => text.replace('FOLDER', folder);
  const behind = 'vproxy exec ls --t';
  const whole = ['vproxy ', 'vproxy --', 'vproxy doctor --', 'vproxy exec --'];
  const offers = await completeInShell(t, shell, [behind, ...whole, ...Object.keys(IN_SHELLS).map(put)]);
  // With summaries of words, which no shell may misinterpret.
  for (const line of whole) t.deepEqual([...new Set(offers[line])].sort(), (await offeredFor(line)).sort(), line);
  for (const [line, expected] of Object.entries(IN_SHELLS)) {
    const found = [...new Set(offers[put(line)])].map((word) => word.replace(/\/$/, '')).sort();
    // zsh names files without the folder already typed, and other shells may offer a folder that could contain a file.
    const shortened = expected.map((word) => {
      const full = asOffered(shell, put(word));
      return shell === 'zsh' ? full.replace(`${folder}/`, '') : full;
    });
    const files = found.filter((word) => line.includes('--folder') || !word.endsWith('folder'));
    t.deepEqual(files, shortened, `${shell}: ${line}`);
  }
  if (shell !== 'fish') t.deepEqual(offers[behind], [], 'no completions of vproxy after a remote command');
});

/** On a busy machine an answer may come too late to be offered. */
const LATE = { timeoutMs: 90_000, what: 'the names of the process' };

testWith('tmux')('readline inserts what bash offers', async (t) => {
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

// The requests of the shells.

/** The words offered at the end of a line. */
const offeredFor = async (line: string): Promise<string[]> =>
  (await complete(splitLine(line))).words.map(({ name }) => name);

test('the commands and options of the tables are offered', async (t) => {
  const commands = await loadCommands();
  const firsts = commands.flatMap(({ name }) => (name === '' ? [] : [name.replace(/ .*/, '')]));
  t.deepEqual(await offeredFor('vproxy '), [...new Set(firsts)]);
  for (const command of commands) {
    const line = `vproxy ${command.name}${command.name === '' ? '' : ' '}-`;
    const spellings = optionsOf(command).flatMap((option) => option.spellings);
    t.deepEqual(await offeredFor(line), spellings, line);
    const [first = '', second] = command.name.split(' ');
    if (second !== undefined) t.true((await offeredFor(`vproxy ${first} `)).includes(second), command.name);
  }
});

const KINDS = [...CHANNEL_KINDS.keys()];
const TARGETS = ['127.0.0.1', 'unix', 'vsock-mux', 'file', 'exec', 'egress', 'origin', 'udp', 'unixgram', 'resolver'];

const OFFERED: Offers = {
  'vproxy -c ': KINDS.map((kind) => `${kind}:`),
  'vproxy --channel=vm1=': KINDS.map((kind) => `--channel=vm1=${kind}:`),
  // After a comma: the options of the kind, each once.
  'vproxy -c unix-connect:/x,frame=4096,fr': [],
  'vproxy -c unix-connect:/x,,fr': [],
  'vproxy -c unix-connect:/x,,y,fr': ['unix-connect:/x,,y,frame='],
  'vproxy -c tty-open:/dev/x,ba': ['tty-open:/dev/x,baud='],
  'vproxy -c tty-open:/dev/x,ca': [],
  'vproxy -i x:file:/l,rotate=1M,': ['x:file:/l,rotate=1M,keep='],
  'vproxy -o x:unix:/l,mode=0660,user=a,': ['x:unix:/l,mode=0660,user=a,group='],
  'vproxy -i x:unix:/l,': [],
  // The labels of the line, and kinds for the direction.
  'vproxy -c a=stdio: -c b=fd:3 -o ': ['a/', 'b/'],
  'vproxy -c stdio: -o ': [],
  'vproxy -o x:': ['x:127.0.0.1:', 'x:unix:', 'x:udp:', 'x:unixgram:', 'x:redirect:'],
  'vproxy -i a/x:': TARGETS.map((kind) => `a/x:${kind}:`),
  "vproxy -o '*:v": ['*:vsock-mux:'],
  // Without a hyphen if nothing else can follow, and none that excludes a given one.
  'vproxy stop ': ['--socket', '--name', '-h', '--help'],
  'vproxy stop --socket /x ': ['-h', '--help'],
  'vproxy exec -t --no-t': [],
  'vproxy forward add -o x:1 --inc': [],
  'vproxy exec -nT --no-': [],
  // A non-repeatable option only once, and nothing after `--`.
  'vproxy --config f --conf': [],
  'vproxy --key f --ke': ['--key'],
  'vproxy status -- --js': [],
  'vproxy forward remove-': [],
  'vproxy libvirt-xml --name ': [],
  'vproxy channel add vm1=unix-l': ['vm1=unix-listen:'],
  'vproxy log-level ': ['error', 'warn', 'info', 'debug'],
  'vproxy completion ': ['bash', 'zsh', 'fish'],
  'vproxy help log-level ': [],
  'vproxy ping -c 3 --int': ['--interval'],
  'vproxy ping --unknown --int': ['--interval'],
  'vproxy forward unknown a': [],
  'vproxy exec -t --time': ['--timeout'],
};

test('only possible words are offered', async (t) => {
  for (const [line, words] of Object.entries(OFFERED)) t.deepEqual(await offeredFor(line), words, line);
});

test('offered words begin with the typed text, and paths complete a part of it', async (t) => {
  t.like(await complete(splitLine('vproxy --log-format=j')), { adds: '', before: '', typed: '--log-format=j' });
  for (const [line, before] of [
    ['vproxy --config=/x', '--config='],
    ['vproxy -o web:/x', 'web:'],
    ['vproxy --once --key /x', ''],
    ['vproxy check /x', ''],
    ['vproxy exec ls /x', ''],
  ] as const) {
    t.deepEqual(await complete(splitLine(line)), { adds: 'files', before, typed: '/x', words: [] }, line);
  }
});

test('a line of bash is split into words without their quotes', (t) => {
  t.deepEqual(splitLine('vproxy '), ['vproxy', '']);
  t.deepEqual(splitLine('  vproxy  -c a=unix-co'), ['vproxy', '-c', 'a=unix-co']);
  t.deepEqual(splitLine(String.raw`vproxy check "a b"'c d'\ e "x\"y`), ['vproxy', 'check', 'a bc d e', 'x"y']);
  t.deepEqual(splitLine(''), []);
});

test('the placeholder of a value decides its completions', (t) => {
  const sorts = ['FILE', 'SRC', 'LABEL', 'LABEL:', 'CHANNEL/ID', 'SECONDS', 'text|json', 'PORT|PATH'];
  const kinds = sorts.map((called) => valueSort(called));
  t.deepEqual(kinds, ['file', 'copy', 'channels', 'remote', 'streams', 'none', 'words', 'file']);
});

/** The answer to a shell for a line. */
const answerFor = async (line: string, env: Readonly<Record<string, string>> = {}): Promise<string> =>
  (await runVproxy(['__complete', '--line', line], { env })).stdout;

test('the answer is in lines, and empty if nothing is known', async (t) => {
  const words = await runVproxy(['__complete', 'vproxy', 'log-level', 'w']);
  t.deepEqual(words, { code: 0, stdout: '\n\nw\nwarn\t\n', stderr: '' });
  t.is(await answerFor('vproxy -c vm1=unix-connect:/run/v'), 'files\nvm1=unix-connect:\n/run/v\n');
  t.is(await answerFor('vproxy bogus x'), '\n\nx\n');
  t.like(await runVproxy(['__complete']), { code: 0, stderr: '' });
});

test('names of a running vproxy are offered where they fit, and nothing if none runs', async (t) => {
  const { env } = await steeredPair(t, {
    here: { outgoing: ['ssh:127.0.0.1:0'], egress: { internet: {}, intranet: {} } },
    peer: { incoming: ['web:127.0.0.1:9', 'db:127.0.0.1:9'] },
  });
  const expected: Offers = {
    'vproxy connect ': ['db', 'web'],
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
    'vproxy egress block inte': ['internet'],
    [`vproxy channels --socket ${env.VPROXY_SOCKET} `]: ['default'],
    'vproxy channels --socket /nonexistent/none.sock d': [],
  };
  for (const [line, names] of Object.entries(expected)) {
    const offered = async () => [...(await answerFor(line, env)).matchAll(/^(\S+)\t/gm)].map(([, name]) => name);
    const isOffered = eventually(async () => (await offered()).sort().join() === names.join(), LATE);
    await t.notThrowsAsync(isOffered, line);
  }
});

test('processes that answer are offered for --name', async (t) => {
  const [name, folder] = [`completed-${process.pid}`, temporaryFolder(t)];
  const env = { XDG_RUNTIME_DIR: folder };
  const words = ['-c', `unix-listen:${join(folder, 'c')}`, '--name', name];
  await spawnVproxy(t, words, { env, hasDefaultControl: true }).waitForLine(TAKING_CONTROL);
  await eventually(async () => (await answerFor('vproxy top --name compl', env)).includes(name), LATE);
  t.pass();
});

test('--names prints nothing, with status 0, if no process answers in time', async (t) => {
  const silent = join(temporaryFolder(t), 'silent.sock');
  await localServer(t, (socket) => void socket.resume(), { path: silent });
  for (const socket of ['/nonexistent/none.sock', silent]) {
    const named = await runVproxy(['completion', '--names', 'services', '--socket', socket]);
    t.deepEqual(named, { code: 0, stdout: '', stderr: '' }, socket);
  }
});

// Completions by the shells themselves, with the scripts of `vproxy completion`.

type Shell = 'bash' | 'zsh' | 'fish';

/** The completions of each line, as the words that would be inserted. */
type Offers = Readonly<Record<string, readonly string[]>>;

const run = promisify(execFile);
/** The script starts the program for every line. */
const TIMEOUT_MS = 230_000;

// As in readline, colons and equals signs are words of their own.
const BASH_DRIVER = `
for line in "$@"; do
  COMP_LINE=$line
  COMP_POINT=\${#line}
  mapfile -t COMP_WORDS < <(grep -oE '[:=]+|[^:= ]+' <<< "$line")
  if [[ $line == *' ' ]]; then COMP_WORDS+=(''); fi
  COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
  COMPREPLY=()
  _vproxy
  printf '== %s\\n' "$line"
  if ((\${#COMPREPLY[@]} > 0)); then printf '%s\\n' "\${COMPREPLY[@]}"; fi
done`;

const FISH_DRIVER = `
for line in $argv
    printf '== %s\\n' $line
    complete -C $line
end`;

/** Makes a shell complete each of the lines. `env` is set on top of an environment in which \`vproxy\` can be found. */
async function completeInShell(
  t: ExecutionContext,
  shell: Shell,
  lines: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Offers> {
  const folder = temporaryFolder(t);
  const script = join(folder, '_vproxy');
  writeFileSync(script, SCRIPTS[shell]);
  symlinkSync(join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), join(folder, 'vproxy'));
  const environment = {
    ...process.env,
    ...{ HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder, XDG_RUNTIME_DIR: folder },
    ...{ PATH: `${folder}:${process.env['PATH'] ?? ''}`, LC_ALL: 'C.UTF-8', TERM: 'xterm' },
    ...env,
  };
  const commands = {
    bash: ['bash', '--norc', '-c', `source ${script}${BASH_DRIVER}`, 'bash', ...lines],
    zsh: ['zsh', '-f', join(PROJECT_ROOT, 'spec/fixtures/complete-in-zsh.zsh'), folder, ...lines],
    fish: ['fish', '--no-config', '-c', `source ${script}${FISH_DRIVER}`, ...lines],
  };
  const [file = '', ...words] = commands[shell];
  const { stdout } = await run(file, words, {
    env: environment,
    cwd: folder,
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  return Object.fromEntries(
    stdout
      .split(/^== /m)
      .slice(1)
      .map((block) => {
        const [line = '', ...offers] = block.trimEnd().split('\n');
        return [
          lines.find((one) => one.trimEnd() === line.trimEnd()) ?? line,
          offers.map((one) => one.split('\t')[0] ?? ''),
        ];
      }),
  );
}
