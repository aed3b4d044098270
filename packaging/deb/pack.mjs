/** What all Debian packages have in common: documents, control files, and the archive. dpkg-deb is the only Debian tool. */
import { execFileSync } from 'node:child_process';
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sourceDate } from '../source-date.mjs';
import { compress } from '../stage.mjs';
import { runStep } from '../steps.mjs';

const PROJECT = join(import.meta.dirname, '../..');

// The variables of Debian's own tools. Distributors of packages set their own name.
const { DEBFULLNAME = 'The vproxy authors', DEBEMAIL = 'vproxy@example.org' } = process.env;
const maintainer = `${DEBFULLNAME} <${DEBEMAIL}>`;
const epoch = sourceDate();
/** The date of a build, which is reproducible (SOURCE_DATE_EPOCH; default: the last commit). */
export const date = new Date(Number(epoch) * 1000);

/** Sets modes that do not depend on the umask; returns the total size in KiB, as Debian counts. */
function settle(folder) {
  chmodSync(folder, 0o755);
  let size = 1;
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const entry = lstatSync(path);
    if (entry.isFile()) chmodSync(path, entry.mode & 0o100 ? 0o755 : 0o644);
    size += entry.isDirectory() ? settle(path) : Math.max(1, Math.ceil(entry.size / 1024));
  }
  return size;
}

function formatChangelog(version) {
  const day = date.toUTCString().replace('GMT', '+0000');
  return `vproxy (${version}) unstable; urgency=medium\n\n  * See changelog.gz for the changes.\n\n -- ${maintainer}  ${day}\n`;
}

function formatCopyright(comment) {
  const licence = readFileSync(join(PROJECT, 'LICENSE'), 'utf8').trim();
  const [, holder = ''] = /^Copyright \(c\) (.*)$/m.exec(licence) ?? [];
  const body = licence.slice(licence.indexOf('Permission is hereby'));
  const text = body
    .split('\n')
    .map((line) => (line.trim() === '' ? ' .' : ` ${line}`))
    .join('\n');
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: vproxy
${comment}
Files: *
Copyright: ${holder}
License: Expat

License: Expat
${text}
`;
}

/**
 * Packs the folder `root` as OUTPUT/NAME_VERSION_ARCHITECTURE.deb; resolves with its path. `templates`: a folder with `control`,
 * and perhaps `conffiles` and the scripts. `comment`: a field of the copyright file.
 */
export async function packFolder(root, { name, version, architecture, templates, comment = '', output, quick }) {
  const documents = join(root, 'usr/share/doc', name);
  mkdirSync(documents, { recursive: true });
  const write = (path, content) => writeFileSync(path, content, { mode: 0o644 });
  write(join(documents, 'changelog.gz'), compress(readFileSync(join(PROJECT, 'CHANGELOG.md'))));
  write(join(documents, 'changelog.Debian.gz'), compress(formatChangelog(version)));
  write(join(documents, 'copyright'), formatCopyright(comment));
  mkdirSync(join(root, 'usr/share/lintian/overrides'), { recursive: true });
  write(join(root, 'usr/share/lintian/overrides', name), readFileSync(join(templates, 'lintian-overrides'), 'utf8'));
  const size = settle(root);

  const folder = join(root, 'DEBIAN');
  mkdirSync(folder);
  for (const file of readdirSync(templates)) {
    if (!/^(?:control|conffiles|p(?:re|ost)(?:inst|rm))$/.test(file)) continue;
    const text = readFileSync(join(templates, file), 'utf8')
      .replace('@VERSION@', version)
      .replace('@ARCHITECTURE@', architecture)
      .replace('@MAINTAINER@', maintainer)
      .replace('@SIZE@', String(size));
    writeFileSync(join(folder, file), text);
    chmodSync(join(folder, file), /^p/.test(file) ? 0o755 : 0o644);
  }
  const sums = execFileSync(
    'sh',
    ['-c', 'find * -path DEBIAN -prune -o -type f -print | LC_ALL=C sort | xargs -d "\\n" md5sum'],
    {
      cwd: root,
    },
  );
  write(join(folder, 'md5sums'), sums);
  chmodSync(folder, 0o755);

  const file = `${name}_${version}_${architecture}.deb`;
  const level = quick ? ['-Znone'] : ['-Zxz', '-z6'];
  const env = { ...process.env, SOURCE_DATE_EPOCH: epoch };
  mkdirSync(output, { recursive: true });
  // The package appears only when complete.
  const temporary = join(output, `.${file}.${process.pid}`);
  const words = [...level, '--root-owner-group', '--build', root, temporary];
  await runStep(quick ? `packing ${file}` : `compressing ${file}`, 'dpkg-deb', words, {
    env,
    stdio: ['ignore', 'ignore', 2],
  });
  renameSync(temporary, join(output, file));
  return join(output, file);
}
