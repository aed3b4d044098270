// Stages the contents of a distribution package in a folder. Needs a build (dist/) and the single executable.
//
//     node packaging/stage.mjs --root FOLDER [--executable dist/vproxy-linux-x64] [--zsh /usr/share/zsh/site-functions]
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { SCRIPTS } from '../dist/cli/completion/scripts.js';
import { formatManuals } from './manual/format-manuals.mjs';
import { sourceDate } from './source-date.mjs';

const PROJECT = join(import.meta.dirname, '..');

/** gzip without a timestamp, for reproducible packages. */
export const compress = (text) => gzipSync(text, { level: 9 });

/** `zshFolder`: the distribution's folder of completions. `date`: of the manual, a Date. */
export async function stageFiles(root, { executable, zshFolder, version, date }) {
  const source = (path) => join(PROJECT, path);
  const write = (path, content, mode = 0o644) => {
    const target = join(root, path);
    // Modes do not depend on the umask.
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, content);
    chmodSync(target, mode);
  };
  const copy = (from, to, mode) => write(to, readFileSync(source(from)), mode);

  mkdirSync(join(root, 'usr/bin'), { recursive: true });
  cpSync(executable, join(root, 'usr/bin/vproxy'));
  chmodSync(join(root, 'usr/bin/vproxy'), 0o755);
  symlinkSync('vproxy', join(root, 'usr/bin/vproxy-storage'));
  copy('packaging/vproxy-ssh', '/usr/bin/vproxy-ssh', 0o755);
  // npm run sea puts it beside the executable, which looks for it there.
  const koffi = `${executable}.koffi.node`;
  if (existsSync(koffi)) write('/usr/lib/vproxy/koffi.node', readFileSync(koffi));

  for (const name of readdirSync(source('dist/program/web')))
    copy(`dist/program/web/${name}`, `/usr/lib/vproxy/web/${name}`);

  for (const name of readdirSync(source('packaging/systemd'))) {
    if (/\.(service|socket)$/.test(name)) copy(`packaging/systemd/${name}`, `/usr/lib/systemd/system/${name}`);
  }
  for (const name of ['guest-options', 'rename-unit', 'restart-services'])
    copy(`packaging/systemd/${name}`, `/usr/lib/vproxy/${name}`, 0o755);
  copy('packaging/systemd/sysusers.conf', '/usr/lib/sysusers.d/vproxy.conf');
  copy('packaging/systemd/tmpfiles.conf', '/usr/lib/tmpfiles.d/vproxy.conf');
  copy('packaging/udev/60-vproxy.rules', '/usr/lib/udev/rules.d/60-vproxy.rules');
  copy('packaging/ssh_config.d/30-vproxy.conf', '/etc/ssh/ssh_config.d/30-vproxy.conf');
  mkdirSync(join(root, 'etc/vproxy'), { recursive: true });

  for (const { file, section, text } of await formatManuals({ version, date })) {
    write(`/usr/share/man/man${section}/${file}.gz`, compress(text));
  }
  write('/usr/share/bash-completion/completions/vproxy', SCRIPTS.bash);
  write(`${zshFolder}/_vproxy`, SCRIPTS.zsh);
  write('/usr/share/fish/vendor_completions.d/vproxy.fish', SCRIPTS.fish);

  // In the default collections path of ansible-core.
  const collection = '/usr/share/ansible/collections/ansible_collections/vproxy/vproxy';
  for (const name of readdirSync(source('packaging/ansible'), { recursive: true })) {
    if (/\.(md|py|ya?ml)$/.test(name)) copy(`packaging/ansible/${name}`, `${collection}/${name}`);
  }

  const documents = '/usr/share/doc/vproxy';
  for (const name of readdirSync(source('docs')).filter((one) => /\.(md|json)$/.test(one)))
    copy(`docs/${name}`, `${documents}/${name}`);
  for (const name of ['guest-exec.conf', 'guest-restore.conf'])
    copy(`packaging/systemd/drop-ins/${name}`, `${documents}/examples/${name}`);
  for (const name of ['journal-to-host', 'journal-to-host.service', 'on-a-copy', 'replies.json', 'test-in-vm'])
    copy(`examples/${name}`, `${documents}/examples/${name}`);
  copy('packaging/prometheus/alerts.yml', `${documents}/examples/prometheus-alerts.yml`);
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      root: { type: 'string' },
      executable: { type: 'string', default: join(PROJECT, 'dist/vproxy-linux-x64') },
      zsh: { type: 'string', default: '/usr/share/zsh/site-functions' },
    },
  });
  if (values.root === undefined) throw new Error('--root FOLDER: missing');
  const { version } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));
  const date = new Date(Number(sourceDate()) * 1000);
  await stageFiles(values.root, { executable: values.executable, zshFolder: values.zsh, version, date });
}
