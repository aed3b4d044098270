// Makes dist/vproxy_VERSION_ARCHITECTURE.deb of the single executable, with dpkg-deb as the only Debian tool.
//
//     node packaging/deb/build.mjs [--version 0.1.0-1] [--executable PATH] [--architecture amd64] [--output dist] [--quick]
//
// `--quick` skips compression, in a tenth of the time. The build is reproducible (SOURCE_DATE_EPOCH; default: the last commit).
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { compress, stageFiles } from '../stage.mjs';
import { date, packFolder } from './pack.mjs';

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

const COMMENT = `Comment: /usr/bin/vproxy contains koffi, which is in /usr/lib/vproxy as well, and Node.js (https://nodejs.org), whose own licence, and those of what it contains, are in
 /usr/share/doc/vproxy/node-licence.gz, and packages whose notices stand at the end of the program's text.
`;

const root = mkdtempSync(join(tmpdir(), 'vproxy-deb-'));
console.error('collecting the files of the package');
try {
  await stageFiles(root, {
    ...{ executable, version: upstream, date },
    zshFolder: '/usr/share/zsh/vendor-completions',
  });
  // The licences of Node and its components, which npm run sea puts beside the executable.
  const licence = `${executable}.node-licence`;
  if (existsSync(licence)) {
    const target = join(root, 'usr/share/doc/vproxy/node-licence.gz');
    writeFileSync(target, compress(readFileSync(licence)), { mode: 0o644 });
  }
  const templates = import.meta.dirname;
  const path = await packFolder(root, {
    name: 'vproxy',
    version,
    architecture,
    templates,
    comment: COMMENT,
    output,
    quick,
  });
  process.stdout.write(`${path}\n`);
} finally {
  rmSync(root, { recursive: true, force: true });
}
