// Stages the contents of a distribution package of vproxy-guest in a folder. Needs go.
//
//     node guest/packaging/stage.mjs --root FOLDER [--processor amd64]
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { buildProgram } from './build.mjs';

const GUEST = join(import.meta.dirname, '..');

/** The files besides the program: where a package has them, and their sources. */
const FILES = {
  'usr/lib/systemd/system/vproxy-guest-port@.service': ['packaging/vproxy-guest-port@.service'],
  'usr/lib/udev/rules.d/61-vproxy-port.rules': ['packaging/61-vproxy-port.rules'],
  'usr/lib/sysusers.d/vproxy-port.conf': ['packaging/sysusers.conf'],
  'usr/share/doc/vproxy-guest/copyright': ['../LICENSE', 'packaging/go-licence'],
  'usr/share/doc/vproxy-guest/README.md': ['README.md'],
};

/** Writes a file of the package; modes do not depend on the umask. */
export function put(root, path, content, mode = 0o644) {
  const target = join(root, path);
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, content);
  chmodSync(target, mode);
}

export function stageGuest(root, processor) {
  const program = join(resolve(root), 'usr/bin/vproxy-guest');
  mkdirSync(dirname(program), { recursive: true });
  buildProgram(processor, program);
  chmodSync(program, 0o755);
  for (const name of ['guest-options', 'rename-unit'])
    put(root, `usr/lib/vproxy-guest/${name}`, readFileSync(join(GUEST, '../packaging/systemd', name)), 0o755);
  for (const [path, sources] of Object.entries(FILES))
    put(root, path, sources.map((source) => readFileSync(join(GUEST, source), 'utf8')).join('\n---\n\n'));
}

if (process.argv[1] === import.meta.filename) {
  const { root, processor } = parseArgs({
    options: { root: { type: 'string' }, processor: { type: 'string', default: 'amd64' } },
  }).values;
  if (root === undefined) throw new Error('--root FOLDER: missing');
  stageGuest(root, processor);
}
