/** The RPM spec can be read by rpm's own programs, and agrees with the rest. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

const SPEC = join(PROJECT_ROOT, 'packaging/rpm/vproxy.spec');
const withRpm = testWith('rpm');

withRpm('rpmspec reads it', (t) => {
  const { status, stdout, stderr } = spawnSync('rpmspec', ['--query', '--queryformat', '%{name} %{version}', SPEC], {
    encoding: 'utf8',
  });
  t.is(status, 0, stderr);
  const { version } = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string };
  t.is(stdout, `vproxy ${version}`);
});

test('it lists every unit, and whatever else the Debian package has', (t) => {
  const text = readFileSync(SPEC, 'utf8');
  const units = readdirSync(join(PROJECT_ROOT, 'packaging/systemd')).filter((name) => /\.(service|socket)$/.test(name));
  for (const unit of units) t.true(text.includes(`\n%{_unitdir}/${unit}\n`), unit);
  for (const name of [
    '%{_prefix}/lib/vproxy',
    '60-vproxy.rules',
    '30-vproxy.conf',
    'sysusers',
    'tmpfiles',
    'man1/vproxy.1.gz',
    'man1/vproxy-storage.1.gz',
    'man5/vproxy.conf.5.gz',
    'man7/vproxy-protocol.7.gz',
    'completions/vproxy',
    'site-functions/_vproxy',
    'vendor_completions.d/vproxy.fish',
  ])
    t.true(text.includes(name), name);
});
