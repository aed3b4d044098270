// Makes dist/program: the programs and the library in a few files, which start faster than hundreds of modules and use less memory.
// Each file has a source map beside it, for traces.
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename } from 'node:path';
import { build, transform } from 'esbuild';
import { formatLicences } from '../bundled-packages.mjs';
import { oldestNode, requireNode } from '../require-node.cjs';
import { writeChanged } from '../write-changed.mjs';
import { LIBRARY, SHARED_FILES, SINGLE_FILES } from './files.mjs';

process.chdir(`${import.meta.dirname}/../..`);
const OUTPUT = 'dist/program';
const { version, engines, bin } = JSON.parse(readFileSync('package.json', 'utf8'));
const OLDEST = oldestNode(engines);
const LIBRARY_PART = './library.js';
const SHEBANG = '#!/usr/bin/env node\n';

/** The beginning of each program. */
const REQUIRE_NODE = `(${requireNode})('${OLDEST}');`;

/** The URL of an ES module, which yargs asks for. */
const FILE_URL = "const importMetaUrl=require('node:url').pathToFileURL(__filename).href;";

const settings = {
  outdir: OUTPUT,
  write: false,
  bundle: true,
  platform: 'node',
  target: `node${OLDEST}`,
  // An older Node would fail to parse them, before it can report what is wrong.
  supported: { 'regexp-set-notation': false },
  external: ['koffi', 'supports-color'],
  minify: true,
  legalComments: 'none',
  sourcesContent: false,
  define: { 'import.meta.url': 'importMetaUrl', VPROXY_VERSION: JSON.stringify(version) },
  metafile: true,
  logLevel: 'warning',
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
    plugins: [withoutExec],
    entryPoints: { [SHARED_FILES[0].name]: SHARED_FILES[0].modules[0], library: LIBRARY },
    format: 'esm',
    splitting: true,
    chunkNames: '[hash]',
    sourcemap: 'inline',
  });
  const texts = new Map(outputFiles.map(({ path, text }) => [basename(path), text]));
  const parts = new Map();
  const namesOf = (imports) => imports.map((one) => `./${basename(one.path)}`);
  for (const [path, { entryPoint, imports, exports }] of Object.entries(metafile.outputs)) {
    const own = imports.filter(({ external }) => external !== true);
    const needs = own.filter(({ kind }) => kind === 'import-statement');
    const { code, map } = await transform(texts.get(basename(path)), {
      format: 'cjs',
      target: settings.target,
      supported: { 'dynamic-import': false },
      minify: true,
      sourcemap: 'external',
      sourcesContent: false,
      sourcefile: '',
    });
    parts.set(`./${basename(path)}`, { entryPoint, exports, needs: namesOf(needs), leadsTo: namesOf(own), code, map });
  }
  return { parts, metafile };
}

/** Assigns the parts to the shared files; returns their names for each file. */
function distribute(parts) {
  const left = new Set(parts.keys());
  const take = (name) => {
    if (!left.delete(name)) return [];
    return [...parts.get(name).needs.flatMap(take), name];
  };
  const named = new Set(SHARED_FILES.flatMap(({ modules = [] }) => modules));
  const startsOf = ({ modules }) =>
    [...parts].filter(([, { entryPoint }]) =>
      modules === undefined ? entryPoint !== undefined && !named.has(entryPoint) : modules.includes(entryPoint),
    );
  const distributed = SHARED_FILES.map((row) => {
    const starts = startsOf(row);
    if (starts.length < (row.modules?.length ?? 1))
      throw new Error(`${row.name}: one of its modules is not imported on demand`);
    return starts.flatMap(([name]) => take(name));
  });
  if (left.size > 0) throw new Error(`no file has ${[...left].join(' ')}`);
  return distributed;
}

