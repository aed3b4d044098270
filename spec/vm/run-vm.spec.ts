/** `npm run vm`: one command in the VM, the VM until it is interrupted, and what it says if something is missing or fails. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { findProgram } from '../../tools/bench/process/find-program.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';
import { runProgram, spawnVproxy, VPROXY } from '../helpers/vproxy-process.js';

/** Under emulation, on a busy machine. */
const WAIT_MS = 180_000;

/** Starts it with a folder for temporary files, in whose path a comma separates nothing. */
function start(t: ExecutionContext, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const folder = join(temporaryFolder(t), 'a,b');
  mkdirSync(folder);
  const options = { script: 'dist/tools/vm/index.js', hasDefaultControl: true, hasOwnGroup: true };
  return { folder, vm: spawnVproxy(t, args, { ...options, env: { TMPDIR: folder, ...env } }) };
}

/** The running processes whose command lines mention a folder's parent: options have the comma twice. */
const processesIn = (folder: string): { pid: number; line: string }[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return { pid: Number(pid), line: readFileSync(`/proc/${pid}/cmdline`, 'latin1') };
      } catch {
        return { pid: 0, line: '' };
      }
    })
    .filter(({ line }) => line.includes(dirname(folder)));

function isGone(t: ExecutionContext, folder: string): void {
  t.deepEqual(processesIn(folder), []);
  t.deepEqual(readdirSync(folder), []);
}

test('a command has its output and status; --quiet prints nothing else; a script may start QEMU', async (t) => {
  const PATH = `${temporaryFolder(t)}:${process.env['PATH'] ?? ''}`;
  const script = join(PATH.split(':')[0] ?? '', 'qemu-system-x86_64');
  writeFileSync(script, `#!/bin/sh\n"${findProgram('qemu-system-x86_64') ?? ''}" "$@"\nexit $?\n`, { mode: 0o755 });
  const { folder, vm } = start(t, ['--quiet', '--', 'sh', '-c', 'uname -n; echo oh >&2; exit 3'], { PATH });
  t.deepEqual([(await vm.exited).code, vm.stdout, vm.lines], [3, 'guest\n', ['oh']]);
  isGone(t, folder);
});

test('npm passes the command, its output and its status on', async (t) => {
  const { code, stdout, stderr } = await runProgram(
    ['sh', '-c', 'npm run --silent vm -- --quiet -- uname -a && npm run --silent vm -- --quiet false'],
    { timeoutMs: WAIT_MS },
  );
  t.is(stderr, '');
  t.deepEqual([code, stdout.slice(0, 12)], [1, 'Linux guest ']);
});

