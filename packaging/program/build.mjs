// Makes dist/program: the programs and the library in a few files, which start faster than hundreds of modules and use less memory.
// Each file has a source map beside it, for traces.
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename } from 'node:path';
import { build, transform } from 'esbuild';
import { bundleSettings, FILE_URL } from '../bundle-settings.mjs';
import { formatLicences } from '../bundled-packages.mjs';
import { oldestNode, requireNode } from '../require-node.cjs';
import { writeChanged } from '../write-changed.mjs';

process.chdir(`${import.meta.dirname}/../..`);
const OUTPUT = 'dist/program';
const description = JSON.parse(readFileSync('package.json', 'utf8'));
const { version, engines, bin } = description;

/** The modules of the program, and those whose exports are the package's; the parts with them have their names. */
const SHARED = { vproxy: 'cli/vproxy.ts', library: 'lib/index.ts', peer: 'lib/peer.ts' };
const PROGRAM_PART = './vproxy.js';

/** The files that `exports` of package.json names. */
const LIBRARY_PARTS = ['library', 'peer'];

/** The module that runs a proxy: its part is marked for the loader. */
const PROXY_MODULE = 'cli/run/run-proxy.ts';

/** Standalone files, whose processes load nothing else: modules are duplicated in them. */
const SINGLE_FILES = { exec: 'cli/exec/run-exec.ts', 'vproxy-storage': 'cli/vproxy-storage.ts' };

const SHEBANG = '#!/usr/bin/env node\n';

/** The beginning of each program. */
const REQUIRE_NODE = `(${requireNode})('${oldestNode(engines)}');`;

const common = bundleSettings(description);
const settings = {
  ...common,
  define: { ...common.define, VPROXY_WEB: '"./web/"' },
  outdir: OUTPUT,
  write: false,
  sourcesContent: false,
};

// Processes that run a command at the peer load a separate file.
const withoutExec = {
  name: 'without-exec',
  setup({ onResolve }) {
    onResolve({ filter: /\/run-exec\.js$/ }, ({ kind }) =>
      kind === 'dynamic-import' ? { path: './exec.cjs', external: true } : undefined,
    );
  },
};

/** Splits the program at dynamic imports; resolves with the parts by name, and esbuild's metafile. */
async function divide() {
  const { outputFiles, metafile } = await build({
    ...settings,
    plugins: [...settings.plugins, withoutExec],
    entryPoints: SHARED,
    format: 'esm',
    splitting: true,
    chunkNames: '[hash]',
    sourcemap: 'inline',
  });
  const texts = new Map(outputFiles.map(({ path, text }) => [basename(path), text]));
  const parts = new Map();
  for (const [path, { imports, exports }] of Object.entries(metafile.outputs)) {
    const needs = imports.filter(({ external }) => external !== true).map((one) => `./${basename(one.path)}`);
    const { code, map } = await transform(texts.get(basename(path)), {
      format: 'cjs',
      target: settings.target,
      supported: { 'dynamic-import': false },
      minify: true,
      sourcemap: 'external',
      sourcesContent: false,
      sourcefile: '',
    });
    parts.set(`./${basename(path)}`, { exports, needs, code, map });
  }
  return { parts, metafile };
}

/** The parts that these may need, now or later. */
function partsBehind(starts, parts) {
  const seen = new Set(starts);
  for (const name of seen) for (const next of parts.get(name).needs) seen.add(next);
  return seen;
}

/** Makes a file of parts: its text, its map with a section for each part, and where each part is: offset, length and line. */
function join(parts, names) {
  const sections = [];
  const places = new Map();
  let text = 'module.exports={\n';
  let line = 1;
  for (const name of names) {
    const { code, map } = parts.get(name);
    // The program reads bytes, and takes each for a character.
    if (Buffer.byteLength(code) !== code.length)
      throw new Error(`${name} is not ASCII: write the others as \\u in a pattern`);
    // On the line before the code, which the map leaves out.
    const head = `${JSON.stringify(name)}:function(exports,require,module){'use strict';`;
    const url = code.includes('importMetaUrl') ? FILE_URL : '';
    // Only the file itself has an interpreter line.
    const body = `${head}${url}\n${code.replace(/^#!.*/, '').trimEnd()}\n},\n`;
    places.set(name, [text.length, body.length, line]);
    sections.push({ offset: { line: line + 1, column: 0 }, map: JSON.parse(map) });
    text += body;
    line += body.split('\n').length - 1;
  }
  return { text: `${text}};\n`, map: JSON.stringify({ version: 3, sections }), places };
}

