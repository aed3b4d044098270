// Makes dist/vproxy-VERSION-1.ARCHITECTURE.rpm of the single executable, or with `--name vproxy-guest` of vproxy-guest, with rpmbuild.
//
//     node packaging/rpm/build.mjs [--name vproxy] [--architecture x86_64] [--output dist] [--quick]
//
// `--quick` skips compression. The build is reproducible (SOURCE_DATE_EPOCH; default: the last commit).
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { sourceDate } from '../source-date.mjs';

const PROJECT = join(import.meta.dirname, '../..');

const { name, architecture, output, quick } = parseArgs({
  options: {
    name: { type: 'string', default: 'vproxy' },
    architecture: { type: 'string', default: 'x86_64' },
    output: { type: 'string', default: join(PROJECT, 'dist') },
    quick: { type: 'boolean', default: false },
  },
}).values;

mkdirSync(output, { recursive: true });
// In the same file system: the package appears only when complete.
const work = mkdtempSync(join(resolve(output), '.rpm-'));
const macros = {
  _topdir: work,
  _rpmdir: work,
  vproxy_tree: PROJECT,
  // xz, as Debian's packages have it; RHEL 8 reads it.
  _binary_payload: quick ? 'w.ufdio' : 'w6.xzdio',
  _buildhost: 'localhost',
  use_source_date_epoch_as_buildtime: '1',
  clamp_mtime_to_source_date_epoch: '1',
};
const defines = Object.entries(macros).flatMap(([key, value]) => ['--define', `${key} ${value}`]);
try {
  const spec = join(import.meta.dirname, `${name}.spec`);
  const env = { ...process.env, SOURCE_DATE_EPOCH: sourceDate() };
  const words = ['-bb', '--quiet', '--target', `${architecture}-linux`, ...defines, spec];
  execFileSync('rpmbuild', words, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const [file] = readdirSync(join(work, architecture));
  renameSync(join(work, architecture, file), join(output, file));
  console.log(join(resolve(output), file));
} finally {
  rmSync(work, { recursive: true, force: true });
}
