// What files that hold code of other packages have to do with these packages: their licences.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * What vproxy's own licence, and those of the packages in a bundle, ask to be handed on: a text. `metafile` is esbuild's; `more`
 * are folders of packages that go along with the bundle, where they are installed.
 */
export function formatLicences(metafile, version, more = []) {
  const own = existsSync('LICENSE') ? readFileSync('LICENSE', 'utf8').trim() : '';
  const folders = [...bundledPackages(metafile), ...more.filter((folder) => existsSync(folder))];
  return `${[`vproxy ${version}\n\n${own}`, ...formatNotices(folders)].join('\n\n---\n\n')}\n`;
}

/** Folders of the packages that a bundle has a part of. */
function bundledPackages({ inputs }) {
  const folders = Object.keys(inputs).map((path) => /^node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0]);
  return [...new Set(folders.filter((folder) => folder !== undefined))].sort();
}

/** A text for each licence; packages that have the very same one are in front of it together. */
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
