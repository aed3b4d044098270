/** Processes started by Node, and then by posix_spawn: alike in all that a command and its caller see. */
import { spawnSync } from 'node:child_process';
import { chmodSync, closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { loadSystemPipes } from '../../lib/system/processes/pipes.js';
import { type ProcessSpec, startProcess } from '../../lib/system/processes/start-process.js';
import { temporaryFolder } from '../helpers/files.js';

/** What a process writes, and how it ends. */
async function run(t: ExecutionContext, script: string, spec: Partial<ProcessSpec> = {}) {
  const file = join(temporaryFolder(t), 'out');
  const out = openSync(file, 'w');
  try {
    const argv = ['sh', '-c', script];
    const { pid, ended, child } = await startProcess({ file: '/bin/sh', argv, stdio: ['ignore', out, out], ...spec });
    const end = await ended;
    return { pid, isNodes: child !== null, ...end, text: readFileSync(file, 'utf8') };
  } finally {
    closeSync(out);
  }
}

function executable(t: ExecutionContext, text: string): string {
  const file = join(temporaryFolder(t), 'program');
  writeFileSync(file, text);
  chmodSync(file, 0o755);
  return file;
}

/** The shell reads its status itself: while it starts a process, all signals are blocked. */
const LOOK =
  'while read -r line; do echo "$line"; done < /proc/$$/status > status; echo "$0 $*"; pwd; env; ls /proc/$$/fd; cat status';

const signalsOf = (text: string) => text.split('\n').filter((line) => /^Sig(Blk|Ign)/.test(line));

for (const how of ['Node', 'posix_spawn'] as const) {
  test.serial(`${how}: a process ends with a status, or by a signal`, async (t) => {
    if (how === 'posix_spawn') t.true(await loadSystemPipes());
    for (const [script, status, signal] of [
      ['exit 0', 0, null],
      ['exit 255', 255, null],
      ['kill -KILL $$', null, 'SIGKILL'],
      ['kill -ABRT $$', null, 'SIGABRT'],
    ] as const)
      t.like(await run(t, script), { status, signal, isNodes: how === 'Node' });
    if (how === 'posix_spawn') t.like(await run(t, 'kill -40 $$'), { status: null, signal: 'SIG40' });
  });

  test.serial(`${how}: it leads a session`, async (t) => {
    const session = 'read -r line < /proc/$$/stat; set -- ${line##*) }; echo $3 $4';
    const own = await run(t, session);
    t.is(own.text, `${own.pid} ${own.pid}\n`);
  });

  test.serial(`${how}: it has its words, its folder and its variables, and nothing else of this process`, async (t) => {
    const folder = temporaryFolder(t);
    const argv = ['-name', '-c', LOOK, 'zero', 'ä b', ''];
    const { text } = await run(t, '', {
      argv,
      cwd: folder,
      env: { PATH: process.env['PATH'], A: 'b=ä', NONE: undefined },
    });
    const [words, cwd, ...rest] = text.split('\n');
    t.deepEqual([words, cwd], ['zero ä b ', folder]);
    t.true(rest.includes('A=b=ä'));
    t.false(rest.some((line) => /^(HOME|NONE)=/.test(line)));
    // The program that started this one may have left others.
    t.deepEqual(
      rest.filter((line) => /^\d+$/.test(line) && Number(line) < 16),
      ['0', '1', '2'],
    );
    t.deepEqual(signalsOf(text), ['SigBlk:\t0000000000000000', 'SigIgn:\t0000000000000000']);
    t.is((await run(t, 'echo $HOME')).text, `${process.env['HOME'] ?? ''}\n`);
  });

  test.serial(`${how}: a script without #! is run by sh`, async (t) => {
    const file = executable(t, 'echo "$0 $1"\n');
    t.like(await run(t, '', { file, argv: ['x', 'one'] }), { status: 0, text: `${file} one\n` });
  });

  test.serial(`${how}: what cannot be started is an error like Node's`, async (t) => {
    const folder = temporaryFolder(t);
    const plain = join(folder, 'plain');
    writeFileSync(plain, '');
    for (const [code, spec] of [
      ['ENOENT', { file: join(folder, 'none') }],
      ['ENOENT', { cwd: join(folder, 'none') }],
      ['ENOENT', { file: executable(t, '#!/no/such/interpreter\n') }],
      ['EACCES', { file: plain }],
      ['E2BIG', { argv: ['sh', 'x'.repeat(200_000)] }],
      ['ERR_INVALID_ARG_VALUE', { argv: ['sh', 'a\0b'] }],
    ] as const)
      t.is(
        (await t.throwsAsync<NodeJS.ErrnoException>(run(t, '', spec))).code,
        code,
        JSON.stringify(spec).slice(0, 99),
      );
  });

  test.serial(`${how}: a hundred at once all end, and leave no zombie`, async (t) => {
    const ends = await Promise.all(Array.from({ length: 100 }, (_, index) => run(t, `exit ${index}`)));
    t.deepEqual(
      ends.map(({ status }) => status),
      Array.from({ length: 100 }, (_, index) => index),
    );
    const { stdout } = spawnSync('ps', ['-o', 'stat=', '--ppid', String(process.pid)], { encoding: 'utf8' });
    t.notRegex(stdout, /Z/);
  });
}

// Where posix_spawn must not be used: in each, a process of its own loads what starts processes, and reports.

const PIPES = JSON.stringify(new URL('../../lib/system/processes/pipes.js', import.meta.url));
const START = JSON.stringify(new URL('../../lib/system/processes/start-process.js', import.meta.url));

/** Prints whether Node started a process, and its status; or the code of the error. */
const REPORT = `Promise.all([import(${PIPES}), import(${START})])
  .then(async ([{ loadSystemPipes }, { startProcess }]) => {
    await loadSystemPipes();
    const stdio = ['ignore', 'ignore', 'ignore'];
    const { child, ended } = await startProcess({ file: '/bin/sh', argv: ['sh', '-c', 'exit 7'], stdio });
    console.log(child !== null, (await ended).status);
  })
  .catch(({ code }) => console.log(code));`;

/** Where {@link REPORT} may be changed: the support is loaded. */
const LOADED = 'await loadSystemPipes();';

/** A process that waits for ever is ended after this time. */
const REPORT_MS = 60_000;

/** What the process prints until it ends by itself. */
function report(words: readonly string[], script = REPORT): string {
  const options = { encoding: 'utf8', timeout: REPORT_MS } as const;
  const { stdout, status } = spawnSync(process.execPath, [...words, '-e', script], options);
  return status === 0 ? stdout : `${stdout}without an end`;
}

test('posix_spawn is used by the main thread; in a worker, which hears no signals, Node starts processes', (t) => {
  t.is(report([]), 'false 7\n');
  const worker = `new (require('node:worker_threads').Worker)(${JSON.stringify(REPORT)}, { eval: true })`;
  t.is(report([], worker), 'true 7\n');
});

test('an end is noticed although the program removed the listeners of SIGCHLD', (t) => {
  t.is(report([], REPORT.replace(LOADED, "$& process.removeAllListeners('SIGCHLD');")), 'false 7\n');
});

test('SIGCHLD tells of an end before a timer does', (t) => {
  const noTimers = `const timers = require('node:timers');
    const { setInterval } = timers;
    timers.setInterval = () => setInterval(() => {}, ${2 * REPORT_MS});
    require('node:module').syncBuiltinESMExports();`;
  t.is(report([], `${noTimers} ${REPORT}`), 'false 7\n');
});

test('signals that this process blocks are not blocked in those that it starts', (t) => {
  const blocked = `$& const set = Buffer.alloc(128); set[1] = 2;
    const block = require('koffi').load(null).func('int pthread_sigmask(int how, const void *set, void *old)');
    if (block(0, set, null) !== 0) throw new Error('not blocked');`;
  const look = 'while read -r name set; do test $name != SigBlk: || exit $((0x$set ? 1 : 7)); done < /proc/$$/status';
  // A function: the shell's $$ is no pattern.
  t.is(
    report(
      [],
      REPORT.replace(LOADED, blocked).replace('exit 7', () => look),
    ),
    'false 7\n',
  );
});

const HAS_PERMISSIONS = Number(process.versions.node.split('.')[0]) >= 24;

(HAS_PERMISSIONS ? test : test.skip)('a process that Node’s permissions do not allow is not started', (t) => {
  const may = ['--permission', '--allow-fs-read=*', '--allow-addons'];
  t.is(report(may), 'ERR_ACCESS_DENIED\n');
  const mayStart = [...may, '--allow-child-process'];
  t.is(report(mayStart), 'false 7\n');
  const told = "$& process.permission.drop?.('child'); console.log(process.permission.has('child'));";
  const dropped = report(mayStart, REPORT.replace(LOADED, told));
  t.true(['true\nfalse 7\n', 'false\nERR_ACCESS_DENIED\n'].includes(dropped), dropped);
});
