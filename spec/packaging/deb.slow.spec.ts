/** The Debian package, with another program instead of the executable: its contents, and the checks of Debian's own tools. */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { koffiLibrary, PROJECT_ROOT, sha256, temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

const withDpkg = testWith('dpkg');
const withLintian = testWith('dpkg', 'lintian');
const run = promisify(execFile);

/** Builds the package, and returns its path. */
async function buildPackage(t: ExecutionContext): Promise<string> {
  const script = join(PROJECT_ROOT, 'packaging/deb/build.mjs');
  const executable = join(temporaryFolder(t), 'program');
  copyFileSync('/bin/true', executable);
  copyFileSync(koffiLibrary(), `${executable}.koffi.node`);
  const args = ['--executable', executable, '--output', temporaryFolder(t), '--version', '1.2.3-4'];
  const env = { ...process.env, SOURCE_DATE_EPOCH: '1700000000' };
  return (await run(process.execPath, [script, ...args], { env })).stdout.trim();
}

withDpkg(
  'it has the program, units, rule, manual and completion, all of root; the same input gives the same package',
  async (t) => {
    t.timeout(120_000);
    const [path, again] = await Promise.all([buildPackage(t), buildPackage(t)]);
    t.regex(path, /\/vproxy_1\.2\.3-4_amd64\.deb$/);
    t.is(sha256(readFileSync(path)), sha256(readFileSync(again)));
    const list = execFileSync('dpkg-deb', ['--contents', path], { encoding: 'utf8' });
    const entries = new Map(
      list
        .trimEnd()
        .split('\n')
        .map((line) => {
          const [mode = '', owner, , , , name = ''] = line.split(/ +/);
          t.is(owner, 'root/root', line);
          return [name.replace(/^\./, ''), mode] as const;
        }),
    );
    const units = readdirSync(join(PROJECT_ROOT, 'packaging/systemd')).filter((name) =>
      /\.(service|socket)$/.test(name),
    );
    t.is(entries.get('/usr/bin/vproxy'), '-rwxr-xr-x');
    t.is(entries.get('/usr/bin/vproxy-ssh'), '-rwxr-xr-x');
    t.is(entries.get('/usr/bin/vproxy-storage'), 'lrwxrwxrwx');
    t.is(entries.get('/usr/lib/vproxy/restart-services'), '-rwxr-xr-x');
    for (const file of [
      '/usr/lib/vproxy/koffi.node',
      ...units.map((unit) => `/usr/lib/systemd/system/${unit}`),
      '/usr/lib/udev/rules.d/60-vproxy.rules',
      '/usr/lib/sysusers.d/vproxy.conf',
      '/usr/lib/tmpfiles.d/vproxy.conf',
      '/etc/ssh/ssh_config.d/30-vproxy.conf',
      '/usr/share/man/man1/vproxy.1.gz',
      '/usr/share/man/man1/vproxy-exec.1.gz',
      '/usr/share/man/man1/vproxy-ssh.1.gz',
      '/usr/share/man/man1/vproxy-storage.1.gz',
      '/usr/share/man/man5/vproxy.conf.5.gz',
      '/usr/share/man/man7/vproxy-protocol.7.gz',
      '/usr/share/bash-completion/completions/vproxy',
      '/usr/share/zsh/vendor-completions/_vproxy',
      '/usr/share/fish/vendor_completions.d/vproxy.fish',
      '/usr/share/ansible/collections/ansible_collections/vproxy/vproxy/galaxy.yml',
      '/usr/share/ansible/collections/ansible_collections/vproxy/vproxy/plugins/connection/vproxy.py',
      '/usr/share/doc/vproxy/copyright',
      '/usr/share/doc/vproxy/changelog.Debian.gz',
      '/usr/share/doc/vproxy/services.md',
      '/usr/share/doc/vproxy/commands.md',
      '/usr/share/doc/vproxy/config.schema.json',
      '/usr/share/doc/vproxy/examples/guest-exec.conf',
      '/usr/share/doc/vproxy/examples/on-a-copy',
    ])
      t.is(entries.get(file), '-rw-r--r--', file);
    for (const [name, mode] of entries) if (name.endsWith('/')) t.is(mode, 'drwxr-xr-x', name);
  },
);

withDpkg('what is said of it is right, and its scripts are ones of any shell', async (t) => {
  t.timeout(120_000);
  const folder = temporaryFolder(t);
  execFileSync('dpkg-deb', ['--control', await buildPackage(t), folder]);
  const control = readFileSync(join(folder, 'control'), 'utf8');
  t.notRegex(control, /@[A-Z]+@/);
  t.regex(control, /^Version: 1\.2\.3-4$/m);
  t.regex(control, /^Installed-Size: \d+$/m);
  for (const script of ['preinst', 'postinst', 'prerm', 'postrm']) execFileSync('sh', ['-n', join(folder, script)]);
  execFileSync('sh', ['-n', join(PROJECT_ROOT, 'packaging/systemd/restart-services')]);
  const conffiles = readFileSync(join(folder, 'conffiles'), 'utf8');
  t.is(conffiles, '/etc/ssh/ssh_config.d/30-vproxy.conf\n');
});

/** Builds the package of the Python package, and returns its path. */
async function buildPython(t: ExecutionContext): Promise<string> {
  const script = join(PROJECT_ROOT, 'packaging/deb/python/build.mjs');
  const args = [script, '--output', temporaryFolder(t), '--version', '1.2.3-4'];
  const env = { ...process.env, SOURCE_DATE_EPOCH: '1700000000' };
  return (await run(process.execPath, args, { env })).stdout.trim();
}

withDpkg('python3-vproxy has every module, and Python finds it and its version', async (t) => {
  const path = await buildPython(t);
  t.regex(path, /\/python3-vproxy_1\.2\.3-4_all\.deb$/);
  const folder = temporaryFolder(t);
  execFileSync('dpkg-deb', ['--extract', path, folder]);
  const modules = join(folder, 'usr/lib/python3/dist-packages');
  const source = join(PROJECT_ROOT, 'python/src/vproxy');
  const names = readdirSync(source).filter((name) => /\.(?:py|typed)$/.test(name));
  t.deepEqual(readdirSync(join(modules, 'vproxy')).sort(), names.sort());
  for (const name of names)
    t.is(readFileSync(join(modules, 'vproxy', name), 'utf8'), readFileSync(join(source, name), 'utf8'));
  const code = 'import importlib.metadata, vproxy.aio, vproxy.storage; print(importlib.metadata.version("vproxy"))';
  const env = { ...process.env, PYTHONPATH: modules, PYTHONDONTWRITEBYTECODE: '1' };
  const { version } = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string };
  t.is(execFileSync('/usr/bin/python3', ['-c', code], { env, encoding: 'utf8' }).trim(), version);
  t.true(readFileSync(join(PROJECT_ROOT, 'python/pyproject.toml'), 'utf8').includes(`\nversion = "${version}"\n`));
});

withLintian('lintian finds no errors, and warns of nothing', async (t) => {
  t.timeout(120_000);
  const args = ['--allow-root', '--fail-on', 'error,warning', await buildPackage(t), await buildPython(t)];
  const { status, stdout, stderr } = spawnSync('lintian', args, { encoding: 'utf8' });
  t.is(status, 0, `${stdout}${stderr}`);
  // It does not report overridden tags, each of which has a reason.
  t.notRegex(stdout, /^[EW]:/m);
});
