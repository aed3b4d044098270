/**
 * Files for distributions: rpm's own tools accept the RPM spec, which agrees with the rest; the SELinux module compiles against
 * the reference policy; the system's ssh reads packaging/ssh_config.d/30-vproxy.conf as intended.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

const SPEC = join(PROJECT_ROOT, 'packaging/rpm/vproxy.spec');

testWith('rpm')('rpmspec accepts the RPM spec', (t) => {
  const args = ['--query', '--queryformat', '%{name} %{version}', SPEC];
  const { status, stdout, stderr } = spawnSync('rpmspec', args, { encoding: 'utf8' });
  const { version } = JSON.parse(projectText('package.json')) as { version: string };
  t.deepEqual([status, stdout], [0, `vproxy ${version}`], stderr);
});

test('the RPM spec lists every unit, and every other file of the Debian package', (t) => {
  const text = readFileSync(SPEC, 'utf8');
  const units = readdirSync(join(PROJECT_ROOT, 'packaging/systemd')).filter((name) => /\.(service|socket)$/.test(name));
  for (const unit of units) t.true(text.includes(`\n%{_unitdir}/${unit}\n`), unit);
  for (const name of [
    ...['%{_prefix}/lib/vproxy', '60-vproxy.rules', '30-vproxy.conf', 'sysusers', 'tmpfiles'],
    ...['man1/vproxy*.1.gz', 'man5/vproxy.conf.5.gz', 'man7/vproxy-protocol.7.gz'],
    ...['completions/vproxy', 'site-functions/_vproxy', 'vendor_completions.d/vproxy.fish'],
  ])
    t.true(text.includes(name), name);
});

const SELINUX = join(PROJECT_ROOT, 'packaging/selinux');
/** Of Debian's selinux-policy-dev. */
const MAKEFILE = '/usr/share/selinux/devel/Makefile';

const NEIGHBOUR = `policy_module(neighbour, 1.0.0)
type neighbour_t;
type neighbour_runtime_t;
vproxy_stream_connect(neighbour_t)
vproxy_target(neighbour_t, neighbour_runtime_t)
`;

testWith('selinux-policy')('the SELinux module compiles, and so does one that uses its interfaces', (t) => {
  t.timeout(120_000);
  const folder = temporaryFolder(t);
  for (const name of readdirSync(SELINUX)) copyFileSync(join(SELINUX, name), join(folder, name));
  writeFileSync(join(folder, 'neighbour.te'), NEIGHBOUR);
  const args = ['-f', MAKEFILE, 'AWK=awk', 'vproxy.pp', 'neighbour.pp'];
  const { status, stdout, stderr } = spawnSync('make', args, { cwd: folder, encoding: 'utf8' });
  t.is(status, 0, `${stdout}${stderr}`);
  t.notRegex(`${stdout}${stderr}`, /warning|error/i);
  for (const name of ['vproxy.pp', 'neighbour.pp']) t.true(statSync(join(folder, name)).size > 1000);
});

test('the SELinux module labels the program and the folders of the services', (t) => {
  const contexts = readFileSync(join(SELINUX, 'vproxy.fc'), 'utf8');
  const rows = [...contexts.matchAll(/^(\S+)\s.*:(vproxy_\w+),s0\)$/gm)];
  const labels = new Map(rows.map(([, path = '', type = '']) => [path, type]));
  t.deepEqual(Object.fromEntries(labels), {
    '/usr/bin/vproxy': 'vproxy_exec_t',
    '/etc/vproxy(/.*)?': 'vproxy_conf_t',
    '/run/vproxy(/.*)?': 'vproxy_runtime_t',
    '/var/log/vproxy(/.*)?': 'vproxy_log_t',
  });
  const policy = readFileSync(join(SELINUX, 'vproxy.te'), 'utf8');
  for (const type of labels.values()) t.true(policy.includes(`type ${type};`), type);
});

const CONFIGURATION = join(PROJECT_ROOT, 'packaging/ssh_config.d/30-vproxy.conf');
const withSsh = testWith('ssh');

/** The arguments with which `ssh HOST` calls `vproxy`, a line for each; null if it does not. */
function argumentsFor(t: ExecutionContext, host: string, configuration = CONFIGURATION): string[] | null {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'vproxy'), `#!/bin/sh\nprintf '%s\\n' "$@" > ${folder}/called\n`, { mode: 0o755 });
  spawnSync('ssh', ['-F', configuration, '-o', 'BatchMode=yes', '--', host, 'true'], {
    cwd: folder,
    env: { ...process.env, SHELL: '/bin/sh', PATH: `${folder}:${process.env['PATH'] ?? ''}` },
  });
  t.deepEqual(
    readdirSync(folder).filter((name) => name !== 'called'),
    ['vproxy'],
    'a shell has run a part of the name',
  );
  const called = join(folder, 'called');
  return existsSync(called) ? readFileSync(called, 'utf8').trimEnd().split('\n') : null;
}

withSsh('a label is a name with a slash or a percent sign, with and without a user, and vproxy judges it', (t) => {
  for (const [host, service] of [
    ['vproxy/vm1', 'vm1/ssh'],
    ['vproxy%vm1', 'vm1/ssh'],
    ['root@vproxy/vm-1.example_2', 'vm-1.example_2/ssh'],
    // Errors: no other service can be reached.
    ['vproxy/vm1/other', 'vm1/other/ssh'],
    ['vproxy/-h', '-h/ssh'],
  ] as const) {
    t.deepEqual(argumentsFor(t, host), ['connect', '--', service], host);
  }
});

withSsh('what no label is gets to vproxy as one word, or not at all', (t) => {
  // Newer versions of ssh reject such names themselves, older ones do not: what counts is what the shell would run.
  for (const name of ['$(touch$IFS./run)', '`touch${IFS}run`', 'a;touch run', 'a b', '*']) {
    const words = argumentsFor(t, `vproxy/${name}`);
    t.true(words === null || words.length === 3, name);
  }
  for (const host of ["vproxy/a';touch run;'", 'vproxy', 'vproxyx']) t.is(argumentsFor(t, host), null, host);
  // The same rule with a letter instead of the quote shows that it is obeyed, even if ssh checks names before.
  const text = readFileSync(CONFIGURATION, 'utf8');
  t.true(text.includes(`"!*'*"`));
  const changed = join(temporaryFolder(t), 'changed.conf');
  writeFileSync(changed, text.replace(`"!*'*"`, '"!*q*"'));
  t.is(argumentsFor(t, 'vproxy/aqb', changed), null);
  t.not(argumentsFor(t, 'vproxy/ab', changed), null);
});
