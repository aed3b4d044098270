// Makes dist/vproxy-guest_VERSION_ARCHITECTURE.deb of vproxy-guest, with go and dpkg-deb.
//
//     node guest/packaging/deb.mjs [--architecture amd64] [--output dist] [--quick]
//
// `--quick` skips compression. The build is reproducible (SOURCE_DATE_EPOCH; default: the last commit).
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { sourceDate } from '../../packaging/source-date.mjs';
import { PROCESSORS, version } from './build.mjs';
import { put, stageGuest } from './stage.mjs';

const PROJECT = join(import.meta.dirname, '../..');
const { DEBFULLNAME = 'The vproxy authors', DEBEMAIL = 'vproxy@example.org' } = process.env;
const { values } = parseArgs({
  options: {
    architecture: { type: 'string', default: 'amd64' },
    output: { type: 'string', default: join(PROJECT, 'dist') },
    quick: { type: 'boolean', default: false },
  },
});
const { architecture } = values;
const processor = Object.keys(PROCESSORS).find((one) => PROCESSORS[one] === architecture);
if (processor === undefined)
  throw new Error(`--architecture ${architecture}: not one of ${Object.values(PROCESSORS).join(', ')}`);

const CONTROL = `Package: vproxy-guest
Version: ${version}-1
Architecture: ${architecture}
Maintainer: ${DEBFULLNAME} <${DEBEMAIL}>
Section: net
Priority: optional
Description: guest's side of vproxy in one small static program
 Forwards, commands, storage calls and facts about the machine for the host
 of a virtual machine, over a virtio-serial port: a udev rule starts
 vproxy-guest-port@.service for each port named org.vproxy.something.
`;

const POSTINST = `#!/bin/sh
set -e
if [ "$1" = configure ]; then "\${DPKG_ROOT:-}/usr/lib/vproxy-guest/rename-unit" vproxy-port vproxy-guest-port || true; fi
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
  systemd-sysusers vproxy-port.conf
  systemctl --system daemon-reload || true
  udevadm control --reload || true
  udevadm trigger --action=change --subsystem-match=virtio-ports || true
  systemctl try-restart 'vproxy-guest-port@*.service' || true
fi
`;

const PRERM = `#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  systemctl stop 'vproxy-guest-port@*.service' || true
fi
`;

const POSTRM = `#!/bin/sh
set -e
if [ "$1" = purge ]; then
  rm -rf "\${DPKG_ROOT:-}/var/lib/vproxy-guest" "\${DPKG_ROOT:-}/run/vproxy-guest-options"
fi
`;

const root = mkdtempSync(join(tmpdir(), 'vproxy-guest-deb-'));
try {
  stageGuest(root, processor);
  const day = new Date(Number(sourceDate()) * 1000).toUTCString().replace('GMT', '+0000');
  const entry = `vproxy-guest (${version}-1) unstable; urgency=medium\n\n  * Version ${version}.\n\n -- ${DEBFULLNAME} <${DEBEMAIL}>  ${day}\n`;
  put(root, 'usr/share/doc/vproxy-guest/changelog.Debian.gz', gzipSync(entry, { level: 9 }));
  put(root, 'DEBIAN/control', CONTROL);
  put(root, 'DEBIAN/preinst', readFileSync(join(PROJECT, 'packaging/deb/preinst')), 0o755);
  put(root, 'DEBIAN/postinst', POSTINST, 0o755);
  put(root, 'DEBIAN/prerm', PRERM, 0o755);
  put(root, 'DEBIAN/postrm', POSTRM, 0o755);
  execFileSync('chmod', ['-R', 'u=rwX,go=rX', root]);
  const file = join(resolve(values.output), `vproxy-guest_${version}-1_${architecture}.deb`);
  const env = { ...process.env, SOURCE_DATE_EPOCH: sourceDate() };
  execFileSync('dpkg-deb', ['--root-owner-group', values.quick ? '-Znone' : '-Zxz', '--build', root, file], {
    env,
    stdio: 'ignore',
  });
  console.log(file);
} finally {
  rmSync(root, { recursive: true, force: true });
}
