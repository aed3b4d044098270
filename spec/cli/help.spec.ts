/** The help as users see it, and suggestions for words of other programs. */
import { join } from 'node:path';
import test from 'ava';
import type { CommandDescription } from '../../cli/command/command.js';
import { formatHelp, helpWidth } from '../../cli/command/help.js';
import { CONTROL_COMMANDS, LOCAL_COMMANDS, loadCommands, meantCommands, meantSecond } from '../../cli/command/table.js';
import { readExecArguments } from '../../cli/exec/exec-options.js';
import { textWidth } from '../../cli/ui/table.js';
import { CHANNEL_KINDS, KIND_ROWS } from '../../lib/channel/kinds.js';
import { checkCommandLine } from '../documents/check-command-line.js';
import { vproxyCallsIn } from '../documents/commands-of.js';
import { shellWords } from '../documents/shell-words.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { projectText, temporaryFolder } from '../helpers/files.js';
import { steeredPair } from '../helpers/proxies.js';
import { runInTerminal } from '../helpers/terminals.js';
import { runVproxy, VPROXY } from '../helpers/vproxy-process.js';

const ALL = { ...CONTROL_COMMANDS, ...LOCAL_COMMANDS };

test('every command has examples that the parser accepts and that fit every terminal', async (t) => {
  for (const { name, examples } of await loadCommands()) {
    t.true(examples.length > 0, name);
    for (const [line, about] of examples) {
      const calls = vproxyCallsIn(line).map(shellWords);
      t.true(calls.length > 0, line);
      for (const words of calls) await t.notThrowsAsync(checkCommandLine(words), line);
      const isNamed = calls.some((words) => name === '' || words.join(' ').startsWith(name));
      t.true(isNamed, `${line} is one of ${name}`);
      t.true(textWidth(line) <= 76 && textWidth(about) <= 76, line);
    }
  }
});

test('lines are as wide as the terminal, within bounds, and 80 columns without one', (t) => {
  t.deepEqual([null, 20, 60, 100, 300].map(helpWidth), [80, 40, 60, 100, 100]);
});

test('no line of a help is too wide, except for long examples and names', async (t) => {
  for (const width of [40, 60, 80, 100]) {
    for (const command of await loadCommands()) {
      const examples = new Set(command.examples.flatMap(([line, about]) => [`  ${line}`, `  # ${about}`]));
      const lines = formatHelp(command.name, command, width).split('\n');
      // Brackets in a usage are not broken up.
      for (const line of lines.slice(lines.indexOf(''))) {
        const isName = /^ {2,6}\S+(?: \S+)*$/.test(line);
        const isWord = !line.trim().replace(/^- /, '').includes(' ');
        if (!isName && !isWord && !examples.has(line)) t.true(textWidth(line) <= width, `${width}: ${line}`);
      }
    }
  }
});

const COMMAND: CommandDescription = {
  usage: 'try this [--count COUNT] [--path PATH | --tcp PORT] FILE',
  about: 'Is here to be shown, in more words than one line has.',
  isLocal: true,
  examples: [['vproxy try this a', 'Once']],
  options: {
    count: { short: 'c', value: 'COUNT', describe: 'How often it is done, in words that take two lines' },
    time: { value: 'SECONDS', describe: 'Time', forms: ['as a number that is rather long', 'with units'] },
    'a-name-that-is-too-long-for-its-column': { describe: 'What is said of it' },
  },
};

test('long texts wrap below their beginning', (t) => {
  const [, manual = ''] = /\n(Manual: man vproxy-try-this[^]*)$/.exec(formatHelp('try this', COMMAND, 44)) ?? [];
  t.regex(manual, /^Manual: man vproxy-try-this(?:; documents:\n\S+)?\.\n$/);
  t.is(
    formatHelp('try this', COMMAND, 44).slice(0, -manual.length),
    `Usage: vproxy try this [--count COUNT]
                       [--path PATH | --tcp PORT]
                       FILE

Is here to be shown, in more words than one
line has.

Options:
  -c, --count COUNT  How often it is done,
                     in words that take two
                     lines
      --time SECONDS
                     Time:
                     - as a number that is
                       rather long
                     - with units
      --a-name-that-is-too-long-for-its-column
                     What is said of it
  -h, --help         Show this help

SECONDS may have units: 500ms, 90s, 5m,
1h30m.

Examples:
  # Once
  vproxy try this a

`,
  );
});

test.serial('the help is as wide as the terminal', async (t) => {
  const { ended } = await runInTerminal(t, `stty cols 60; ${VPROXY} wait --help`);
  const { text } = await ended;
  const widths = text.split(/\r?\n/).map((line) => line.length);
  t.true(Math.max(...widths) > 50 && Math.max(...widths) <= 60, text);
});