/** Makes a shared file: its text between `head` and `tail`, and its map, with a section for each part. */
function join(parts, names, head, tail) {
  const sections = [];
  let text = head;
  for (const name of names) {
    const { code, map } = parts.get(name);
    text += `${JSON.stringify(name)}:function(exports,require,module){\n`;
    sections.push({ offset: { line: text.split('\n').length - 1, column: 0 }, map: JSON.parse(map) });
    // Only the file itself has an interpreter line.
    text += `${code.replace(/^#!.*/, '').trimEnd()}\n},\n`;
  }
  return { text: `${text}${tail}`, map: JSON.stringify({ version: 3, sections }) };
}

/** Lists the files that a part may need, now or later. */
function filesBehind(start, parts, fileOf) {
  const seen = new Set([start]);
  for (const name of seen) for (const next of parts.get(name).leadsTo) seen.add(next);
  return [...new Set([...seen].map((name) => fileOf[name]))];
}

/** Makes the ES module that exports the library. */
function makeLibrary(parts) {
  const { exports } = parts.get(LIBRARY_PART);
  return `import library from './vproxy.cjs';\nexport const { ${exports.join(', ')} } = library;\n`;
}

/** Makes the files that share their parts. */
function makeShared(parts) {
  const names = distribute(parts);
  const fileOf = Object.fromEntries(
    SHARED_FILES.flatMap(({ name }, index) => names[index].map((part) => [part, `${name}.cjs`])),
  );
  const kept = Object.fromEntries(
    SHARED_FILES.flatMap(({ name, keeps }) =>
      keeps === undefined ? [] : [[`${name}.cjs`, keeps.map((one) => `${one}.cjs`)]],
    ),
  );
  const loads = filesBehind(LIBRARY_PART, parts, fileOf)
    .filter((file) => file !== `${SHARED_FILES[0].name}.cjs`)
    .map((file) => `'${file}':()=>require('./${file}')`);
  const loader = readFileSync('packaging/program/loader.cjs', 'utf8')
    .replace("'use strict';", `'use strict';\n${REQUIRE_NODE}`)
    .replace('const PART_FILES = {};', `const PART_FILES = ${JSON.stringify(fileOf)};`)
    .replace('const KEPT_FILES = {};', `const KEPT_FILES = ${JSON.stringify(kept)};`)
    .replace('const LIBRARY_FILES = {};', `const LIBRARY_FILES = {${loads.join(',')}};`);
  return SHARED_FILES.map((row, index) => {
    const isFirst = index === 0;
    const [head, tail] = isFirst
      ? [
          `${SHEBANG}${loader}\nfunctions.set('${row.name}.cjs',{\n`,
          `});\nif(isProgram)requirePart('./${row.name}.js');else module.exports=requirePart('${LIBRARY_PART}');\n`,
        ]
      : ["'use strict';\nmodule.exports={\n", '};\n'];
    const { text, map } = join(parts, names[index], head, tail);
    const usesUrl = text.includes('importMetaUrl');
    if (usesUrl && isFirst) throw new Error('the first file has no URL');
    // On the first line, so that no other line moves.
    return { name: row.name, text: usesUrl ? text.replace("'use strict';", `'use strict';${FILE_URL}`) : text, map };
  });
}

/** Makes the standalone files; resolves with them and esbuild's metafile. */
async function makeSingle() {
  const { outputFiles, metafile } = await build({
    ...settings,
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
for (const { name, text, map } of [...makeShared(parts), ...single.files]) {
  written.set(`${name}.cjs`, text).set(`${name}.cjs.map`, map);
}
written.set('library.js', makeLibrary(parts));
// The first file is written last, as it lists the parts of the others.
for (const [name, text] of [...written].reverse()) {
  const path = `${OUTPUT}/${name}`;
  writeChanged(path, text, Object.values(bin).includes(path) ? 0o755 : 0o644);
}
for (const name of readdirSync(OUTPUT)) if (!written.has(name)) rmSync(`${OUTPUT}/${name}`);
