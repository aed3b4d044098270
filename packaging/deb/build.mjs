// Makes dist/vproxy_VERSION_ARCHITECTURE.deb of the single executable, with dpkg-deb as the only Debian tool.
//
//     node packaging/deb/build.mjs [--version 0.1.0-1] [--executable PATH] [--architecture amd64] [--output dist] [--quick]
//
// `--quick` skips compression, in a tenth of the time. The build is reproducible (SOURCE_DATE_EPOCH; default: the last commit).
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { sourceDate } from '../source-date.mjs';
import { compress, stageFiles } from '../stage.mjs';

const PROJECT = join(import.meta.dirname, '../..');
const EXECUTABLES = { amd64: 'dist/vproxy-linux-x64', arm64: 'dist/vproxy-linux-arm64' };
const { version: upstream } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));

const { values } = parseArgs({
  options: {
    version: { type: 'string', default: `${upstream}-1` },
    executable: { type: 'string' },
    architecture: { type: 'string', default: 'amd64' },
    output: { type: 'string', default: join(PROJECT, 'dist') },
    quick: { type: 'boolean', default: false },
  },
});
const { version, architecture, quick } = values;
const output = resolve(values.output);
const executable = resolve(values.executable ?? join(PROJECT, EXECUTABLES[architecture]));
if (!existsSync(executable)) throw new Error(`${executable} does not exist: run npm run sea`);

// The variables of Debian's own tools. Distributors of packages set their own name.
const { DEBFULLNAME = 'The vproxy authors', DEBEMAIL = 'vproxy@example.org' } = process.env;
const maintainer = `${DEBFULLNAME} <${DEBEMAIL}>`;
const epoch = sourceDate();
const date = new Date(Number(epoch) * 1000);

const template = (name) => readFileSync(join(import.meta.dirname, name), 'utf8');

/** Makes every folder 0755, regardless of the umask; returns the total size in KiB, as Debian counts. */
function settle(folder) {
  chmodSync(folder, 0o755);
  let size = 1;
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const entry = lstatSync(path);
    size += entry.isDirectory() ? settle(path) : Math.max(1, Math.ceil(entry.size / 1024));
  }
  return size;
}

function formatChangelog() {
  const day = date.toUTCString().replace('GMT', '+0000');
  return `vproxy (${version}) unstable; urgency=medium\n\n  * See changelog.gz for the changes.\n\n -- ${maintainer}  ${day}\n`;
}

function formatCopyright() {
  const licence = readFileSync(join(PROJECT, 'LICENSE'), 'utf8').trim();
  const [, holder = ''] = /^Copyright \(c\) (.*)$/m.exec(licence) ?? [];
  const body = licence.slice(licence.indexOf('Permission is hereby'));
  const text = body
    .split('\n')
    .map((line) => (line.trim() === '' ? ' .' : ` ${line}`))
    .join('\n');
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: vproxy
Comment: /usr/bin/vproxy contains koffi, which is in /usr/lib/vproxy as well, and Node.js (https://nodejs.org), whose own licence, and those of what it contains, are in
 /usr/share/doc/vproxy/node-licence.gz, and packages whose notices stand at the end of the program's text.

Files: *
Copyright: ${holder}
License: Expat

License: Expat
${text}
`;
}

const root = mkdtempSync(join(tmpdir(), 'vproxy-deb-'));
if (!quick) console.error('packing the executable and its files; to compress them takes about a minute');
try {
  await stageFiles(root, {
    ...{ executable, version: upstream, date },
    zshFolder: '/usr/share/zsh/vendor-completions',
  });
  const documents = join(root, 'usr/share/doc/vproxy');
  writeFileSync(join(documents, 'changelog.gz'), compress(readFileSync(join(PROJECT, 'CHANGELOG.md'))), {
    mode: 0o644,
  });
  writeFileSync(join(documents, 'changelog.Debian.gz'), compress(formatChangelog()), { mode: 0o644 });
  // The licences of Node and its components, which npm run sea puts beside the executable.
  const licence = `${executable}.node-licence`;
  if (existsSync(licence)) {
    writeFileSync(join(documents, 'node-licence.gz'), compress(readFileSync(licence)), { mode: 0o644 });
  }
  writeFileSync(join(documents, 'copyright'), formatCopyright(), { mode: 0o644 });
  mkdirSync(join(root, 'usr/share/lintian/overrides'), { recursive: true });
  writeFileSync(join(root, 'usr/share/lintian/overrides/vproxy'), template('lintian-overrides'), { mode: 0o644 });
  const size = settle(root);

  const folder = join(root, 'DEBIAN');
  mkdirSync(folder);
  const control = template('control')
    .replace('@VERSION@', version)
    .replace('@ARCHITECTURE@', architecture)
    .replace('@MAINTAINER@', maintainer)
    .replace('@SIZE@', String(size));
  writeFileSync(join(folder, 'control'), control);
  writeFileSync(join(folder, 'conffiles'), template('conffiles'));
  for (const name of ['postinst', 'prerm', 'postrm']) writeFileSync(join(folder, name), template(name));
  for (const name of readdirSync(folder)) chmodSync(join(folder, name), /^p/.test(name) ? 0o755 : 0o644);
  const sums = execFileSync('sh', ['-c', 'find etc usr -type f | LC_ALL=C sort | xargs -d "\\n" md5sum'], {
    cwd: root,
  });
  writeFileSync(join(folder, 'md5sums'), sums, { mode: 0o644 });
  chmodSync(folder, 0o755);

  const file = `vproxy_${version}_${architecture}.deb`;
  const level = quick ? ['-Znone'] : ['-Zxz', '-z6'];
  const env = { ...process.env, SOURCE_DATE_EPOCH: epoch };
  mkdirSync(output, { recursive: true });
  // The package appears only when complete.
  const temporary = join(output, `.${file}.${process.pid}`);
  execFileSync('dpkg-deb', [...level, '--root-owner-group', '--build', root, temporary], { env, stdio: 'pipe' });
  renameSync(temporary, join(output, file));
  process.stdout.write(`${join(output, file)}\n`);
} finally {
  rmSync(root, { recursive: true, force: true });
}
