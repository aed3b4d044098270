// The licences of packages whose code is in a bundle.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Returns the licence texts of vproxy and of the packages in a bundle, each once, after the packages that have it with their
 * copyright notices. `metafile` is esbuild's; `more` are folders of installed packages that accompany the bundle.
 */
export function formatLicences(metafile, version, more = []) {
  const own = { title: `vproxy ${version}`, text: existsSync('LICENSE') ? readFileSync('LICENSE', 'utf8') : '' };
  const others = [...bundledPackages(metafile), ...more.filter((folder) => existsSync(folder))].map(readLicence);
  const byTerms = new Map();
  for (const part of [own, ...others].map(separateTerms)) {
    const key = part.terms.toLowerCase().replace(/[^a-z]+/g, ' ');
    byTerms.set(key, [...(byTerms.get(key) ?? []), part]);
  }
  const parts = [...byTerms.values()].map((packages) =>
    [...packages.map(({ title, notice }) => `${title}\n\n${notice}`.trim()), packages[0].terms].join('\n\n'),
  );
  return `${parts.join('\n\n---\n\n')}\n`;
}

/** Lists the folders of the packages that a bundle contains parts of. */
function bundledPackages({ inputs }) {
  const folders = Object.keys(inputs).map((path) => /^node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0]);
  return [...new Set(folders.filter((folder) => folder !== undefined))].sort();
}

function readLicence(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
  const text = file === undefined ? `Licence: ${license}` : readFileSync(join(folder, file), 'utf8');
  return { title: `${name} ${version}`, text };
}

/** Splits a licence before its terms, which many packages share; the notice before them is a package's own. */
function separateTerms({ title, text }) {
  const at = Math.max(0, text.search(/^Permission (?:is hereby granted|to use)/m));
  const terms = text
    .slice(at)
    .trim()
    .replace(/^[ \t]+/gm, '');
  return { title, notice: text.slice(0, at).trim(), terms };
}
