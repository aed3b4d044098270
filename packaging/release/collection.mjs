// Makes the archive of the Ansible collection: node packaging/release/collection.mjs --output FOLDER
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { sourceDate } from '../source-date.mjs';

const { output } = parseArgs({ options: { output: { type: 'string' } } }).values;
const work = mkdtempSync(join(tmpdir(), 'vproxy-collection-'));
try {
  const galaxy = ['collection', 'build', '--output-path', work, join(import.meta.dirname, '../ansible')];
  execFileSync('ansible-galaxy', galaxy, {
    env: { ...process.env, HOME: work },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const name = readdirSync(work).find((file) => file.endsWith('.tar.gz'));
  const folder = join(work, 'files');
  mkdirSync(folder);
  execFileSync('tar', ['-xzf', join(work, name), '-C', folder]);
  sortFiles(folder);
  writeFileSync(join(output, name), gzipSync(packSorted(folder), { level: 9 }));
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** ansible-galaxy lists files as the file system does. */
function sortFiles(folder) {
  const [list, manifest] = ['FILES.json', 'MANIFEST.json'].map((name) => join(folder, name));
  const { files, ...rest } = JSON.parse(readFileSync(list, 'utf8'));
  const text = JSON.stringify({ files: files.sort((a, b) => (a.name < b.name ? -1 : 1)), ...rest }, null, 1);
  writeFileSync(list, text);
  const facts = JSON.parse(readFileSync(manifest, 'utf8'));
  facts.file_manifest_file.chksum_sha256 = createHash('sha256').update(text).digest('hex');
  writeFileSync(manifest, JSON.stringify(facts, null, 1));
}

function packSorted(folder) {
  const owner = ['--owner=0', '--group=0', '--numeric-owner', '--mode=a=rX,u+w'];
  const same = ['--format=gnu', '--sort=name', `--mtime=@${sourceDate()}`, ...owner];
  return execFileSync('tar', ['--create', ...same, '--directory', folder, ...readdirSync(folder).sort()]);
}
