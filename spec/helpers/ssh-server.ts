/** The system's own ssh and sshd, joined without a port, with throw-away keys. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from './files.js';

const SSHD = '/usr/sbin/sshd';

/** Whether this machine has what that needs, and socat for the far end; root's sshd also needs its folder. */
export const HAS_SSH_SERVER =
  existsSync(SSHD) &&
  (process.getuid?.() !== 0 || existsSync('/run/sshd')) &&
  spawnSync('sh', ['-c', 'command -v ssh && command -v ssh-keygen && command -v socat']).status === 0;

/** The way of a process to a server on this machine. */
export interface SshRoute {
  /** The value of `PATH` for the process: its `ssh`, whatever host it names, reaches a server that lets this user in. */
  readonly searchPath: string;
  /** The process of the newest connection at either end of it; null before the first one. */
  readonly clientPid: () => number | null;
  readonly serverPid: () => number | null;
}

/** The value of `PATH` that leads to a server on this machine. */
export const sshSearchPath = (t: ExecutionContext): string => sshRoute(t).searchPath;

/** A server runs for as long as its connection. */
export function sshRoute(t: ExecutionContext): SshRoute {
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
      `ProxyCommand ${file('bin/server')}`,
      `IdentityFile ${file('user')}`,
      'IdentitiesOnly yes',
      `UserKnownHostsFile ${file('known_hosts')}`,
      'HostKeyAlias server',
      'StrictHostKeyChecking yes',
    ].join('\n'),
  );
  mkdirSync(file('bin'));
  const ssh = execFileSync('sh', ['-c', 'command -v ssh'], { encoding: 'utf8' }).trim();
  /** A program that says which process it is, and becomes another one. */
  const writeProgram = (name: string, command: string): void =>
    writeFileSync(file(`bin/${name}`), `#!/bin/sh\necho $$ >${file(`${name}.pid`)}\nexec ${command}\n`, {
      mode: 0o755,
    });
  writeProgram('ssh', `${ssh} -F ${file('ssh_config')} "$@"`);
  writeProgram('server', `${SSHD} -i -f ${file('sshd_config')} -E ${file('log')}`);
  const pidIn = (name: string) => (): number | null =>
    existsSync(file(name)) ? Number(readFileSync(file(name), 'utf8')) || null : null;
  return {
    searchPath: `${file('bin')}:${process.env['PATH'] ?? ''}`,
    clientPid: pidIn('ssh.pid'),
    serverPid: pidIn('server.pid'),
  };
}
