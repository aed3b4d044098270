/** The shell that execs a program: bash, a shell that cannot set `argv[0]`, and busybox's. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import type { Readable } from 'node:stream';
import test from 'ava';
import { callProgram } from '../../../lib/services/exec/pty/calling-shell.js';
import { loadTerminalCalls, openPseudoTerminal } from '../../../lib/services/exec/pty/pseudo-terminal.js';
import { testWith } from '../../helpers/test-with.js';

const SAY_ARGUMENTS = ['-e', 'console.log(JSON.stringify([process.argv0, ...process.argv.slice(1)]))', '--'];
const ARGUMENTS = ['a  b', '', "it's", '$HOME', '-x', '\\'];

/** The arguments that the program reports. */
function call(name: string, bashFiles?: readonly string[]): unknown {
  const preparation = bashFiles === undefined ? {} : { bashFiles };
  const { file, args } = callProgram(process.execPath, [name, ...SAY_ARGUMENTS, ...ARGUMENTS], preparation);
  return JSON.parse(spawnSync(file, args, { encoding: 'utf8' }).stdout) as unknown;
}

test('bash sets any argv[0]', (t) => {
  for (const name of [process.execPath, 'node', '-node', '-']) t.deepEqual(call(name), [name, ...ARGUMENTS]);
});

test('another shell sets argv[0] to the path, with the same arguments', (t) => {
  t.deepEqual(call(process.execPath, []), [process.execPath, ...ARGUMENTS]);
  const [name, ...rest] = call('-node', []) as string[];
  t.true(['-node', process.execPath].includes(name ?? ''));
  t.deepEqual(rest, ARGUMENTS);
});

testWith('busybox')("busybox's shell sets any argv[0]", (t) => {
  const { args } = callProgram(process.execPath, ['-node', ...SAY_ARGUMENTS, ...ARGUMENTS], { bashFiles: [] });
  const { stdout } = spawnSync('busybox', ['sh', ...args], { encoding: 'utf8' });
  t.deepEqual(JSON.parse(stdout), ['-node', ...ARGUMENTS]);
});

test('without bash, too, a session leader gets the terminal that it opens', async (t) => {
  const { masterFd, slaveFd, path } = openPseudoTerminal(await loadTerminalCalls(), { columns: 80, rows: 24 });
  t.teardown(() => {
    closeSync(masterFd);
    closeSync(slaveFd);
  });
  const { file, args } = callProgram('/bin/cat', ['cat', '/proc/self/stat'], { path, bashFiles: [] });
  const child = spawn(file, args, { stdio: [slaveFd, 'pipe', 'ignore'], detached: true });
  const [stat] = (await once(child.stdout as Readable, 'data')) as [Buffer];
  const [, , group, session, terminal, foreground] = stat.toString().replace(/.*\) /, '').split(' ').map(Number);
  t.deepEqual([group, session, foreground], [child.pid, child.pid, child.pid]);
  t.not(terminal, 0);
});

test('a failed exec is reported on the terminal', (t) => {
  const { file, args } = callProgram('/nowhere/program', ['program']);
  const { status, stdout } = spawnSync(file, args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
  t.is(status, 127);
  t.is(stdout, '');
});
