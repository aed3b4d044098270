/**
 * docs/recipes.md, a VM that installs its packages without a network: a Debian guest, on whose host Debian's names lead to
 * the scene's own servers, with a repository that has `hello`.
 */
import assert from 'node:assert/strict';
import { basename, join } from 'node:path';
import { makeCertificate } from '../../../helpers/certificates.js';
import { type MadeRepository, makeRepository } from '../../../helpers/egress-sites.js';
import { originHosts, originsProgram, ROUTES } from '../../../helpers/egress-world.js';
import { type Guest, SHARED_FOLDER } from '../../../vm/rig/guest.js';
import { bundleTo } from '../../../vm/rig/make-package.js';
import { DEBIAN_SYSTEM, RIG_FOLDER } from '../../../vm/rig/systemd-initramfs.js';
import type { Scene } from '../../runner/scene.js';
import { virtualMachine } from '../virtual-machine.js';

const FOLDER = '/srv/origins';
const MIRROR = 'deb.debian.org';

/** A name of the same servers that the recipe does not allow. */
const OTHER = 'example.org';

export function egress(): Scene {
  let repository: MadeRepository | undefined;
  let guest: Guest | undefined;
  const scene = virtualMachine({
    async prepare(stage) {
      await stage.run(`mkdir ${FOLDER}; printf '${originHosts([MIRROR, OTHER])}' >> /etc/hosts`);
      for (const route of ROUTES) await stage.run(`ip route add local ${route} dev lo`);
      makeCertificate(FOLDER, 'origin', [MIRROR]);
      repository = makeRepository(FOLDER, MIRROR, { names: ['hello'], suite: 'bookworm' });
      await stage.start(`exec ${originsProgram(FOLDER).join(' ')}`, (output) => /^ready$/m.test(output));
    },
    plan: () => ({ system: DEBIAN_SYSTEM }),
    async prepareGuest(booted) {
      guest = booted;
      const bundle = join(booted.folder, 'vproxy.cjs');
      bundleTo(bundle);
      await booted.addFiles(bundle, repository?.keyFile ?? '');
      const program = `#!/bin/sh\\nexec ${RIG_FOLDER}/node ${SHARED_FOLDER}/vproxy.cjs "$@"\\n`;
      await booted.agent.output(`printf '${program}' > /usr/bin/vproxy; chmod 755 /usr/bin/vproxy`);
      const key = `${SHARED_FOLDER}/${basename(repository?.keyFile ?? '')}`;
      const source = `deb [signed-by=${key}] http://${MIRROR}/debian bookworm main`;
      await booted.agent.output(`echo '${source}' > /etc/apt/sources.list`);
    },
  });
  return {
    ...scene,
    async check() {
      const sum = await guest?.agent.output('sha256sum < /usr/share/hello/data');
      assert.equal(sum, `${repository?.packages.get('hello')}  -`, 'the package is installed');
    },
  };
}
