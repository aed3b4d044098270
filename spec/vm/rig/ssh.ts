/** The real ssh of this machine, logging in to the guest through a local port. */
import { spawn } from 'node:child_process';

import { within } from '../../helpers/time.js';
import type { Guest } from './guest.js';

/** What a remote command printed, and its exit status; 255 is a failure of ssh itself. */
export interface SshResult {
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly status: number | null;
}

/** How ssh gets to the guest: through a port of 127.0.0.1, or through the standard streams of a command. */
export type SshWay = number | { readonly proxyCommand: string };

/** Runs `command` in the guest, with `stdin` as its input. Rejects after two minutes. */
export async function ssh(guest: Guest, way: SshWay, command: string, stdin: Buffer | string = ''): Promise<SshResult> {
  const child = spawn(guest.tools.ssh, [...sshArguments(guest, way), command], { stdio: ['pipe', 'pipe', 'pipe'] });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  // A remote command that ends early leaves its input unread.
  child.stdin.on('error', () => undefined);
  child.stdin.end(stdin);
  const ended = new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve));
  try {
    const status = await within(120_000, `ssh ${command}`, ended);
    return { stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString(), status };
  } finally {
    child.kill('SIGKILL');
  }
}

/** The arguments with which ssh logs in to the guest; a command may follow them. */
export function sshArguments(guest: Guest, way: SshWay): string[] {
  const options = {
    BatchMode: 'yes',
    ConnectTimeout: '20',
    HostKeyAlias: 'guest',
    IdentitiesOnly: 'yes',
    StrictHostKeyChecking: 'yes',
    UserKnownHostsFile: guest.keys.knownHostsFile,
    // The cheapest that dropbear speaks: under emulation the others take twice as long.
    Ciphers: 'aes128-ctr',
    MACs: 'hmac-sha1',
  };
  const pairs = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  const through = typeof way === 'number' ? ['-p', String(way)] : ['-o', `ProxyCommand=${way.proxyCommand}`];
  return ['-F', 'none', '-i', guest.keys.identityFile, ...through, ...pairs, 'root@127.0.0.1'];
}