/** Makes the ES module that exports a part of the library. */
function makeLibrary(parts, name) {
  const { exports } = parts.get(`./${name}.js`);
  return `import requirePart from './vproxy.cjs';\nexport const { ${exports.join(', ')} } = requirePart('./${name}.js');\n`;
}

/** Makes the program's first file, and the files of the parts: those that the library may need, and the others. */
function makeShared(parts, { outputs }) {
  const ofLibrary = partsBehind(
    LIBRARY_PARTS.map((name) => `./${name}.js`),
    parts,
  );
  const files = [
    { name: 'library', ...join(parts, ofLibrary) },
    {
      name: 'program',
      ...join(
        parts,
        [...parts.keys()].filter((name) => !ofLibrary.has(name)),
      ),
    },
  ];
  const places = files.flatMap(({ places }, index) => [...places].map(([name, place]) => [name, [index, ...place]]));
  const rows = files.map(({ name }) => `{name:'${name}.cjs',load:()=>require('./${name}.cjs')}`);
  const [proxyPath] = Object.entries(outputs).find(([, { entryPoint }]) => entryPoint === PROXY_MODULE);
  const loader = readFileSync('packaging/program/loader.cjs', 'utf8')
    .replace("'use strict';", `'use strict';\n${REQUIRE_NODE}`)
    .replace('const PARTS = {};', `const PARTS = ${JSON.stringify(Object.fromEntries(places))};`)
    .replace('const FILES = [];', `const FILES = [${rows}];`)
    .replace("const PROXY_PART = '';", `const PROXY_PART = './${basename(proxyPath)}';`);
  const end = `if(isProgram)requirePart('${PROGRAM_PART}');else module.exports=requirePart;\n`;
  return [{ name: 'vproxy', text: `${SHEBANG}${loader}\n${end}`, map: null }, ...files];
}

// cli/vproxy.ts does not run them by this file.
const withoutKept = {
  name: 'without-kept',
  setup({ onLoad }) {
    onLoad({ filter: /\/kept-shell\.ts$/ }, () => ({ contents: '' }));
  },
};

/** Makes the standalone files; resolves with them and esbuild's metafile. */
async function makeSingle() {
  const { outputFiles, metafile } = await build({
    ...settings,
    plugins: [...settings.plugins, withoutKept],
    entryPoints: SINGLE_FILES,
    format: 'cjs',
    banner: { js: REQUIRE_NODE },
    outExtension: { '.js': '.cjs' },
    sourcemap: 'external',
  });
  const textOf = (name) => outputFiles.find(({ path }) => basename(path) === name).text;
  const files = Object.keys(SINGLE_FILES).map((name) => ({
    name,
    text: textOf(`${name}.cjs`),
    map: textOf(`${name}.cjs.map`),
  }));
  return { files, metafile };
}

const { parts, metafile } = await divide();
const single = await makeSingle();
mkdirSync(OUTPUT, { recursive: true });
const written = new Map([
  ['LICENCES', formatLicences({ inputs: { ...metafile.inputs, ...single.metafile.inputs } }, version)],
]);
for (const { name, text, map } of [...makeShared(parts, metafile), ...single.files]) {
  written.set(`${name}.cjs`, text);
  if (map !== null) written.set(`${name}.cjs.map`, map);
}
for (const name of LIBRARY_PARTS) written.set(`${name}.js`, makeLibrary(parts, name));
// The first file is written last, as it lists the parts of the others.
for (const [name, text] of [...written].reverse()) {
  const path = `${OUTPUT}/${name}`;
  writeChanged(path, text, Object.values(bin).includes(path) ? 0o755 : 0o644);
}
// The page of `vproxy web` has a build of its own.
for (const name of readdirSync(OUTPUT)) if (!written.has(name) && name !== 'web') rmSync(`${OUTPUT}/${name}`);
