/** T19, T22: what the sources and the packages must not contain. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';

interface Package {
  readonly resolved?: string;
  readonly integrity?: string;
  readonly hasInstallScript?: boolean;
  readonly dev?: boolean;
  readonly optional?: boolean;
}

const readJson = (file: string): Record<string, unknown> =>
  JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;

/** The packages in docs/security.md, and what each sees of a peer; another one needs a decision (docs/decisions/). */
function documentedDependencies(): Map<string, string> {
  const text = readFileSync('docs/security.md', 'utf8');
  const section = /^### Dependencies$[^]*?(?=^##)/m.exec(text)?.[0] ?? '';
  const rows = [...section.matchAll(/^\| `([^`]+)` \|[^|]*\|([^|]*)\|$/gm)];
  return new Map(rows.map(([, name = '', sees = '']) => [name, sees.trim()]));
}

test('T19: every package is pinned by its hash, and no required one runs an install script', (t) => {
  const packages = Object.entries(readJson('package-lock.json')['packages'] as Record<string, Package>);
  t.true(packages.length > 50);
  for (const [name, { resolved, integrity, hasInstallScript = false, dev = false, optional = false }] of packages) {
    if (name === '') continue;
    if (resolved !== undefined) t.regex(resolved, /^https:\/\/registry\.npmjs\.org\//, name);
    t.regex(integrity ?? '', /^sha512-/, name);
    t.false(hasInstallScript && !dev && !optional, `${name} runs a script`);
  }
});

test('T19: the dependencies are the documented ones, and vproxy runs no install script', (t) => {
  const { dependencies, optionalDependencies, allowScripts, scripts } = readJson('package.json');
  const documented = documentedDependencies();
  const names = [...Object.keys(dependencies as object), ...Object.keys(optionalDependencies as object)];
  t.deepEqual([...documented.keys()].sort(), names.sort());
  for (const [name, sees] of documented) t.true(sees.length > 0, `what does ${name} see of a peer?`);
  t.deepEqual(Object.keys(optionalDependencies as object), ['koffi']);
  // The script of esbuild, a build dependency, would only speed up its command line.
  t.deepEqual(allowScripts, { esbuild: false, koffi: false });
  for (const name of ['preinstall', 'install', 'postinstall', 'prepare'])
    t.false(Object.hasOwn(scripts as object, name));
});

test('T19: a package that sees nothing of a peer is imported by no file that does', (t) => {
  const sources = (readdirSync('lib', { recursive: true }) as string[]).filter((name) => name.endsWith('.ts'));
  const own = [...documentedDependencies()].filter(([, sees]) => sees === 'nothing').map(([name]) => name);
  t.true(own.length > 0);
  for (const name of own) {
    const users = sources.filter((file) => readFileSync(join('lib', file), 'utf8').includes(`from '${name}'`));
    for (const file of users) t.regex(file, /^(?:settings|control|status)\//, `${file} imports ${name}`);
  }
});

test('T22: nothing is compressed, so nothing can swell: only the checksum of zlib is used', (t) => {
  const sources = (readdirSync('lib', { recursive: true }) as string[]).filter((name) => name.endsWith('.ts'));
  const imports = sources.flatMap((name) => readFileSync(join('lib', name), 'utf8').match(/^.*'node:zlib'.*$/gm) ?? []);
  t.true(imports.length > 2);
  const allowed = [
    "import { crc32 } from 'node:zlib';",
    "import type zlib from 'node:zlib';",
    "export const loadZlib = (): Pick<typeof zlib, 'crc32'> => process.getBuiltinModule('node:zlib');",
  ];
  for (const line of imports) t.true(allowed.includes(line), line);
});
