// Makes dist/python3-vproxy_VERSION_all.deb of the Python package, which needs no build.
//
//     node packaging/deb/python/build.mjs [--version 0.1.0-1] [--output dist]
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { packFolder } from '../pack.mjs';

const PROJECT = join(import.meta.dirname, '../../..');
const { version: upstream } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));

const { values } = parseArgs({
  options: {
    version: { type: 'string', default: `${upstream}-1` },
    output: { type: 'string', default: join(PROJECT, 'dist') },
  },
});

const root = mkdtempSync(join(tmpdir(), 'vproxy-deb-'));
try {
  const modules = join(root, 'usr/lib/python3/dist-packages');
  const source = join(PROJECT, 'python/src/vproxy');
  cpSync(source, join(modules, 'vproxy'), {
    recursive: true,
    filter: (path) => path === source || /\.(py|typed)$/.test(path),
  });
  // For pip and importlib.metadata.
  const info = join(modules, `vproxy-${upstream}.dist-info`);
  mkdirSync(info);
  writeFileSync(join(info, 'METADATA'), `Metadata-Version: 2.1\nName: vproxy\nVersion: ${upstream}\n`);
  writeFileSync(join(info, 'INSTALLER'), 'debian\n');
  const options = { name: 'python3-vproxy', version: values.version, architecture: 'all' };
  const path = await packFolder(root, {
    ...options,
    templates: import.meta.dirname,
    output: resolve(values.output),
    quick: false,
  });
  process.stdout.write(`${path}\n`);
} finally {
  rmSync(root, { recursive: true, force: true });
}
