/** The files of dist/program behave as the single modules: every command, with traces that name source lines. */
import { execFile } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { checkCommands, checkEverydayUse, type PackagedProgram } from '../helpers/packaged-program.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const run = promisify(execFile);

const FOLDER = join(PROJECT_ROOT, 'dist/program');

const program: PackagedProgram = {
  vproxy: [process.execPath, join(FOLDER, 'vproxy.cjs')],
  wrapper: join(FOLDER, 'vproxy-storage.cjs'),
  env: { PATH: process.env['PATH'] ?? '' },
};

test('every command is in it, with the same output as the single modules', async (t) => {
  await checkCommands(t, program);
});

test("the README's commands, storage calls, commands at the peer and copies work with it", async (t) => {
  await checkEverydayUse(t, program);
});

test('a trace names source lines', async (t) => {
  const preload = join(temporaryFolder(t), 'preload.cjs');
  writeFileSync(
    preload,
    "const off = process.off; process.off = function (name, ...more) { if (name === 'SIGINT') throw new Error('broken'); return off.call(this, name, ...more); };",
  );
  for (const script of ['dist/program/vproxy.cjs', 'dist/cli/vproxy.js']) {
    const vproxy = spawnVproxy(t, ['-v', '-c', `unix-listen:${temporaryFolder(t)}/channel`], {
      program: [process.execPath, '--require', preload, join(PROJECT_ROOT, script)],
    });
    await vproxy.waitForLine(/waiting for the peer/);
    vproxy.kill('SIGTERM');
    t.deepEqual(await vproxy.exited, { code: 70, signal: null });
    const [, line = ''] = /\/cli\/run\/proxy-process\.ts:(\d+):\d+\)/.exec(vproxy.lines.join('\n')) ?? [];
    const source = projectText('cli/run/proxy-process.ts').split('\n')[Number(line) - 1];
    t.regex(source ?? '', /process\.off\('SIGINT'/, vproxy.lines.join('\n'));
  }
});

test('files of two versions are not mixed', async (t) => {
  const folder = temporaryFolder(t);
  cpSync(FOLDER, folder, { recursive: true });
  const path = join(folder, 'library.cjs');
  writeFileSync(path, readFileSync(path, 'utf8').replaceAll(/^"\.\/[^"]{2}/gm, '"./xx'));
  const vproxy = spawnVproxy(t, ['--version'], { program: [process.execPath, join(folder, 'vproxy.cjs')] });
  t.not((await vproxy.exited).code, 0);
  t.regex(vproxy.lines.join('\n'), /library\.cjs is from another version than \S+vproxy\.cjs/);
});

/** Runs a command with a pipe as stdout that holds little, and does not block. */
const NARROW = `import fcntl, os, sys
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 4096)
os.set_blocking(1, False)
os.execvp(sys.argv[1], sys.argv[1:])`;

test('output through a full pipe is complete; output that cannot be written is an error, and unwanted output is none', async (t) => {
  const [file, ...words] = [...program.vproxy, '--help'];
  const { stdout: help } = await run(file, words);
  t.true(help.length > 8192);
  t.is((await run('sh', ['-c', 'python3 -c "$@" | cat', 'sh', NARROW, file, ...words])).stdout, help);
  const script = '"$@" > /dev/full; echo $?; { "$@"; echo $? >&2; } | :';
  const { stdout, stderr } = await run('sh', ['-c', script, 'sh', file, ...words]);
  t.is(stdout, '74\n');
  t.is(stderr, 'vproxy: error: cannot write to standard output: no space left on device (ENOSPC)\n0\n');
});
