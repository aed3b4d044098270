/**
 * The Python package (python/): its types, and its wheel, installed without a network, with each of the programs in the guest. What
 * depends on the version of Python also runs with those in $VPROXY_PYTHONS.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ERROR_CODES } from '../../lib/errors.js';
import { AS_GUEST, buildGuest } from '../guest-program/build.js';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { hasNeed } from '../helpers/needs.js';
import { processPair } from '../helpers/process-pair.js';
import { echo, localServer } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { runProgram, type SpawnOptions, VPROXY } from '../helpers/vproxy-process.js';

const PYTHON = '/usr/bin/python3';
const FOLDER = mkdtempSync(join(os.tmpdir(), 'vproxy-python-'));
const TESTS = join(PROJECT_ROOT, 'python/tests');
const WITH_WHEEL = join(FOLDER, 'venv/bin/python');
const OTHERS = (process.env['VPROXY_PYTHONS'] ?? '').split(':').filter((path) => path !== '');

buildGuest();
test.after.always(() => rmSync(FOLDER, { recursive: true, force: true }));
test.before(() => {
  if (!hasNeed('python-build')) return;
  const run = (program: string, ...words: readonly string[]) => execFileSync(program, words, { stdio: 'pipe' });
  // A build writes into its folder.
  cpSync(join(PROJECT_ROOT, 'python'), join(FOLDER, 'source'), { recursive: true });
  const offline = ['--no-index', '--no-deps', '--disable-pip-version-check'];
  const [wheels, source] = [join(FOLDER, 'wheels'), join(FOLDER, 'source')];
  run(PYTHON, '-m', 'pip', 'wheel', ...offline, '--no-build-isolation', '-w', wheels, source);
  run(PYTHON, '-m', 'venv', join(FOLDER, 'venv'));
  const { version } = JSON.parse(projectText('package.json')) as { version: string };
  const wheel = `vproxy-${version}-py3-none-any.whl`;
  run(join(FOLDER, 'venv/bin/pip'), 'install', ...offline, join(wheels, wheel));
});

/** Runs a file of python/tests, or tests of it, with a version of Python. */
async function runFile(
  t: ExecutionContext,
  [file, ...names]: readonly string[],
  env: NodeJS.ProcessEnv = {},
  python = WITH_WHEEL,
): Promise<void> {
  // Another version finds the installed modules, which are pure Python.
  const [version = ''] = readdirSync(join(FOLDER, 'venv/lib'));
  const modules = join(FOLDER, 'venv/lib', version, 'site-packages');
  const { code, stderr } = await runProgram([python, join(TESTS, `${file}.py`), ...names], {
    env: { ...process.env, ...env, ...(python !== WITH_WHEEL && { PYTHONPATH: modules }) },
    timeoutMs: 360_000,
  });
  t.is(code, 0, stderr);
}

/** Runs tests of a file against a pair of their own. */
async function runTests(
  t: ExecutionContext,
  guestOptions: SpawnOptions,
  words: readonly string[],
  python?: string,
): Promise<void> {
  t.timeout(400_000);
  const server = await localServer(t, echo);
  const egress = join(temporaryFolder(t), 'egress.sock');
  const offers = ['-i', `echo:${server.port}`, '-o', `internet:${egress}`];
  const guest = ['--allow-exec', '--allow-copy', '--info', ...offers];
  const host = ['-i', 'internet:egress:', '--egress', 'internet:allow=192.0.2.1:80'];
  const pair = await processPair(t, { control: 'host', host, guest, guestOptions });
  const vproxy = join(temporaryFolder(t), 'vproxy');
  writeFileSync(vproxy, `#!/bin/sh\nexec ${VPROXY} "$@"\n`);
  chmodSync(vproxy, 0o755);
  const pids = { HOST_PID: String(pair.host.pid), GUEST_PID: String(pair.guest.pid) };
  await runFile(t, words, { ...pair.env, ...pids, VPROXY: vproxy, EGRESS: egress }, python);
}

/** Tests that each need a pair of their own. */
const DISTURBED = {
  'a command continues in a successor': 'test_a_command_continues_in_a_successor',
  'a job is read through an upgrade': 'test_a_job_is_read_through_an_upgrade',
  'a command whose channel is lost has an error of its own': 'test_a_lost_channel',
  'a block of asyncio raises that its channel or its process is lost': 'test_a_lost_channel_of_asyncio',
  'a process that stood still answers 700 requests': 'test_a_process_that_stood_still',
};

for (const [name, guestOptions] of [
  ['vproxy', {}],
  ['vproxy-guest', AS_GUEST],
] as const) {
  const withPython = serialTestWith('python-build', 'go');
  withPython(`commands, jobs, copies, connections and asyncio, with ${name}`, (t) =>
    runTests(t, guestOptions, ['test_pair', 'Commands', 'Jobs', 'Machines', 'Asyncio']),
  );
  withPython(`files, with ${name}`, (t) => runTests(t, guestOptions, ['test_files', 'Paired', 'Asynchronous']));
  for (const python of [WITH_WHEEL, ...OTHERS]) {
    withPython(`a cancellation leaves nothing, with ${name} and ${python.replace(FOLDER, '')}`, (t) =>
      runTests(t, guestOptions, ['test_cancel'], python),
    );
  }
  for (const [title, test] of Object.entries(DISTURBED)) {
    withPython(`${title}, with ${name}`, (t) => runTests(t, guestOptions, ['test_pair', `Disturbed.${test}`]));
  }
}

for (const python of [WITH_WHEEL, ...OTHERS]) {
  const withPython = serialTestWith('python-build');
  const version = python.replace(FOLDER, '');
  withPython(`arguments are refused before anything is sent, with ${version}`, (t) => {
    const codes = Object.entries(ERROR_CODES).map(([code, { retry }]) => `${code}=${retry}`);
    return runFile(t, ['test_arguments'], { ERROR_CODES: codes.join(' ') }, python);
  });
  withPython(`a peer without room, and a process that goes, with ${version}`, (t) =>
    runFile(t, ['test_fake'], {}, python),
  );
  withPython(`files of a peer that breaks the protocol, with ${version}`, (t) =>
    runFile(t, ['test_files', 'Hostile'], {}, python),
  );
}

serialTestWith('python-build')('storage calls are answered as bytes', (t) => runFile(t, ['test_pair', 'Storage']));

serialTestWith('mypy')('its types are complete', async (t) => {
  const words = ['mypy', '--strict', '--python-version', '3.9', '--cache-dir', join(FOLDER, 'mypy')];
  const checked = [join(PROJECT_ROOT, 'python/src/vproxy'), join(PROJECT_ROOT, 'examples/sandbox.py')];
  const { code, stdout } = await runProgram([...words, ...checked], {
    timeoutMs: 120_000,
    env: { ...process.env, MYPYPATH: join(PROJECT_ROOT, 'python/src') },
  });
  t.is(code, 0, stdout);
});

test('the types of answers are those of the schemas', async (t) => {
  const script = join(PROJECT_ROOT, 'tools/generate/write-python-types.mjs');
  const { code, stderr } = await runProgram([process.execPath, script, '--check'], { timeoutMs: 60_000 });
  t.is(code, 0, stderr);
});
