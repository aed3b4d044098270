// Makes dist/vproxy.cjs, or the file given as argument: all of vproxy in one file, for machines with only Node.
import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { bundleSettings, FILE_URL } from './bundle-settings.mjs';
import { formatLicences } from './bundled-packages.mjs';
import { oldestNode, requireNode } from './require-node.cjs';

const OUTPUT = resolve(process.argv[2] ?? join(import.meta.dirname, '../dist/vproxy.cjs'));

process.chdir(join(import.meta.dirname, '..'));
const description = JSON.parse(readFileSync('package.json', 'utf8'));

const settings = bundleSettings(description);

// Replaces the file atomically: it may be in use.
const temporary = `${OUTPUT}.${process.pid}`;
const { metafile } = await build({
  entryPoints: ['cli/one-file.ts'],
  outfile: temporary,
  ...settings,
  define: { ...settings.define, VPROXY_WEB: JSON.stringify('/usr/lib/vproxy/web/') },
  format: 'cjs',
  charset: 'utf8',
  // The banner makes all of the file strict; otherwise each of some 500 modules says it again.
  tsconfigRaw: { compilerOptions: { alwaysStrict: false, verbatimModuleSyntax: true } },
  banner: { js: `'use strict';(${requireNode})('${oldestNode(description.engines)}');${FILE_URL}` },
});
// koffi is beside it, or goes into the single executable along with it.
const licences = formatLicences(metafile, description.version, ['node_modules/koffi']).replaceAll('*/', '* /');
writeFileSync(temporary, `${readFileSync(temporary, 'utf8')}/*\n${licences}*/\n`);
chmodSync(temporary, 0o755);
renameSync(temporary, OUTPUT);
