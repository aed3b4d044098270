/** The shell that becomes a program: with bash, with a shell that knows no names, and busybox's. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import type { Readable } from 'node:stream';
import test from 'ava';
import { callProgram } from '../../../lib/exec/pty/calling-shell.js';
import { loadTerminalCalls, openPseudoTerminal } from '../../../lib/exec/pty/pseudo-terminal.js';
import { testWith } from '../../helpers/test-with.js';

const SAY_ARGUMENTS = ['-e', 'console.log(JSON.stringify([process.argv0, ...process.argv.slice(1)]))', '--'];
const ARGUMENTS = ['a  b', '', "it's", '$HOME', '-x', '\\'];

/** What the program reports that it was called with. */
function call(name: string, bashFiles?: readonly string[]): unknown {
  const preparation = bashFiles === undefined ? {} : { bashFiles };
  const { file, args } = callProgram(process.execPath, [name, ...SAY_ARGUMENTS, ...ARGUMENTS], preparation);
  return JSON.parse(spawnSync(file, args, { encoding: 'utf8' }).stdout) as unknown;
}

test('bash calls a program by any name', (t) => {
  for (const name of [process.execPath, 'node', '-node', '-']) t.deepEqual(call(name), [name, ...ARGUMENTS]);
});

test('another shell calls a program by its path, with the same arguments', (t) => {
  t.deepEqual(call(process.execPath, []), [process.execPath, ...ARGUMENTS]);
  const [name, ...rest] = call('-node', []) as string[];
  t.true(['-node', process.execPath].includes(name ?? ''));
  t.deepEqual(rest, ARGUMENTS);
});

testWith('busybox')("busybox's shell calls a program by any name", (t) => {
  const { args } = callProgram(process.execPath, ['-node', ...SAY_ARGUMENTS, ...ARGUMENTS], { bashFiles: [] });
  const { stdout } = spawnSync('busybox', ['sh', ...args], { encoding: 'utf8' });
  t.deepEqual(JSON.parse(stdout), ['-node', ...ARGUMENTS]);
});

test('without bash, too, the leader of a session has the terminal that it opens', async (t) => {
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

test('a program that cannot be run says so where its terminal is', (t) => {
  const { file, args } = callProgram('/nowhere/program', ['program']);
  const { status, stdout } = spawnSync(file, args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
  t.is(status, 127);
  t.is(stdout, '');
});
