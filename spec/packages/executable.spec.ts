/** `npm run sea`: Node and all of vproxy in one executable, for machines without Node. */
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { koffiLibrary, PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { checkCommands, checkEverydayUse, type PackagedProgram } from '../helpers/packaged-program.js';
import { testWith } from '../helpers/test-with.js';

const EXECUTABLE = join(PROJECT_ROOT, 'dist/vproxy-linux-x64');

/** Well below the size of the embedded Node with its symbols. */
const MAX_BYTES = 120_000_000;

test.before('the executable is made', (t) => {
  t.timeout(300_000, 'it is being made');
  const { status, stderr } = spawnSync('node', ['packaging/sea.mjs'], { cwd: PROJECT_ROOT, encoding: 'utf8' });
  t.is(status, 0, stderr);
});

/** Alone, without a Node in its search path. */
const ALONE: PackagedProgram = { vproxy: [EXECUTABLE], wrapper: EXECUTABLE, env: {} };

/** The executable in a root folder with only the libraries that it names, and koffi where a package installs it. */
function inBareRoot(t: ExecutionContext, { hasKoffi = false } = {}): PackagedProgram {
  const root = temporaryFolder(t);
  const put = (file: string, target: string): void => {
    mkdirSync(join(root, dirname(target)), { recursive: true });
    copyFileSync(file, join(root, target));
  };
  put(EXECUTABLE, '/usr/bin/vproxy');
  if (hasKoffi) put(`${EXECUTABLE}.koffi.node`, '/usr/lib/vproxy/koffi.node');
  const libraries = execFileSync('ldd', [EXECUTABLE], { encoding: 'utf8' });
  for (const [path] of libraries.matchAll(/(?<=\s)\/\S+/g)) put(path, path);
  // It is only opened: vproxy keeps some descriptors in reserve.
  mkdirSync(join(root, 'dev'));
  writeFileSync(join(root, 'dev/null'), '');
  // The same path means the same folder inside and outside.
  const folder = join(temporaryFolder(t), 'shared');
  mkdirSync(join(root, folder), { recursive: true });
  symlinkSync(join(root, folder), folder);
  mkdirSync(join(root, 'proc'));
  const launcher = ['unshare', '--mount', 'sh', '-c', 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"', root];
  return {
    vproxy: ['/usr/bin/vproxy'],
    wrapper: '/usr/bin/vproxy',
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    launcher,
    folder,
  };
}

const asRoot = testWith('root');

test('it is an executable of acceptable size, with the licence of Node beside it', (t) => {
  const { size, mode } = statSync(EXECUTABLE);
  t.true(size < MAX_BYTES, `${size} bytes`);
  t.is(mode & 0o111, 0o111);
  t.regex(readFileSync(`${EXECUTABLE}.node-licence`, 'utf8'), /^Node\.js is licensed/);
});

test('run by descriptor, it is vproxy if it is a successor, otherwise the wrapper of a utility', (t) => {
  const call = (environment: string): string => {
    const script = `exec 6< ${EXECUTABLE}; ${environment} /proc/self/fd/6 --version 2>&1`;
    return execFileSync('sh', ['-c', `${script} || true`], {
      encoding: 'utf8',
      env: { VPROXY_STORAGE_SOCKET: '/none' },
    });
  };
  t.regex(call('VPROXY_HANDOVER_FD=3'), /^vproxy \d/);
  t.regex(call(''), /^vproxy-storage: /);
});

test("the README's commands, storage calls and commands for a running process work without a Node", async (t) => {
  t.timeout(120_000);
  await checkEverydayUse(t, ALONE);
});

test('every command is in it but the page, with the same output as in the built tree', async (t) => {
  t.timeout(120_000);
  await checkCommands(t, ALONE, ['web']);
});

asRoot("the README's commands work where nothing is installed but its libraries", async (t) => {
  t.timeout(120_000);
  await checkEverydayUse(t, inBareRoot(t));
});

/** The doctor's findings about koffi: none if it was loaded. */
function koffiFindings({ vproxy, env, launcher = [] }: PackagedProgram, own: Readonly<Record<string, string>> = {}) {
  const words = [...launcher, ...vproxy, 'doctor', '--json', '-c', 'unix-listen:/nowhere/x', '--allow-exec'];
  const { stdout, stderr } = spawnSync('env', words, { env: { ...env, ...own }, encoding: 'utf8' });
  const { findings } = JSON.parse(stdout || `{"findings":[{"id":${JSON.stringify(stderr)}}]}`) as {
    findings: readonly { readonly id: string }[];
  };
  return findings.map(({ id }) => id).filter((id) => /koffi/.test(id));
}

test('it contains koffi, and leaves no files behind', (t) => {
  const folder = temporaryFolder(t);
  t.deepEqual(koffiFindings(ALONE, { TMPDIR: folder }), []);
  t.deepEqual(readdirSync(folder), []);
  t.deepEqual(readFileSync(`${EXECUTABLE}.koffi.node`), readFileSync(koffiLibrary()));
});

asRoot('koffi is loaded from its place in a package where nothing can be written', (t) => {
  const nowhere = { TMPDIR: '/nowhere' };
  t.deepEqual(koffiFindings(inBareRoot(t, { hasKoffi: true }), nowhere), []);
  t.deepEqual(koffiFindings(inBareRoot(t), nowhere), ['buffer-no-koffi', 'koffi-missing']);
});

test('called by the name of a utility in the search path, it is the wrapper; vproxy storage link makes that link', (t) => {
  const folder = temporaryFolder(t);
  symlinkSync(EXECUTABLE, join(folder, 'vproxy'));
  symlinkSync('vproxy', join(folder, 'vproxy-storage'));
  const env = { PATH: folder, VPROXY_STORAGE_SOCKET: join(folder, 'nobody.sock') };
  const linked = spawnSync('vproxy', ['storage', 'link', 'storcli64', '--folder', folder], { env, encoding: 'utf8' });
  t.is(linked.stdout, `${folder}/storcli64 -> ${folder}/vproxy-storage\n`, linked.stderr);
  const { status, stderr } = spawnSync('storcli64', ['/c0', 'show'], { env, encoding: 'utf8' });
  t.is(stderr, `vproxy-storage: no vproxy answers on ${env.VPROXY_STORAGE_SOCKET} (ENOENT)\n`);
  t.is(status, 125);
});

test('no signal opens a debugger, not even before it runs', (t) => {
  const script = join(temporaryFolder(t), 'signal.cjs');
  writeFileSync(
    script,
    'process.kill(process.pid, "SIGUSR1"); for (const start = Date.now(); Date.now() < start + 300; );',
  );
  const env = { NODE_OPTIONS: `--require ${script}` };
  const { status, stderr } = spawnSync(EXECUTABLE, ['--version'], { env, encoding: 'utf8' });
  t.deepEqual([status, stderr], [0, '']);
});

test('no warnings of Node appear on stderr', (t) => {
  const { stdout, stderr } = spawnSync(EXECUTABLE, ['--version'], { env: {}, encoding: 'utf8' });
  t.is(stderr, '');
  t.regex(stdout, /^vproxy \S+ \(protocol 1, node v24\.\d+\.\d+\)\n$/);
});
