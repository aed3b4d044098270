/** The real ssh of this machine, logging in to the guest through a local port, and throw-away keys, which kept states contain. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../helpers/files.js';
import { within } from '../../helpers/time.js';
import type { Guest } from './guest.js';
import type { Tools } from './tools.js';

/** The folder of the states and keys of a build. */
export const GUESTS_FOLDER = join(PROJECT_ROOT, 'dist/guests');

export interface SshKeys {
  /** The host key in dropbear's form. */
  readonly hostKeyFile: string;
  /** The private key to log in with; the public one is beside it. */
  readonly identityFile: string;
  /** Knows the guest's host key under the name `guest`. */
  readonly knownHostsFile: string;
}

/** The keys of all guests, which are created if missing. */
export function sshKeys(tools: Tools): SshKeys {
  const folder = join(GUESTS_FOLDER, 'keys');
  if (!existsSync(folder)) {
    mkdirSync(GUESTS_FOLDER, { recursive: true });
    const temporary = mkdtempSync(`${folder}-`);
    try {
      makeKeys(tools, temporary);
      renameSync(temporary, folder);
    } catch (error) {
      // Another process has created them at the same time.
      if (!existsSync(folder)) throw error;
    } finally {
      rmSync(temporary, { recursive: true, force: true });
    }
  }
  return keyFilesIn(folder);
}

const keyFilesIn = (folder: string): SshKeys => ({
  hostKeyFile: join(folder, 'host_key'),
  identityFile: join(folder, 'identity'),
  knownHostsFile: join(folder, 'known_hosts'),
});

function makeKeys(tools: Tools, folder: string): void {
  const { hostKeyFile, identityFile, knownHostsFile } = keyFilesIn(folder);
  const words = ['-t', 'ed25519', '-f', hostKeyFile];
  const told = execFileSync(tools.dropbearkey, words, { encoding: 'utf8', stdio: 'pipe' });
  const hostKey = /^ssh-ed25519 \S+/m.exec(told)?.[0];
  if (hostKey === undefined) throw new Error(`dropbearkey printed no public key: ${told}`);
  writeFileSync(knownHostsFile, `guest ${hostKey}\n`);
  execFileSync(tools.sshKeygen, ['-q', '-t', 'ed25519', '-N', '', '-C', 'vproxy-vm-tests', '-f', identityFile]);
}

/** ssh configuration with which the guest's key is known, and ours is accepted. */
export const sshSettings = ({ identityFile, knownHostsFile }: SshKeys): readonly string[] => [
  `IdentityFile ${identityFile}`,
  'IdentitiesOnly yes',
  'HostKeyAlias guest',
  `UserKnownHostsFile ${knownHostsFile}`,
  // The cheapest that dropbear supports: under emulation, the others take twice as long.
  'Ciphers aes128-ctr',
  'MACs hmac-sha1',
];

/** The arguments with which ssh logs in to the guest through a port of 127.0.0.1; a command may follow them. */
export function sshArguments({ keys }: Guest, port: number): string[] {
  const settings = [...sshSettings(keys), 'BatchMode yes', 'ConnectTimeout 20', 'StrictHostKeyChecking yes'];
  return ['-F', 'none', '-p', String(port), ...settings.flatMap((setting) => ['-o', setting]), 'root@127.0.0.1'];
}

/** Runs `command` in the guest, with `stdin` as its input. Rejects after two minutes. Status 255 is a failure of ssh itself. */
export async function ssh(guest: Guest, port: number, command: string, stdin: Buffer) {
  const child = spawn(guest.tools.ssh, [...sshArguments(guest, port), command], { stdio: 'pipe' });
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
