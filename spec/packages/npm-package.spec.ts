/** The package `vproxy` as `npm pack` makes it, installed into an empty folder. */
import { execFile } from 'node:child_process';
import { cpSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { hasNeed } from '../helpers/needs.js';
import { checkCommands, checkEverydayUse, type PackagedProgram } from '../helpers/packaged-program.js';
import { buildRelease, copyOfSources, RELEASE, RELEASE_NEEDS, runRelease, VERSION } from './release.js';

const MAX_INSTALLED_BYTES = 17_000_000;

const ENVIRONMENT = { ...process.env, npm_config_prefer_offline: 'true', npm_config_update_notifier: 'false' };

/** Runs a program to its end, and returns its output; an error contains its messages. */
async function run(cwd: string, file: string, ...args: string[]): Promise<string> {
  try {
    return (await promisify(execFile)(file, args, { cwd, env: ENVIRONMENT })).stdout;
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${file} ${args.join(' ')}\n${stdout}${stderr}`, { cause: error });
  }
}

function readJson(path: string): Record<string, unknown> {
  return JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
}

/** Files below a folder, as paths relative to it. Links are not followed. */
function listFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) =>
    lstatSync(join(folder, path)).isFile(),
  );
}

/** One test for everything: installing it for each would take longer than all the rest. */
test('npm pack of an unbuilt tree, and npm install --ignore-scripts of the package', async (t) => {
  t.timeout(300_000);
  const clone = copyOfSources(t);
  // The output of npm and of the build comes before it.
  // The command of examples/README.md, with a folder of the test's own. The output of npm and of the build comes first.
  const [, command = ''] = /^(npm pack --pack-destination )\/tmp$/m.exec(projectText('examples/README.md')) ?? [];
  t.not(command, '');
  await run(clone, 'sh', '-c', `${command} .`);
  const name = `vproxy-${VERSION}.tgz`;
  const root = temporaryFolder(t);
  const started = performance.now();
  await run(root, 'npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund', join(clone, name));
  t.log(`npm install took ${Math.round(performance.now() - started)} ms`);
  const folder = join(root, 'node_modules/vproxy');

  const prefix = temporaryFolder(t);
  await run(
    root,
    'npm',
    'install',
    '--global',
    '--prefix',
    prefix,
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    join(clone, name),
  );
  for (const page of ['man1/vproxy.1', 'man1/vproxy-storage.1', 'man5/vproxy.conf.5', 'man7/vproxy-protocol.7']) {
    t.regex(readFileSync(join(prefix, 'share/man', page), 'utf8'), /^\.TH "VPROXY/m, page);
  }

  const bytes = listFiles(root).reduce((sum, path) => sum + lstatSync(join(root, path)).size, 0);
  t.log(`${bytes} bytes are installed, ${listFiles(folder).length} files of them vproxy's`);
  t.true(bytes <= MAX_INSTALLED_BYTES, `${bytes} bytes`);
  checkFiles(t, folder);
  await checkTypes(t, root);
  await checkBundles(t, root);
  await checkFreshProject(t, join(clone, name));

  const bin = join(root, 'node_modules/.bin');
  const program: PackagedProgram = {
    vproxy: [join(bin, 'vproxy')],
    wrapper: join(bin, 'vproxy-storage'),
    env: { PATH: process.env['PATH'] ?? '' },
  };
  await checkCommands(t, program);
  await checkEverydayUse(t, program);
  if (RELEASE_NEEDS.every(hasNeed)) checkSameRelease(t, clone);
});

/** Asserts that this clone gives the same release as another one, to the byte. */
function checkSameRelease(t: ExecutionContext, clone: string): void {
  buildRelease(t);
  const again = join(temporaryFolder(t), 'release');
  runRelease(clone, again);
  const [first, second] = [RELEASE, again].map((folder) =>
    readFileSync(join(folder, 'SHA256SUMS'), 'utf8').split('\n'),
  );
  t.deepEqual(second, first);
}

test('publint reports no problems', async (t) => {
  t.timeout(120_000);
  const words = await run(PROJECT_ROOT, 'npx', '--no-install', 'publint', 'run', '--strict', '--pack', 'npm');
  t.regex(words, /All good!/);
});

/** Asserts that it contains what users need, and nothing else. */
function checkFiles(t: ExecutionContext, folder: string): void {
  const files = listFiles(folder);
  for (const file of [
    'README.md',
    'LICENSE',
    'CHANGELOG.md',
    'SECURITY.md',
    'docs/cli.md',
    'dist/lib/index.d.ts',
    'dist/program/vproxy.cjs',
    'dist/program/library.js',
    'dist/program/vproxy-storage.cjs',
    'dist/program/LICENCES',
    'dist/man/vproxy.1',
    'packaging/vproxy-ssh',
    'examples/README.md',
  ]) {
    t.true(files.includes(file), file);
  }
  const odd = files.filter((file) =>
    /\.map$|^dist\/lib\/.*\.js$|^(?:dist\/)?(?:spec|tools|cli)\/|\.tsbuildinfo$|^(?!examples\/).*\.mjs$|^dist\/examples/.test(
      file,
    ),
  );
  t.deepEqual(odd, []);
}

/** Asserts that a bundler takes the library apart from the package, in both formats. */
async function checkBundles(t: ExecutionContext, root: string): Promise<void> {
  const [esbuild, source] = [join(PROJECT_ROOT, 'node_modules/.bin/esbuild'), join(root, 'bundled.js')];
  writeFileSync(
    source,
    "import { parseForwardSpec } from 'vproxy'; console.log(parseForwardSpec('outgoing', 'ssh:0'));",
  );
  for (const [format, extension] of Object.entries({ cjs: 'cjs', esm: 'mjs' })) {
    const bundle = join(temporaryFolder(t), `bundle.${extension}`);
    await run(root, esbuild, source, '--bundle', '--platform=node', `--format=${format}`, `--outfile=${bundle}`);
    t.regex(await run(root, process.execPath, bundle), /service: 'ssh'/, format);
  }
}

/** Current compiler and types, which new users get: exact versions, so that no release breaks an unchanged project. */
const NEWEST = { typescript: '7.0.2', '@types/node': '26.6.6' };

/**
 * The commands of examples/README.md in an empty folder, and the blocks of docs/programs.md beside the examples: they compile
 * with what `tsc --init` writes, and with every strict option that it only names.
 */
async function checkFreshProject(t: ExecutionContext, tarball: string): Promise<void> {
  const folder = temporaryFolder(t);
  const readme = projectText('examples/README.md');
  const [, block = ''] = /```sh\n(npm init [^`]*)```/.exec(readme) ?? [];
  const newest = Object.entries(NEWEST).map((entry) => entry.join('@'));
  const commands = block
    .replace(`npm install /tmp/vproxy-${VERSION}.tgz\n`, `npm install --no-audit --no-fund ${tarball}\n`)
    .replace(' typescript @types/node\n', ` --no-audit --no-fund ${newest.join(' ')}\n`);
  t.true(commands.includes(tarball) && commands.includes(newest.join(' ')), commands);
  const started = performance.now();
  const output = await run(folder, 'bash', '-euc', commands);
  t.log(`the commands of examples/README.md took ${Math.round(performance.now() - started)} ms`);
  t.regex(output, /^web:127\.0\.0\.1:0 answers: a page of the guest$/m);
  t.regex(await run(folder, 'node', 'embedded-session.js'), /^5 sums at once: all right$/m);

  const manual = projectText('docs/programs.md');
  const blocks = [...manual.matchAll(/```ts\n([^`]*)```/g)].map(([, text = '']) => text);
  t.true(blocks.length >= 2);
  const given = "declare const duplex: import('node:stream').Duplex;";
  for (const [index, text] of blocks.entries()) {
    writeFileSync(join(folder, `manual-${index}.ts`), text.includes('duplex') ? `${text}${given}\n` : text);
  }
  const config = readFileSync(join(folder, 'tsconfig.json'), 'utf8');
  t.regex(config, /"skipLibCheck": true/);
  // The last option is about style, and not kept here.
  const strictest = config
    .replace('"skipLibCheck": true', '"skipLibCheck": false')
    .replaceAll(/\/\/ ("no\w+": true)/g, '$1')
    .replace(/"noPropertyAccessFromIndexSignature": true,/, '');
  t.regex(strictest, /"noUnusedLocals": true/);
  writeFileSync(join(folder, 'tsconfig.json'), strictest);
  await t.notThrowsAsync(run(folder, 'npx', 'tsc', '--noEmit'), 'with every strict option');
}

