/** The terminal of a caller: raw while it is in use, and restored afterwards, however that ends. */
import { execFileSync } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { openTerminal, type Terminal } from '../helpers/terminals.js';
import { testWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';

const inTmux = testWith('tmux');

const PROGRAM = `${process.execPath} ${join(PROJECT_ROOT, 'dist/spec/cli/local-terminal-program.js')}`;

interface Run {
  readonly terminal: Terminal;
  readonly pid: number;
  /** What the program printed first, after its pid. */
  readonly first: string;
  /** The first match on the screen. */
  readonly shows: (pattern: RegExp) => Promise<RegExpExecArray>;
  /** The settings of the terminal before the program and after it. */
  readonly settings: (when: 'before' | 'after') => Promise<string>;
}

/** The program in a terminal whose settings are saved to files. */
async function run(t: ExecutionContext, how: string): Promise<Run> {
  const folder = temporaryFolder(t);
  const keep = (when: string) => `stty -a >${folder}/new; mv ${folder}/new ${folder}/${when}`;
  // Unusual settings must be restored as well.
  const prepare = `stty -echoe tab3 intr ^Y; ${keep('before')}`;
  const command = `${prepare}; TERM=xterm ${PROGRAM} ${how}; echo "status $?"; ${keep('after')}; exec sleep 60`;
  const terminal = await openTerminal(t, command, {});
  const shows = (pattern: RegExp) => terminal.shows(pattern);
  const [, pid = '', first = ''] = await shows(/started (\d+) (.*)/);
  return {
    terminal,
    pid: Number(pid),
    first: first.trim(),
    shows,
    settings: (when) => eventually(() => readFileSync(join(folder, when), 'utf8')),
  };
}

/** Whether a setting such as `opost` is on in the output of stty. */
const isOn = (settings: string, name: string) => new RegExp(`(^|\\s)${name}\\b`, 'm').test(settings);

for (const [end, status] of [
  ['end', 0],
  ['throw', 1],
  ['exit', 3],
  ['SIGHUP', 129],
  ['SIGINT', 130],
  ['SIGQUIT', 131],
  ['SIGTERM', 143],
] as const) {
  inTmux(`the terminal is as before when the program is over: ${end}`, async (t) => {
    const isSignal = end.startsWith('SIG');
    const { terminal, pid, shows, settings } = await run(t, isSignal ? 'end' : end);
    if (isSignal) process.kill(pid, end);
    else await terminal.press('q');
    await shows(new RegExp(`^status ${status}`, 'm'));
    t.is(await settings('after'), await settings('before'));
    // The report of a defect is printed after the terminal is restored, with carriage returns.
    if (end === 'throw') await shows(/^Error: a defect$/m);
  });
}

inTmux('control keys are passed on, and a new size is reported', async (t) => {
  const { terminal, first, shows } = await run(t, 'end');
  t.is(first, '80x24 xterm');
  for (const key of ['C-c', 'C-z', 'C-d', 'C-\\', 'C-s', 'C-q', 'C-v', 'C-y', 'Enter']) await terminal.press(key);
  for (const code of ['03', '1a', '04', '1c', '13', '11', '16', '19', '0d']) await shows(new RegExp(`keys .*${code}`));
  await terminal.resize(100, 30);
  await shows(/size 100x30/);
});

inTmux('a stopped program restores the terminal, and takes it again when it continues', async (t) => {
  const shell = await openTerminal(t, "PS1='prompt> ' exec bash --norc --noprofile -i", { HISTFILE: '/dev/null' });
  const shows = (pattern: RegExp) => shell.shows(pattern);
  const type = (line: string) => shell.press(line, 'Enter');
  await shows(/prompt>/);
  // Bash reads lines with other settings than those for its programs.
  await type('clear; stty -a | cksum');
  const [, before = ''] = await shows(/^(\d+ \d+)$/m);
  for (const signal of ['SIGTSTP', 'SIGSTOP'] as const) {
    await type(`clear; ${PROGRAM} end`);
    const [, pid = ''] = await shows(/started (\d+)/);
    process.kill(Number(pid), signal);
    await shows(/Stopped/);
    await type('clear; fg');
    // It reports the size again once it has the terminal.
    await shows(/^size 80x24$/m);
    await shell.press('C-c');
    await shows(/keys 03/);
    await shell.press('q');
    await shows(/keys 03[^]*prompt>/);
    await type('clear; stty -a | cksum');
    t.truthy(await shows(new RegExp(`^${before}$`, 'm')), signal);
  }
});

inTmux('in raw mode bytes are shown unchanged', async (t) => {
  const { pid, settings, terminal, shows } = await run(t, 'end');
  const during = execFileSync('stty', ['-a', '-F', readlinkSync(`/proc/${pid}/fd/1`)], { encoding: 'utf8' });
  for (const name of ['-opost', '-icanon', '-echo', '-isig', '-iexten', '-icrnl', '-ixon'])
    t.true(isOn(during, name), name);
  await terminal.press('q');
  await shows(/status 0/);
  t.true(isOn(await settings('after'), 'opost'));
});

inTmux('the size is known even if the outputs are not a terminal', async (t) => {
  const folder = temporaryFolder(t);
  const out = join(folder, 'out');
  const terminal = await openTerminal(t, `stty rows 33 columns 77; ${PROGRAM} end >${out} 2>&1; exec sleep 60`, {});
  const [, size] = await eventually(() => /^started \d+ (\S+)/.exec(readFileSync(out, 'utf8')));
  t.is(size, '77x33');
  await terminal.press('q');
});
