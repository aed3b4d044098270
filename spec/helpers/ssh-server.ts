/** The system's own ssh and sshd, joined without a port, with throw-away keys. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from './files.js';

const SSHD = '/usr/sbin/sshd';

/**
 * The value of `PATH` for a process whose `ssh`, whatever host it names, reaches a server on this machine that admits this user.
 * The server lives as long as the connection.
 */
export function sshSearchPath(t: ExecutionContext): string {
  // As root, sshd requires this folder, which its service creates.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true });
  const folder = temporaryFolder(t);
  const file = (name: string) => join(folder, name);
  for (const key of ['host', 'user']) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file(key)]);
  writeFileSync(file('known_hosts'), `server ${readFileSync(file('host.pub'), 'utf8')}`);
  writeFileSync(
    file('sshd_config'),
    [
      `HostKey ${file('host')}`,
      `AuthorizedKeysFile ${file('user.pub')}`,
      'StrictModes no',
      'UsePAM no',
      'PasswordAuthentication no',
      'PermitRootLogin yes',
    ].join('\n'),
  );
  writeFileSync(
    file('ssh_config'),
    [
      `ProxyCommand ${SSHD} -i -f ${file('sshd_config')} -E ${file('log')}`,
      `IdentityFile ${file('user')}`,
      'IdentitiesOnly yes',
      `UserKnownHostsFile ${file('known_hosts')}`,
      'HostKeyAlias server',
      'StrictHostKeyChecking yes',
    ].join('\n'),
  );
  mkdirSync(file('bin'));
  const ssh = execFileSync('sh', ['-c', 'command -v ssh'], { encoding: 'utf8' }).trim();
  writeFileSync(file('bin/ssh'), `#!/bin/sh\nexec ${ssh} -F ${file('ssh_config')} "$@"\n`, { mode: 0o755 });
  return `${file('bin')}:${process.env['PATH'] ?? ''}`;
}