/**
 * A program against the public API, and the examples, as TypeScript sees them with both module resolutions that users
 * have.
 */
async function checkTypes(t: ExecutionContext, root: string): Promise<void> {
  for (const name of ['typescript', '@types/node', 'undici-types']) {
    mkdirSync(join(root, 'node_modules/@types'), { recursive: true });
    symlinkSync(join(PROJECT_ROOT, 'node_modules', name), join(root, 'node_modules', name));
  }
  const names = [...projectText('lib/index.ts').matchAll(/export (type )?\{([^}]*)\}/g)];
  const values = names.flatMap(([, isType, list = '']) =>
    isType === undefined
      ? list
          .split(',')
          .map((one) => one.trim())
          .filter((one) => one !== '' && !one.startsWith('type '))
      : [],
  );
  t.true(values.includes('Proxy') && values.includes('connectPeer'));
  const lines = [
    `import { ${values.join(', ')} } from 'vproxy';`,
    ...values.map((value) => `export const has${value}: object = ${value};`),
    'export const label: string = new Proxy({ agent: "a 1", channels: [] }).listChannels()[0]?.label ?? "";',
  ];
  writeFileSync(join(root, 'program.ts'), lines.join('\n'));
  cpSync(join(root, 'node_modules/vproxy/examples'), join(root, 'examples'), { recursive: true });
  writeFileSync(
    join(root, 'package.json'),
    JSON.stringify({ ...readJson(join(root, 'package.json')), type: 'module' }),
  );
  for (const [module, moduleResolution] of [
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ]) {
    const compilerOptions = {
      module,
      moduleResolution,
      target: 'es2023',
      strict: true,
      noEmit: true,
      types: ['node'],
      skipLibCheck: false,
    };
    writeFileSync(
      join(root, 'tsconfig.json'),
      JSON.stringify({ compilerOptions, include: ['program.ts', 'examples'] }),
    );
    await t.notThrowsAsync(run(root, join(PROJECT_ROOT, 'node_modules/.bin/tsc'), '-p', root), moduleResolution);
  }
}
