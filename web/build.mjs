// Makes dist/program/web: the page of `vproxy web`, and its server, in files of their own.
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename } from 'node:path';
import { build } from 'esbuild';
import { bundleSettings, UNUSED } from '../packaging/bundle-settings.mjs';
import { formatLicences } from '../packaging/bundled-packages.mjs';
import { writeChanged } from '../packaging/write-changed.mjs';

process.chdir(`${import.meta.dirname}/..`);
const OUTPUT = 'dist/program/web';
const description = JSON.parse(readFileSync('package.json', 'utf8'));
const settings = bundleSettings(description);

const server = await build({
  ...settings,
  entryPoints: { server: 'web/server/command.ts' },
  define: { ...settings.define, 'import.meta.dirname': '__dirname' },
  outdir: OUTPUT,
  outExtension: { '.js': '.cjs' },
  format: 'cjs',
  write: false,
});

/** What the page shares with the program needs nothing of Node. */
const withoutNode = {
  name: 'without-node',
  setup({ onResolve }) {
    onResolve({ filter: /^node:/ }, () => ({ path: UNUSED, sideEffects: false }));
  },
};

// What only some views need comes with the first of them: plots, and terminals.
const page = await build({
  entryPoints: ['web/page/main.tsx', 'web/page/page.css'],
  outdir: OUTPUT,
  entryNames: 'page',
  chunkNames: 'part-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  target: 'es2023',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  plugins: [withoutNode],
  minify: true,
  dropLabels: ['INVARIANT'],
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
  write: false,
});

const files = [...server.outputFiles, ...page.outputFiles].map(({ path, text }) => [basename(path), text]);
const written = new Map([
  ...files,
  ...['index.html', 'favicon.svg'].map((name) => [name, readFileSync(`web/page/${name}`, 'utf8')]),
  ['LICENCES', formatLicences({ inputs: { ...server.metafile.inputs, ...page.metafile.inputs } }, description.version)],
]);
mkdirSync(OUTPUT, { recursive: true });
for (const [name, text] of written) writeChanged(`${OUTPUT}/${name}`, text);
for (const name of readdirSync(OUTPUT)) if (!written.has(name)) rmSync(`${OUTPUT}/${name}`);