test('when npm is killed, everything ends', async (t) => {
  const folder = temporaryFolder(t);
  const npm = spawn('npm', ['run', '--silent', 'vm', '--', '--quiet', 'sh', '-c', 'echo up; exec sleep 1000'], {
    cwd: PROJECT_ROOT,
    env: { ...process.env, TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => npm.kill('SIGKILL'));
  const processes = () => processesIn(join(folder, 'vproxy-try'));
  t.is(String(await once(npm.stdout, 'data')), 'up\n');
  t.not(processes().length, 0);
  npm.kill('SIGKILL');
  await eventually(() => {
    // npm keeps what Node has compiled there, too.
    const folders = readdirSync(folder).filter((name) => name.startsWith('vproxy-try-'));
    const left = [...processes().map(({ line }) => line), ...folders];
    if (left.length > 0) throw new Error(`left: ${left.join('; ')}`);
    return true;
  });
});

test('without KVM a VM stays, what it prints can be run, and an interrupt ends everything', async (t) => {
  const { folder, vm } = start(t, [], { VPROXY_VM_ACCEL: 'tcg' });
  await eventually(() => vm.stdout.includes('Ctrl-C'), { what: 'what to do', timeoutMs: WAIT_MS });
  t.true(vm.lines.some((line) => line.endsWith('without KVM')));
  const [commands = ''] = /(?:^ {2}.*\n)+/m.exec(vm.stdout) ?? [];
  const [page = '', socket = ''] = /export VPROXY_SOCKET=(.*)[^]*^ {2}vproxy web\n/m.exec(commands) ?? [];
  t.not(page, '');
  const web = spawnVproxy(t, ['web'], { env: { VPROXY_SOCKET: socket } });
  await eventually(() => web.stdout.includes('?token='), { what: 'the link of the page', timeoutMs: WAIT_MS });
  const script = commands
    .replace('vproxy shell', "echo 'echo in the shell; exit' | vproxy shell")
    .replace('  vproxy web\n', '');
  // It is the vproxy of this Node, not of that in PATH.
  const { code, stdout, stderr } = await runProgram(['sh', '-eu', '-c', script.replace(/\S+vproxy\.cjs/, VPROXY)], {
    timeoutMs: WAIT_MS,
  });
  t.is(code, 0, stderr);
  t.regex(stdout, /^Linux guest [^]*^in the shell$/m);
  t.is(processesIn(folder).length, 2);
  process.kill(-vm.pid, 'SIGINT');
  t.deepEqual(await vm.exited, { code: 0, signal: null });
  isGone(t, folder);
});

test('an interrupted command ends with 130, and a VM that ends by itself with 125', async (t) => {
  const { folder, vm } = start(t, ['sh', '-c', 'echo up; exec sleep 1000']);
  await eventually(() => vm.stdout === 'up\n', { timeoutMs: WAIT_MS });
  process.kill(-vm.pid, 'SIGINT');
  t.is((await vm.exited).code, 130);
  isGone(t, folder);
  const other = start(t, ['poweroff', '-f']);
  t.is((await other.vm.exited).code, 125);
  t.true(other.vm.lines.includes('vm: QEMU ended'));
  isGone(t, other.folder);
});

test('if vproxy ends during the boot, that is the reason', async (t) => {
  const { folder, vm } = start(t, []);
  const host = () => processesIn(folder).find(({ line }) => line.includes('--control'));
  await eventually(() => host() !== undefined, { timeoutMs: WAIT_MS });
  const { pid = 0 } = host() ?? {};
  if (pid > 0) process.kill(pid, 'SIGKILL');
  t.is((await vm.exited).code, 125);
  t.true(vm.lines.includes('vm: vproxy ended'));
  isGone(t, folder);
});

test('when nobody reads its messages any more, a closed terminal still leaves nothing', async (t) => {
  const { folder, vm } = start(t, []);
  await vm.waitForLine(/compiling/);
  vm.closeLog();
  await eventually(() => vm.stdout.includes('Ctrl-C'), { what: 'what to do', timeoutMs: WAIT_MS });
  vm.kill('SIGHUP');
  t.is((await vm.exited).code, 0);
  isGone(t, folder);
});

test('a missing kernel is named, and ends with 69', async (t) => {
  const { folder, vm } = start(t, ['--kernel', '/boot/missing']);
  t.is((await vm.exited).code, 69);
  t.regex(vm.lines.at(-1) ?? '', /missing: no such kernel$/);
  isGone(t, folder);
});

test('without QEMU it says in one line what to install, and ends with 69', async (t) => {
  const { vm } = start(t, [], { PATH: temporaryFolder(t) });
  t.is((await vm.exited).code, 69);
  t.deepEqual(vm.lines, ['vm: qemu-system-x86_64: not found; sudo apt-get install qemu-system-x86']);
});

test('without ldd it says so', async (t) => {
  const PATH = temporaryFolder(t);
  for (const name of ['qemu-system-x86_64', 'busybox', 'go'])
    writeFileSync(join(PATH, name), `#!/bin/sh\nexec ${findProgram(name) ?? ''} "$@"\n`, { mode: 0o755 });
  const { folder, vm } = start(t, [], { PATH, VPROXY_VM_ACCEL: 'tcg' });
  t.is((await vm.exited).code, 69);
  t.is(vm.lines.at(-1), 'vm: ldd: not found; sudo apt-get install libc-bin');
  isGone(t, folder);
});

test('a failure for want of space names the folders', async (t) => {
  const PATH = `${temporaryFolder(t)}:${process.env['PATH'] ?? ''}`;
  const full = '#!/bin/sh\necho "go: no space left on device" >&2\nexit 1\n';
  writeFileSync(join(PATH.split(':')[0] ?? '', 'go'), full, { mode: 0o755 });
  const { folder, vm } = start(t, [], { PATH, VPROXY_VM_ACCEL: 'tcg', VPROXY_VM_CACHE: '/tmp' });
  t.is((await vm.exited).code, 125);
  t.is(vm.lines.at(-1), `make room in /tmp and ${folder}, or set VPROXY_VM_CACHE and TMPDIR`);
  isGone(t, folder);
});

for (const [what, flood] of [
  ['one long message', 'head -c 600000000 /dev/zero | tr "\\0" x'],
  ['many messages', 'yes message | head -c 120000000'],
] as const) {
  test(`a QEMU that ends after ${what} is reported in short`, async (t) => {
    const PATH = `${temporaryFolder(t)}:${process.env['PATH'] ?? ''}`;
    const script = `#!/bin/sh\n(${flood}) >&2\necho the end >&2\nexit 1\n`;
    writeFileSync(join(PATH.split(':')[0] ?? '', 'qemu-system-x86_64'), script, { mode: 0o755 });
    const { folder, vm } = start(t, [], { PATH, VPROXY_VM_ACCEL: 'tcg', NODE_OPTIONS: '--max-old-space-size=400' });
    t.is((await vm.exited).code, 125);
    t.true(vm.lines.includes('vm: QEMU ended') && vm.lines.join('\n').length < 10_000);
    isGone(t, folder);
  });
}

test('an invalid option ends with 64', async (t) => {
  const { vm } = start(t, ['--cpu']);
  t.is((await vm.exited).code, 64);
});
