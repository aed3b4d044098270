/**
 * The SELinux module compiles against the reference policy, and so do its interfaces; it labels the files of the
 * package.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

const FOLDER = join(PROJECT_ROOT, 'packaging/selinux');
/** Of Debian's selinux-policy-dev. */
const MAKEFILE = '/usr/share/selinux/devel/Makefile';
const withPolicy = testWith('selinux-policy');

const NEIGHBOUR = `policy_module(neighbour, 1.0.0)
type neighbour_t;
type neighbour_runtime_t;
vproxy_stream_connect(neighbour_t)
vproxy_target(neighbour_t, neighbour_runtime_t)
`;

withPolicy('the module compiles, and so does one that uses its interfaces', (t) => {
  t.timeout(120_000);
  const folder = temporaryFolder(t);
  for (const name of readdirSync(FOLDER)) copyFileSync(join(FOLDER, name), join(folder, name));
  writeFileSync(join(folder, 'neighbour.te'), NEIGHBOUR);
  const args = ['-f', MAKEFILE, 'AWK=awk', 'vproxy.pp', 'neighbour.pp'];
  const { status, stdout, stderr } = spawnSync('make', args, { cwd: folder, encoding: 'utf8' });
  t.is(status, 0, `${stdout}${stderr}`);
  t.notRegex(`${stdout}${stderr}`, /warning|error/i);
  for (const name of ['vproxy.pp', 'neighbour.pp']) t.true(statSync(join(folder, name)).size > 1000);
});

test('it labels the program and the folders of the services', (t) => {
  const contexts = readFileSync(join(FOLDER, 'vproxy.fc'), 'utf8');
  const rows = [...contexts.matchAll(/^(\S+)\s.*:(vproxy_\w+),s0\)$/gm)];
  const labels = new Map(rows.map(([, path = '', type = '']) => [path, type]));
  t.deepEqual(Object.fromEntries(labels), {
    '/usr/bin/vproxy': 'vproxy_exec_t',
    '/etc/vproxy(/.*)?': 'vproxy_conf_t',
    '/run/vproxy(/.*)?': 'vproxy_runtime_t',
    '/var/log/vproxy(/.*)?': 'vproxy_log_t',
  });
  const policy = readFileSync(join(FOLDER, 'vproxy.te'), 'utf8');
  for (const type of labels.values()) t.true(policy.includes(`type ${type};`), type);
});
