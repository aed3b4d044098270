/** What a package does for the services that run, with programs of the spec in the places of systemctl and vproxy. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

const SCRIPT = join(PROJECT_ROOT, 'packaging/systemd/restart-services');
const withShellcheck = testWith('shellcheck');

/** Units that systemd lists, of which some do not run. */
interface Machine {
  readonly units: readonly string[];
  readonly inactive?: readonly string[];
  /** What `vproxy upgrade` says before it fails, by control socket. */
  readonly failures?: Readonly<Record<string, string>>;
}

/** Runs the script with these arguments, and gives what it says, and what it has asked others to do. */
function runScript(t: ExecutionContext, { units, inactive = [], failures = {} }: Machine, ...args: string[]) {
  const folder = temporaryFolder(t);
  const calls = join(folder, 'calls');
  writeFileSync(calls, '');
  const program = (name: string, body: string): void => {
    writeFileSync(join(folder, name), `#!/bin/sh\n${body}\n`);
    chmodSync(join(folder, name), 0o755);
  };
  const note = `echo "$(basename "$0") $*" >> '${calls}'`;
  program(
    'systemctl',
    `case "$*" in
list-units*) printf '%s loaded active running x\\n' ${units.join(' ')};;
*is-active*) case " ${inactive.join(' ')} " in *" $3 "*) exit 3;; esac;;
show*Environment*) name=\${4%.service}; echo "A=b VPROXY_SOCKET=/run/vproxy/\${name##*@}.sock VPROXY_OPTIONS=";;
*) ${note};;
esac`,
  );
  const fails = Object.entries(failures).map(([socket, text]) => `*${socket}) printf '${text}' >&2; exit 1;;`);
  program('vproxy', `${note}\necho handed over\ncase "$*" in\n${fails.join('\n')}\nesac`);
  program('deb-systemd-invoke', note);
  const env = { PATH: `${folder}:${process.env['PATH'] ?? ''}` };
  const { status, stdout, stderr } = spawnSync('sh', [SCRIPT, ...args], { encoding: 'utf8', env });
  return { status, stdout, stderr, calls: readFileSync(calls, 'utf8').split('\n').filter(Boolean) };
}

test('each service that runs hands over, and is not restarted', (t) => {
  const units = ['vproxy@vm1.service', 'vproxy-guest@org.vproxy.0.service'];
  t.deepEqual(runScript(t, { units }), {
    status: 0,
    stdout: units.map((unit) => `${unit} runs the new program, and has kept its connections.\n`).join(''),
    stderr: '',
    calls: ['vproxy upgrade --socket /run/vproxy/vm1.sock', 'vproxy upgrade --socket /run/vproxy/org.vproxy.0.sock'],
  });
});

test('what cannot hand over says why, and is restarted; the others are not', (t) => {
  const units = ['vproxy@vm1.service', 'vproxy@vm2.service', 'vproxy@vm3.service'];
  const failures = { 'vm1.sock': 'vproxy: error: a command of exec runs\\nand more', 'vm3.sock': '' };
  t.deepEqual(runScript(t, { units, failures }), {
    status: 0,
    stdout: 'vproxy@vm2.service runs the new program, and has kept its connections.\n',
    stderr:
      'vproxy@vm1.service is restarted: vproxy: error: a command of exec runs\n' +
      'vproxy@vm3.service is restarted: no reason is given\n',
    calls: [
      'vproxy upgrade --socket /run/vproxy/vm1.sock',
      'systemctl try-restart vproxy@vm1.service',
      'vproxy upgrade --socket /run/vproxy/vm2.sock',
      'vproxy upgrade --socket /run/vproxy/vm3.sock',
      'systemctl try-restart vproxy@vm3.service',
    ],
  });
});

test('what does not run is asked nothing', (t) => {
  const units = ['vproxy@vm1.service'];
  const { status, stderr, calls } = runScript(t, { units, inactive: units });
  // Which does nothing, unless it is on its way.
  t.deepEqual(
    { status, stderr, calls },
    { status: 0, stderr: '', calls: ['systemctl try-restart vproxy@vm1.service'] },
  );
});

test('a service whose command has installed the package hands over when that has ended', (t) => {
  const { pid } = spawnSync('true');
  const { status, calls } = runScript(t, { units: [] }, String(pid), 'vproxy@vm1.service');
  t.is(status, 0);
  t.deepEqual(calls, ['vproxy upgrade --socket /run/vproxy/vm1.sock']);
});

test('the policy of a Debian machine is asked for vproxy.service', (t) => {
  const { status, calls } = runScript(t, { units: ['vproxy.service'], failures: { 'vproxy.sock': 'no' } });
  t.is(status, 0);
  const asked = existsSync('/usr/sbin/policy-rc.d') ? [] : ['vproxy upgrade --socket /run/vproxy/vproxy.sock'];
  t.deepEqual(calls, [...asked, 'deb-systemd-invoke try-restart vproxy.service']);
});

withShellcheck('shellcheck finds nothing wrong with it', (t) => {
  const { status, stdout } = spawnSync('shellcheck', [SCRIPT], { encoding: 'utf8' });
  t.is(status, 0, stdout);
});
