/** Scenes with simulated VMs: processes on the host's machine that listen where QEMU would. */
import { existsSync } from 'node:fs';
import type { Scene } from '../runner/scene.js';
import { hasSession, type Stage } from '../runner/stage.js';
import { addQemuUser, configureSsh, nameHosts, startGuest, startSshServer, startWebServer } from './parts.js';

/** Includes the commands of the documents. */
const NEEDS = ['curl', 'git', 'make', 'openssl', 'rsync', 'socat', 'sshd'] as const;

async function prepareVms(stage: Stage): Promise<void> {
  await nameHosts(stage, 'vm1', 'vm2', 'host2');
  await addQemuUser(stage);
  await configureSsh(stage);
  await Promise.all([startSshServer(stage), startWebServer(stage, '127.0.0.2:8080')]);
  await Promise.all([startGuest(stage, 'vm1'), startGuest(stage, 'vm2')]);
  // Files that documents copy, or run in a guest.
  await stage.run(`
    mkdir -p folder /srv/in /var/log/app && echo a > a.txt && cp a.txt folder/b.txt && cp a.txt /var/log/app/app.log
    head -c 100000 /dev/urandom > disk.img
    ls a.txt folder/* > files
    git init -q --bare /srv/repo
    printf 'test:\\n\\ttrue\\n' > Makefile`);
}

/** The guests vm1 and vm2, and a host without vproxy. A vproxy is ready when it has a session. */
export const twoVms: Scene = {
  needs: NEEDS,
  prepare: prepareVms,
  isReady(output, block) {
    const [, path] = /^socat UNIX-LISTEN:([^\s,]+)/.exec(block.text) ?? [];
    return path === undefined ? hasSession(output) : existsSync(path);
  },
};

/** The same, with a vproxy on the host that has one channel, `vm1`, and two forwards. */
export const oneVm: Scene = {
  needs: NEEDS,
  async prepare(stage) {
    await prepareVms(stage);
    await stage.start(
      'exec vproxy --name host1 -c vm1=unix-connect:/run/vm1.sock -o web:127.0.0.1:8081 -o ssh:/run/ssh.sock',
      hasSession,
    );
  },
};
