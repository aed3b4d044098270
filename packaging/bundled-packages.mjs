// The licences of packages whose code is in a bundle.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Returns the licence texts of vproxy and of the packages in a bundle. `metafile` is esbuild's; `more` are folders of installed
 * packages that accompany the bundle.
 */
export function formatLicences(metafile, version, more = []) {
  const own = existsSync('LICENSE') ? readFileSync('LICENSE', 'utf8').trim() : '';
  const folders = [...bundledPackages(metafile), ...more.filter((folder) => existsSync(folder))];
  return `${[`vproxy ${version}\n\n${own}`, ...formatNotices(folders)].join('\n\n---\n\n')}\n`;
}

/** Lists the folders of the packages that a bundle contains parts of. */
function bundledPackages({ inputs }) {
  const folders = Object.keys(inputs).map((path) => /^node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0]);
  return [...new Set(folders.filter((folder) => folder !== undefined))].sort();
}

/** Formats each licence once, after the names of all packages that have it. */
function formatNotices(folders) {
  const packages = new Map();
  for (const folder of folders) {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
    const text = file === undefined ? `Licence: ${license}` : readFileSync(join(folder, file), 'utf8').trim();
    packages.set(text, [...(packages.get(text) ?? []), `${name} ${version}`]);
  }
  return [...packages].map(([text, names]) => `${names.join('\n')}\n\n${text}`);
}
