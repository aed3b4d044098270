// What all bundles have in common.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { oldestNode } from './require-node.cjs';

/** The URL of an ES module, which CommonJS does not have. */
export const FILE_URL = "const importMetaUrl=require('node:url').pathToFileURL(__filename).href;";

const here = (name) => resolve(import.meta.dirname, name);
/** An empty module. */
export const UNUSED = here('unused.cjs');

/** The client in ws/lib/websocket.js. */
const CLIENT = /^function initAsClient\([\s\S]*?^}$/m;

/**
 * Only the parser of yargs is used: without what else it has for each platform, which takes 25 ms to load. Of ws, neither
 * compression nor what negotiates it, nor streams of Node, nor the events of browsers, nor its client.
 */
const usedParts = {
  name: 'used-parts',
  setup({ onLoad, onResolve }) {
    onLoad({ filter: /\/node_modules\/ws\/lib\/websocket\.js$/ }, ({ path }) => {
      const text = readFileSync(path, 'utf8');
      if (!CLIENT.test(text)) throw new Error(`${path}: no client to leave out`);
      return { contents: text.replace(CLIENT, 'function initAsClient() {}') };
    });
    onResolve({ filter: /\/platform-shims\/esm\.mjs$/ }, () => ({ path: UNUSED }));
    onResolve({ filter: /\/(?:permessage-deflate|extension|stream)(?:\.js)?$/ }, ({ importer }) =>
      importer.includes('/node_modules/ws/') ? { path: UNUSED } : null,
    );
    onResolve({ filter: /^\.\/event-target$/ }, ({ importer }) =>
      importer.includes('/node_modules/ws/') ? { path: here('ws-events.cjs') } : null,
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
    debug: 'debug/src/node.js',
    'events-universal': 'node:events',
    'text-decoder': UNUSED,
  },
  plugins: [usedParts],
  minify: true,
  // Statements of lib/util/invariant.ts.
  dropLabels: ['INVARIANT'],
  legalComments: 'none',
  define: {
    'import.meta.url': 'importMetaUrl',
    VPROXY_VERSION: JSON.stringify(version),
    // Without what ws would load from the folders above the bundle.
    'process.env.WS_NO_BUFFER_UTIL': '"1"',
    'process.env.WS_NO_UTF_8_VALIDATE': '"1"',
  },
  metafile: true,
  logLevel: 'warning',
});
