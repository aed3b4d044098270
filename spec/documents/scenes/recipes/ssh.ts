/** docs/recipes.md, ssh without a port: the system's ssh, sshd, scp, sftp, rsync, sshfs and ssh-agent, with the scene's keys. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { projectText } from '../../../helpers/files.js';
import type { Scene } from '../../runner/scene.js';
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
    await stage.run(`
      rm -f /etc/ssh/ssh_config.d/*
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
  check() {
    const packaged = projectText('packaging/ssh_config.d/30-vproxy.conf');
    assert.equal(readFileSync('/etc/ssh/ssh_config.d/30-vproxy.conf', 'utf8'), packaged);
    return Promise.resolve();
  },
};

/** rsync in the guest, and no sshd. */
export const copy: Scene = { needs: ['rsync'], ...SAME_MACHINE, prepare: standInForPort };

export const sshfs: Scene = { needs: ['root', 'sshd', 'sshfs'], ...withKeys };

/** Only the agent has the key: it is in no folder in which the guest could find it by the name of the public key. */
export const agent: Scene = {
  needs: ['sshd'],
  ...withKeys,
  async check(stage) {
    await stage.run('. ~/.ssh/agent.env > /dev/null && kill "$SSH_AGENT_PID"');
  },
};
