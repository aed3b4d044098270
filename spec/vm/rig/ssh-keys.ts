/** The throw-away keys of a guest: its own, and the one that may log in. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Tools } from './tools.js';

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

/** Makes both keys in `folder`. */
export function makeSshKeys(tools: Tools, folder: string): SshKeys {
  const { hostKeyFile, identityFile, knownHostsFile } = keyFilesIn(folder);
  const told = execFileSync(tools.dropbearkey, ['-t', 'ed25519', '-f', hostKeyFile], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const hostKey = /^ssh-ed25519 \S+/m.exec(told)?.[0];
  if (hostKey === undefined) throw new Error(`dropbearkey printed no public key: ${told}`);
  writeFileSync(knownHostsFile, `guest ${hostKey}\n`);
  execFileSync(tools.sshKeygen, ['-q', '-t', 'ed25519', '-N', '', '-C', 'vproxy-vm-tests', '-f', identityFile]);
  return listSshKeys(folder);
}

/** The keys that were made in `folder` before. */
export function listSshKeys(folder: string): SshKeys {
  const files = keyFilesIn(folder);
  return { ...files, authorizedKey: readFileSync(`${files.identityFile}.pub`, 'utf8').trim() };
}

function keyFilesIn(folder: string): Omit<SshKeys, 'authorizedKey'> {
  return {
    hostKeyFile: join(folder, 'host_key'),
    identityFile: join(folder, 'identity'),
    knownHostsFile: join(folder, 'known_hosts'),
  };
}
