// Makes dist/vproxy.cjs, or the file that its argument names: all of vproxy in one file, for machines that have Node and nothing
// else. Optional natives stay outside.
import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';

const OUTPUT = resolve(process.argv[2] ?? join(import.meta.dirname, '../dist/vproxy.cjs'));

process.chdir(join(import.meta.dirname, '..'));
const { version, engines } = JSON.parse(readFileSync('package.json', 'utf8'));

/** Folders of the packages that the file has a part of. */
function bundledPackages({ inputs }) {
  const folders = Object.keys(inputs).map((path) => /^node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0]);
  return [...new Set(folders.filter((folder) => folder !== undefined))].sort();
}

/** What the licences of these packages ask to be handed on, as one comment. */
function formatNotices(folders) {
  const notices = folders.map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
    const text = file === undefined ? `Licence: ${license}` : readFileSync(join(folder, file), 'utf8').trim();
    return `${name} ${version}\n\n${text}`;
  });
  return `/*\n${notices.join('\n\n---\n\n').replaceAll('*/', '* /')}\n*/\n`;
}

// The languages of zod's messages, of which vproxy uses the English ones; these are imported by themselves.
const withoutLanguages = {
  name: 'without-languages',
  setup({ onLoad }) {
    onLoad({ filter: /\/node_modules\/zod\/v4\/locales\/index\.js$/ }, () => ({ contents: '' }));
  },
};

// What reads or runs the file meanwhile has the one before, whole.
const temporary = `${OUTPUT}.${process.pid}`;
const { metafile } = await build({
  entryPoints: ['cli/one-file.ts'],
  outfile: temporary,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: `node${/\d+\.\d+/.exec(engines.node)[0]}`,
  external: ['koffi', 'supports-color'],
  minify: true,
  legalComments: 'none',
  // yargs and its helpers read `import.meta.url`, which a file of CommonJS does not have.
  define: { 'import.meta.url': 'importMetaUrl', VPROXY_VERSION: JSON.stringify(version) },
  banner: { js: "'use strict';const importMetaUrl = require('node:url').pathToFileURL(__filename).href;" },
  plugins: [withoutLanguages],
  metafile: true,
  logLevel: 'warning',
});
const own = existsSync('LICENSE') ? readFileSync('LICENSE', 'utf8').trim() : '';
// koffi is beside it, or goes into the single executable along with it.
const koffi = ['node_modules/koffi'].filter((folder) => existsSync(folder));
const notices = formatNotices([...bundledPackages(metafile), ...koffi]);
writeFileSync(temporary, `${readFileSync(temporary, 'utf8')}/*\nvproxy ${version}\n\n${own}\n*/\n${notices}`);
chmodSync(temporary, 0o755);
renameSync(temporary, OUTPUT);
