/** The throw-away keys of the guests: their own, and the one that may log in. They are part of states that are kept. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { PROJECT_ROOT } from '../../helpers/files.js';
import type { Tools } from './tools.js';

/** Where states and keys are that belong to a build. */
export const GUESTS_FOLDER = join(PROJECT_ROOT, 'dist/guests');

/** Files in one folder. */
export interface SshKeys {
  /** The host key in dropbear's form. */
  readonly hostKeyFile: string;
  /** The private key to log in with. */
  readonly identityFile: string;
  /** The public key to log in with, as a line for `authorized_keys`. */
  readonly authorizedKey: string;
  /** Knows the guest's host key under the name `guest`. */
  readonly knownHostsFile: string;
}

/** The keys of all guests; they are made where they are missing. */
export function sshKeys(tools: Tools): SshKeys {
  const folder = join(GUESTS_FOLDER, 'keys');
  if (!existsSync(folder)) {
    mkdirSync(GUESTS_FOLDER, { recursive: true });
    const temporary = mkdtempSync(`${folder}-`);
    try {
      makeKeys(tools, temporary);
      renameSync(temporary, folder);
    } catch (error) {
      // Another process has made them at the same time.
      if (!existsSync(folder)) throw error;
    } finally {
      rmSync(temporary, { recursive: true, force: true });
    }
  }
  const files = keyFilesIn(folder);
  return { ...files, authorizedKey: readFileSync(`${files.identityFile}.pub`, 'utf8').trim() };
}

function makeKeys(tools: Tools, folder: string): void {
  const { hostKeyFile, identityFile, knownHostsFile } = keyFilesIn(folder);
  const told = execFileSync(tools.dropbearkey, ['-t', 'ed25519', '-f', hostKeyFile], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const hostKey = /^ssh-ed25519 \S+/m.exec(told)?.[0];
  if (hostKey === undefined) throw new Error(`dropbearkey printed no public key: ${told}`);
  writeFileSync(knownHostsFile, `guest ${hostKey}\n`);
  execFileSync(tools.sshKeygen, ['-q', '-t', 'ed25519', '-N', '', '-C', 'vproxy-vm-tests', '-f', identityFile]);
}

function keyFilesIn(folder: string): Omit<SshKeys, 'authorizedKey'> {
  return {
    hostKeyFile: join(folder, 'host_key'),
    identityFile: join(folder, 'identity'),
    knownHostsFile: join(folder, 'known_hosts'),
  };
}
