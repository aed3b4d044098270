// Makes dist/vproxy.cjs, or the file given as argument: all of vproxy in one file, for machines with only Node. Optional native
// modules stay outside.
import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { formatLicences } from './bundled-packages.mjs';
import { oldestNode, requireNode } from './require-node.cjs';

const OUTPUT = resolve(process.argv[2] ?? join(import.meta.dirname, '../dist/vproxy.cjs'));

process.chdir(join(import.meta.dirname, '..'));
const { version, engines } = JSON.parse(readFileSync('package.json', 'utf8'));

const oldest = oldestNode(engines);

// Replaces the file atomically: it may be in use.
const temporary = `${OUTPUT}.${process.pid}`;
const { metafile } = await build({
  entryPoints: ['cli/one-file.ts'],
  outfile: temporary,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: `node${oldest}`,
  // An older Node would fail to parse them, before it can report what is wrong.
  supported: { 'regexp-set-notation': false },
  external: ['koffi', 'supports-color'],
  minify: true,
  charset: 'utf8',
  legalComments: 'none',
  // yargs and its helpers read `import.meta.url`, which CommonJS does not have.
  define: { 'import.meta.url': 'importMetaUrl', VPROXY_VERSION: JSON.stringify(version) },
  banner: {
    js: `'use strict';(${requireNode})('${oldest}');const importMetaUrl = require('node:url').pathToFileURL(__filename).href;`,
  },
  metafile: true,
  logLevel: 'warning',
});
// koffi is beside it, or goes into the single executable along with it.
const licences = formatLicences(metafile, version, ['node_modules/koffi']).replaceAll('*/', '* /');
writeFileSync(temporary, `${readFileSync(temporary, 'utf8')}/*\n${licences}*/\n`);
chmodSync(temporary, 0o755);
renameSync(temporary, OUTPUT);
