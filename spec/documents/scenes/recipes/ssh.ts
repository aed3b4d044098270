/** docs/recipes.md, ssh without a port: the system's ssh, sshd, scp, sftp, rsync, sshfs and ssh-agent, with the scene's keys. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Scene } from '../../runner/scene.js';
import { hasSession } from '../../runner/stage.js';
import { configureSsh } from '../parts.js';
import { SAME_MACHINE, standInForPort } from './same-machine.js';

const SETTINGS = `
HostKey /etc/ssh/scene_key
ListenAddress 127.0.0.1:22
StrictModes no
UsePAM no
PermitRootLogin yes
Subsystem sftp internal-sftp
`;

const SSHD = '/usr/sbin/sshd -e -f /etc/ssh/scene_config';

const SYSTEMD_SOCKET = '/run/ssh-unix-local/socket';

const withKeys: Pick<Scene, 'prepare' | 'openGuest' | 'isReady'> = {
  ...SAME_MACHINE,
  async prepare(stage) {
    await standInForPort(stage);
    await configureSsh(stage);
    await stage.run(`
      mkdir -m 700 .ssh
      ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519
      cp .ssh/id_ed25519.pub .ssh/authorized_keys
      ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/scene_key`);
    stage.write('/etc/ssh/scene_config', SETTINGS);
    await stage.start(`exec ${SSHD} -D`, (output) => output.includes('Server listening'));
  },
};

export const ssh: Scene = {
  needs: ['curl', 'python', 'rsync', 'socat', 'sshd'],
  ...withKeys,
  async prepare(stage) {
    await withKeys.prepare?.(stage);
    await stage.run(`mkdir -p ${dirname(SYSTEMD_SOCKET)}`);
    // As systemd does.
    const listen = `exec socat UNIX-LISTEN:${SYSTEMD_SOCKET},fork EXEC:'${SSHD} -i',nofork`;
    await stage.start(listen, () => existsSync(SYSTEMD_SOCKET));
  },
  /** What VS Code does, with a server in Python instead of its own. */
  async check(stage) {
    stage.write(
      'start-server',
      `echo $$ > /srv/server.pid
echo hello > /srv/index.html
exec python3 -m http.server --bind 127.0.0.1 --directory /srv 8000
`,
    );
    const hellos = await stage.run(`
      ssh -T -D 127.0.0.1:41321 vm1 bash < start-server > server.log 2>&1 &
      get() { curl --silent --fail --socks5-hostname 127.0.0.1:41321 http://127.0.0.1:8000/; }
      export -f get
      until get > first; do sleep 0.2; done
      seq 20 | xargs -P 10 -I '{}' bash -c 'get > answer.{}'
      cat answer.* | grep -c hello
      ssh vm1 'kill $(cat /srv/server.pid)'
      wait`);
    assert.equal(hellos, '20\n');
  },
};

/** rsync in the guest, and no sshd. */
export const copy: Scene = { needs: ['rsync'], ...SAME_MACHINE, prepare: standInForPort };

export const sshfs: Scene = {
  needs: ['root', 'sshd', 'sshfs'],
  ...withKeys,
  async prepare(stage) {
    await withKeys.prepare?.(stage);
    // Both sides, as in the recipe for ssh.
    const guest = 'exec vproxy -c virtserial-open:org.vproxy.0 -i ssh:127.0.0.1:22';
    await stage.start(guest, (output) => output.includes('waiting for the peer'));
    await stage.start('exec vproxy -c vm1=unix-connect:/run/vm1.sock', hasSession);
  },
};

/** Only the agent has the key: it is in no folder in which the guest could find it by the name of the public key. */
export const agent: Scene = {
  needs: ['sshd'],
  ...withKeys,
  async check(stage) {
    await stage.run('. ~/.ssh/agent.env > /dev/null && kill "$SSH_AGENT_PID"');
  },
};
