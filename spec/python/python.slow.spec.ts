/** The Python package (python/): its types, and its wheel, installed without a network, with each of the programs in the guest. */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { AS_GUEST, buildGuest } from '../guest-program/build.js';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { hasNeed } from '../helpers/needs.js';
import { processPair } from '../helpers/process-pair.js';
import { echo, localServer } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { runProgram, type SpawnOptions, VPROXY } from '../helpers/vproxy-process.js';

const PYTHON = '/usr/bin/python3';
const FOLDER = mkdtempSync(join(os.tmpdir(), 'vproxy-python-'));
const TESTS = join(PROJECT_ROOT, 'python/tests/test_pair.py');

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

/** Runs tests of python/tests against a pair of their own. */
async function runTests(t: ExecutionContext, guestOptions: SpawnOptions, ...names: readonly string[]): Promise<void> {
  t.timeout(400_000);
  const server = await localServer(t, echo);
  const guest = ['--allow-exec', '--allow-copy', '--info', '-i', `echo:${server.port}`];
  const host = ['-i', 'internet:egress:', '--egress', 'internet:allow=192.0.2.1:80'];
  const pair = await processPair(t, { control: 'host', host, guest, guestOptions });
  const vproxy = join(temporaryFolder(t), 'vproxy');
  writeFileSync(vproxy, `#!/bin/sh\nexec ${VPROXY} "$@"\n`);
  chmodSync(vproxy, 0o755);
  const pids = { HOST_PID: String(pair.host.pid), GUEST_PID: String(pair.guest.pid) };
  const env = { ...process.env, ...pair.env, ...pids, VPROXY: vproxy };
  const { code, stderr } = await runProgram([join(FOLDER, 'venv/bin/python'), TESTS, ...names], {
    env,
    timeoutMs: 360_000,
  });
  t.is(code, 0, stderr);
}

for (const [name, guestOptions] of [
  ['vproxy', {}],
  ['vproxy-guest', AS_GUEST],
] as const) {
  const withPython = serialTestWith('python-build', 'go');
  withPython(`commands, jobs, copies, connections and asyncio, with ${name}`, (t) =>
    runTests(t, guestOptions, 'Commands', 'Jobs', 'Machines', 'Asyncio'),
  );
  withPython(`an upgrade waits for a command, with ${name}`, (t) =>
    runTests(t, guestOptions, 'Disturbed.test_an_upgrade_waits_for_commands'),
  );
  withPython(`a job is read through an upgrade, with ${name}`, (t) =>
    runTests(t, guestOptions, 'Disturbed.test_a_job_is_read_through_an_upgrade'),
  );
  withPython(`a command whose channel is lost has an error of its own, with ${name}`, (t) =>
    runTests(t, guestOptions, 'Disturbed.test_a_lost_channel'),
  );
}

serialTestWith('python-build')('storage calls are answered as bytes', (t) => runTests(t, {}, 'Storage'));

serialTestWith('mypy')('its types are complete', async (t) => {
  const words = ['mypy', '--strict', '--python-version', '3.9', '--cache-dir', join(FOLDER, 'mypy')];
  const { code, stdout } = await runProgram([...words, join(PROJECT_ROOT, 'python/src/vproxy')], {
    timeoutMs: 120_000,
  });
  t.is(code, 0, stdout);
});

test('the types of answers are those of the schemas', async (t) => {
  const script = join(PROJECT_ROOT, 'packaging/write-python-types.mjs');
  const { code, stderr } = await runProgram([process.execPath, script, '--check'], { timeoutMs: 60_000 });
  t.is(code, 0, stderr);
});
