/** `vproxy exec -t` and `vproxy shell`, as a user at a terminal sees them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execPair, type ProcessPair } from '../helpers/process-pair.js';
import { openTerminal, type Terminal } from '../helpers/terminals.js';
import { serialTestWith } from '../helpers/test-with.js';

const withTmux = serialTestWith('tmux');

interface Person {
  readonly pair: ProcessPair;
  readonly terminal: Terminal;
  /** Types a line. */
  readonly type: (line: string) => Promise<void>;
  /** Waits until the screen matches. */
  readonly sees: (pattern: RegExp) => Promise<RegExpExecArray>;
}

/** The settings of the terminal without its size. */
const SETTINGS = "stty -a | sed 's/rows [0-9]*; columns [0-9]*; //'";

/** A user at a local shell, who has recorded the settings of the terminal. */
async function sitDown(t: ExecutionContext): Promise<Person> {
  const pair = await execPair(t);
  const env = { ...pair.env, HOME: pair.folder, INPUTRC: '/dev/null', HISTFILE: '' };
  const terminal = await openTerminal(t, 'exec bash --norc --noediting', env);
  const type = (line: string) => terminal.press(line, 'Enter');
  const sees = (pattern: RegExp) => terminal.shows(pattern);
  await sees(/[#$]$/m);
  await type(`${SETTINGS} > "$WORK/before"; echo noted`);
  await sees(/^noted$/m);
  return { pair, terminal, type, sees };
}

/** Whether the terminal has the recorded settings. */
async function isRestored({ pair: { folder }, type, sees }: Person): Promise<boolean> {
  await type(`${SETTINGS} > "$WORK/after"; echo looked`);
  await sees(/^looked$/m);
  return readFileSync(join(folder, 'before'), 'utf8') === readFileSync(join(folder, 'after'), 'utf8');
}

withTmux('a shell has the size of the terminal, its changes, and every key', async (t) => {
  const person = await sitDown(t);
  const { type, sees, terminal } = person;
  await type('$VPROXY shell; echo "ended $?"');
  await sees(/[#$]$/m);
  await type(`PS1='there> '`);
  await sees(/^there>$/m);
  await type('stty size; tty');
  await sees(/^24 80$/m);
  await sees(/^\/dev\/pts\/\d+$/m);
  await terminal.resize(100, 30);
  await type('clear; while ! [ "$(stty size)" = "30 100" ]; do sleep 0.05; done; echo re""sized');
  await sees(/^resized$/m);
  // Printed by the command itself: before it runs, keys go to the shell, which reads lines with settings of its own.
  await type(`sh -c 'echo sleep""ing; exec sleep 1000'; echo "status $?"`);
  await sees(/^sleeping$/m);
  await terminal.press('C-c');
  await type('echo "interrupted $?"');
  await sees(/^interrupted 130$/m);
  await type(`sh -c 'echo catt""ing; exec cat'; echo "cat $?"`);
  await sees(/^catting$/m);
  await type('echoed');
  await sees(/^echoed\nechoed$/m);
  await terminal.press('C-d');
  await sees(/^cat 0$/m);
  await type('exit 5');
  await sees(/^ended 5$/m);
  t.true(await isRestored(person));
});

withTmux('with a command there are pipes, unless -t is given; Ctrl-C ends it, too', async (t) => {
  const person = await sitDown(t);
  const { type, sees, terminal } = person;
  // Keys typed before a command has ended are its input.
  await type(`$VPROXY exec sh -c 'test -t 0 || test -t 1 || exit 4'; echo "pipes $?"`);
  await sees(/^pipes 4$/m);
  await type(`$VPROXY exec -t sh -c 'test -t 0 && test -t 1 && echo "tty $TERM"; exit 3'; echo "ended $?"`);
  await sees(/^tty (screen|tmux)/m);
  await sees(/^ended 3$/m);
  await type('$VPROXY exec wc -c; echo "counted $?"');
  await type('four');
  await terminal.press('C-d');
  await sees(/^5$/m);
  await sees(/^counted 0$/m);
  await type(`$VPROXY exec sh -c 'echo run""ning; sleep 1000'; echo "ended $?"`);
  await sees(/^running$/m);
  await terminal.press('C-c');
  await sees(/^(\^C)?ended 130$/m);
  t.true(await isRestored(person));
});

for (const [what, strike] of [
  ['vproxy exec is ended', (_person: Person, pid: number) => process.kill(pid, 'SIGTERM')],
  ['the peer goes away', ({ pair }: Person) => pair.guest.kill('SIGKILL')],
  ['the vproxy here goes away', ({ pair }: Person) => pair.host.kill('SIGKILL')],
] as const) {
  withTmux(`the terminal is restored where ${what}`, async (t) => {
    const person = await sitDown(t);
    const { type, sees, pair } = person;
    await type(
      `$VPROXY exec -t sh -c 'echo $PPID; echo re""ady; sleep 1000' & echo $! > "$WORK/pid"; fg; echo "ended $?"`,
    );
    await sees(/^ready/m);
    strike(person, Number(readFileSync(join(pair.folder, 'pid'), 'utf8')));
    await sees(/^ended (125|143)$/m);
    t.true(await isRestored(person));
  });
}

withTmux('Enter ~ . ends a call that no longer responds', async (t) => {
  const person = await sitDown(t);
  const { type, sees, terminal, pair } = person;
  await type(`$VPROXY exec -t sh -c 'echo re""ady; cat'; echo "ended $?"`);
  await sees(/^ready$/m);
  pair.guest.kill('SIGSTOP');
  t.teardown(() => pair.guest.kill('SIGCONT'));
  await terminal.press('Enter', '~', '.');
  await sees(/^ended 125$/m);
  t.true(await isRestored(person));
});

withTmux('-tt, or -t without input, is a terminal of 80 columns and 24 rows where there is none here', async (t) => {
  const { exec, start } = await execPair(t);
  for (const words of [['-t', '-n'], ['-tt']]) {
    const { code, stdout } = await exec([...words, 'stty', 'size']);
    t.deepEqual([code, stdout], [0, '24 80\r\n']);
  }
  const shell = start('-tt', '--', 'bash', '--norc');
  shell.child.stdin.end();
  t.is((await shell.ended).code, 0);
});
