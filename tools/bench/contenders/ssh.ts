/** `ssh -L` against an sshd of its own on the loopback, with its own host key, user key and configuration. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { eventually } from '../../../spec/helpers/time.js';
import { findProgram } from '../process/find-program.js';
import { findFreePort } from '../process/free-port.js';
import type { Programs, RunningProgram } from '../process/programs.js';
import type { Contender } from './contender.js';

/**
 * The empty folder that root's sshd requires; its service creates it, and this does if the service does not run.
 */
const PRIVILEGE_SEPARATION_FOLDER = '/run/sshd';

const isRoot = (): boolean => process.getuid?.() === 0;

/** ssh's port forwarding with its default cipher. Its channel is a TCP connection. */
export const ssh: Contender = {
  id: 'ssh',
  title: 'ssh -L',
  descriptorsPerStream: 1,
  missing: () => {
    const isThere = ['ssh', 'sshd', 'ssh-keygen'].every((name) => findProgram(name) !== undefined);
    return isThere ? undefined : 'apt-get install openssh-client openssh-server';
  },
  async start({ programs, folder, target }) {
    const address = await findFreePort();
    const { port, keyFile, program: far } = await startSshServer(programs, folder);
    const near = programs.start('ssh', [
      ...['-F', 'none', '-N', '-p', `${port}`, '-i', keyFile],
      ...[...CLIENT_OPTIONS, 'ExitOnForwardFailure=yes'].flatMap((option) => ['-o', option]),
      ...['-L', `127.0.0.1:${address}:127.0.0.1:${target}`, `${userInfo().username}@127.0.0.1`],
    ]);
    return { address, near: [near], far: [far] };
  },
};

/** Options of a client that never prompts, and leaves nothing behind. */
export const CLIENT_OPTIONS: readonly string[] = [
  'BatchMode=yes',
  'StrictHostKeyChecking=no',
  'UserKnownHostsFile=/dev/null',
  'LogLevel=ERROR',
];

/** An sshd that accepts this user. */
export interface SshServer {
  /** Of 127.0.0.1. */
  readonly port: number;
  /** The key of this user. */
  readonly keyFile: string;
  readonly program: RunningProgram;
}

/** Starts one; resolves when it listens. Its configuration is in `folder`, its keys beside that. */
export async function startSshServer(programs: Programs, folder: string): Promise<SshServer> {
  const port = await findFreePort();
  const keys = makeKeys(dirname(folder));
  const config = join(folder, 'sshd_config');
  writeFileSync(config, formatSshdConfig(port, keys));
  if (isRoot()) mkdirSync(PRIVILEGE_SEPARATION_FOLDER, { recursive: true, mode: 0o755 });
  const program = programs.start(findProgram('sshd') ?? 'sshd', ['-D', '-e', '-f', config]);
  await waitForListener(port, program);
  return { port, keyFile: join(keys, 'user_key'), program };
}

/** Waits for sshd, as ssh gives up if it does not listen yet. */
async function waitForListener(port: number, sshd: RunningProgram): Promise<void> {
  const options = { intervalMs: 2, what: 'sshd' };
  await eventually(() => sshd.hasEnded || canConnect(port), options);
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** The folder of the keys: made by the first start, so that later ones can be timed. */
function makeKeys(parent: string): string {
  const folder = join(parent, 'ssh-keys');
  if (existsSync(folder)) return folder;
  mkdirSync(folder);
  for (const key of ['host_key', 'user_key']) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, key)]);
  }
  return folder;
}

function formatSshdConfig(port: number, keys: string): string {
  const lines = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${join(keys, 'host_key')}`,
    `AuthorizedKeysFile ${join(keys, 'user_key.pub')}`,
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    // Without it, sshd refuses an account whose password is locked, as root's often is; a user's sshd cannot use it.
    `UsePAM ${isRoot() ? 'yes' : 'no'}`,
    'StrictModes no',
    // By default, sshd refuses some of 40 commands that start at a time.
    'MaxStartups 100',
    'MaxSessions 100',
    // Otherwise bash runs the user's .bashrc before each command.
    'SetEnv SHLVL=1',
    'Subsystem sftp internal-sftp',
    'PidFile none',
  ];
  return `${lines.join('\n')}\n`;
}