test('vproxy --help begins with the usage and every command; vproxy help channels lists the kinds', async (t) => {
  const [{ code, stdout, stderr }, kinds] = await Promise.all([
    callVproxy(['--help']),
    callVproxy(['help', 'channels']),
  ]);
  t.deepEqual([code, stderr, kinds.code, kinds.stderr], [0, '', 0, '']);
  t.deepEqual([...KIND_ROWS.keys()], [...CHANNEL_KINDS.keys()]);
  for (const [kind, { form }] of KIND_ROWS) t.true(kinds.stdout.includes(`\n  ${kind}:${form} `), kind);
  const [commands = ''] = stdout.split('\nChannel:\n');
  t.true(commands.startsWith('Usage: vproxy -c CHANNEL '));
  for (const name of Object.keys(ALL)) t.regex(commands, new RegExp(`^  ${name} {2,}`, 'm'));
  t.regex(stdout, /\nExamples:\n {2}# In the VM: /);
  t.notRegex(stdout, /docs\/\w+\.md/);
});

test('--version prints program, protocol and Node, and nothing else', async (t) => {
  const { version } = JSON.parse(projectText('package.json')) as { version: string };
  const stdout = `vproxy ${version} (protocol 1, node ${process.version})\n`;
  t.deepEqual(await runVproxy(['--version']), { code: 0, stdout, stderr: '' });
});

test('vproxy alone prints the short help', async (t) => {
  const { code, stdout, stderr } = await callVproxy([]);
  t.deepEqual([code, stderr], [0, '']);
  t.regex(stdout, /^Usage: vproxy -c CHANNEL .*\n {7}vproxy COMMAND \[options\]\n/);
  t.regex(stdout, /\nCommon commands:\n[^]*\n {2}exec +Run a command on the peer\n/);
  t.regex(stdout, /vproxy\s+help\s+COMMAND/);
  t.true(stdout.split('\n').length < 30);
});

test('vproxy help COMMAND is the same as --help, and -V and version as --version', async (t) => {
  for (const [words, same] of [
    ['help', '--help'],
    ['-h', '--help'],
    ['help exec', 'exec --help'],
    ['help forward add', 'forward add --help'],
    ['help forward', 'forward --help'],
    ['-V', '--version'],
    ['version', '--version'],
  ] as const) {
    const [one, other] = await Promise.all([words, same].map((line) => callVproxy(line.split(' '))));
    t.is(one?.code, 0);
    t.deepEqual(one, other, words);
  }
});

test('a word of another program leads to an existing command', async (t) => {
  const commands = (await loadCommands()).map(({ name }) => name);
  for (const [word, ...meant] of [
    ['cp', 'copy'],
    ['ls', 'channels', 'status'],
    ['list', 'channels', 'status'],
    ['run', 'exec'],
    ['ssh', 'shell'],
    ['logs', 'events --level info'],
    ['start', '-c CHANNEL'],
    ['exce', 'exec'],
  ] as const) {
    t.deepEqual(meantCommands(word), meant, word);
    for (const name of meant) t.true(name.startsWith('-') || commands.includes(name.replace(/ --.*/, '')), name);
  }
  t.is(meantSecond('stream', 'kill'), 'stream close');
  t.is(meantSecond('channel', 'rm'), 'channel remove');
  t.is(meantSecond('egress', 'tset'), 'egress test');
  t.is(meantSecond('forward', 'x'), undefined);
});

test.serial('labels, services and forwards of a running process are suggested as well', async (t) => {
  const { run, client } = await steeredPair(t, {
    here: { outgoing: ['registry:127.0.0.1:0'] },
    peer: { incoming: ['registry:127.0.0.1:9'] },
  });
  await client.addChannel({ label: 'guest', address: `unix-connect:${join(temporaryFolder(t), 'none.sock')}` });
  const said = async (...words: string[]) => (await run(...words)).stderr.replace('vproxy: error: ', '').trimEnd();
  t.is(await said('ping', 'geust'), 'no channel "geust"; did you mean guest?');
  t.is(await said('streams', 'defualt'), 'no channel "defualt"; did you mean default?');
  const told = await said('connect', 'default/regstry');
  t.is(told, 'service regstry is not offered; the peer offers: registry; did you mean registry?');
  const none = 'no forward with the id, text or service "regitry"; did you mean registry?';
  t.is(await said('forward', 'remove', 'regitry'), none);
});

test('docker’s options of exec mean what they do there', (t) => {
  const read = (...words: string[]) => readExecArguments(['exec', 'vm1:', ...words], { HERE: 'x' });
  t.like(read('-it', '-e', 'A=1', '-eHERE', '-w', '/srv', '-u', 'alice', 'sh'), {
    wantsTerminal: true,
    hasInput: true,
    env: { A: '1', HERE: 'x' },
    cwd: '/srv',
    user: 'alice',
    argv: ['sh'],
  });
  t.is(read('--workdir', '/srv', 'sh').cwd, '/srv');
  t.throws(() => read('-in', 'sh'), { message: '-i: not allowed with -n' });
});

test('options of other programs for the default behaviour are accepted', async (t) => {
  for (const line of ['copy -r a vm1:/b', 'copy -ap --recursive a vm1:/b', 'events -f vm1', 'events --follow vm1']) {
    await t.notThrowsAsync(checkCommandLine(line.split(' ')), line);
  }
});
