// What all bundles have in common.
import { resolve } from 'node:path';
import { oldestNode } from './require-node.cjs';

/** The URL of an ES module, which CommonJS does not have; yargs and its helpers read it. */
export const FILE_URL = "const importMetaUrl=require('node:url').pathToFileURL(__filename).href;";

const here = (name) => resolve(import.meta.dirname, name);
const UNUSED = here('unused.cjs');

/** yargs without 30 kB that vproxy does not use. */
const readingOnly = {
  name: 'reading-only',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\/(?:command|completion|usage)\.js$/ }, ({ resolveDir }) =>
      /\/yargs\/build\/lib$/.test(resolveDir) ? { path: here('yargs-parts.mjs') } : undefined,
    );
  },
};

/** Settings for esbuild, for the contents of package.json. */
export const bundleSettings = ({ version, engines }) => ({
  bundle: true,
  platform: 'node',
  target: `node${oldestNode(engines)}`,
  // An older Node would fail to parse them, before it can report what is wrong.
  supported: { 'regexp-set-notation': false },
  // Optional native modules stay outside.
  external: ['koffi', 'supports-color'],
  // debug itself would bring its part for browsers.
  alias: {
    b4a: here('node-buffers.cjs'),
    cliui: UNUSED,
    debug: 'debug/src/node.js',
    'events-universal': 'node:events',
    'string-width': UNUSED,
    'text-decoder': UNUSED,
    y18n: here('english.cjs'),
  },
  plugins: [readingOnly],
  minify: true,
  // Statements of lib/util/invariant.ts.
  dropLabels: ['INVARIANT'],
  legalComments: 'none',
  define: { 'import.meta.url': 'importMetaUrl', VPROXY_VERSION: JSON.stringify(version) },
  metafile: true,
  logLevel: 'warning',
});
