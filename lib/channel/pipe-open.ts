/**
 * `pipe-open:PATH`: the host's side of QEMU's pipe chardev, which is two FIFOs: `PATH.out` carries data from the guest,
 * `PATH.in` data for the guest.
 */

import { closeSync, constants, existsSync, promises as fs, openSync, statSync } from 'node:fs';
import path from 'node:path';
import { systemCode, VproxyError } from '../errors.js';
import { channelError, type Link, requireWanted } from '../link/link.js';
import { openHalves, restoreSocketLink, SocketLink } from '../link/socket-link.js';
import { REMEDIES } from '../remedies.js';
import { canonicalPath, withPinnedFile } from '../system/files/guarded-files.js';
import { describeToolFailure, runTool } from '../system/processes/run-tool.js';
import { formatPath, parsePath } from '../util/addresses/paths.js';
import { describeError, escapeText } from '../util/escape.js';
import { type DialKind, VM_TRAITS } from './kind.js';

/** The kind `pipe-open`; its address is the path without `.in` and `.out`. */
export const pipeOpen: DialKind<string> = {
  mode: 'dial',
  traits: VM_TRAITS,
  parse: parsePath,
  format: formatPath,
  place: canonicalPath,
  locate: (path) => ({ is: 'fifos', path }),
  async dial(path, { signal }) {
    const description = `pipe-open:${escapeText(path)}`;
    requireWanted(signal, description);
    return Promise.resolve(openFifos(path, description));
  },
  restoreLink: (state, take) => restoreSocketLink(state, take, { waitsForEnd: false }),
};

function openFifos(path: string, description: string): Link {
  const opened: number[] = [];
  try {
    for (const file of [`${path}.out`, `${path}.in`]) opened.push(openFifo(file));
    const [outFd = -1, inFd = -1] = opened;
    // A FIFO that this side has open both ways never reports EOF, so do not wait for it.
    return new SocketLink(description, (onread) => openHalves(outFd, inFd, onread), { waitsForEnd: false });
  } catch (error) {
    for (const fd of opened) closeSync(fd);
    throw channelError(description, error);
  }
}

/** Opens the FIFO both ways: then opening does not block, and the FIFO keeps its data while QEMU is away. */
function openFifo(file: string): number {
  if (!statSync(file).isFIFO()) {
    const what = `pipe-open: ${escapeText(file)} is not a FIFO; ${REMEDIES.fifos['channel-unusable']}`;
    throw new VproxyError('channel-unusable', what);
  }
  return openSync(file, constants.O_RDWR | constants.O_NONBLOCK);
}

// Creating the FIFOs of QEMU's pipe chardev, with owner, mode and SELinux type.

export interface FifoOptions {
  /** `USER` or `USER:GROUP`, names or numbers; null keeps the owner, or uses that of this process for new FIFOs. */
  readonly owner: string | null;
  /** Permission bits. */
  readonly mode: number;
}

/** Replacements for parts of the system, for specs. */
interface FifoSystem {
  /** Where selinuxfs is mounted while SELinux is enabled. Default `/sys/fs/selinux`. */
  readonly selinuxFolder?: string;
  /** Runs a program. Default: runs it, and rejects with its stderr. */
  readonly run?: (file: string, args: readonly string[]) => Promise<void>;
}

/** A FIFO that now exists. */
interface Fifo {
  readonly path: string;
  /** Whether it existed before. */
  readonly isOld: boolean;
  readonly uid: number;
  readonly gid: number;
}

/** The SELinux type that lets a VM use it. */
const SELINUX_TYPE = 'svirt_image_t';

/**
 * Creates `base`, `base.in` and `base.out`, and applies `options` to all three. Existing FIFOs are kept. Rejects with
 * `cannot-create`; if another file has one of the names, nothing is created or changed.
 */
export async function createFifos(base: string, options: FifoOptions, system: FifoSystem = {}): Promise<Fifo[]> {
  const { selinuxFolder = '/sys/fs/selinux', run = runOrFail } = system;
  const hasSelinux = existsSync(path.join(selinuxFolder, 'enforce'));
  const files = [base, `${base}.in`, `${base}.out`];
  const exist = await Promise.all(files.map(isFifo));
  const fifos: Fifo[] = [];
  for (const [index, file] of files.entries()) {
    const isOld = exist[index] === true;
    try {
      // Accessible only to us until it has its owner.
      if (!isOld) await run('mkfifo', ['-m', '0600', '--', file]);
      if (options.owner !== null) await run('chown', ['-h', '--', options.owner, file]);
      withPinnedFile(file, (pinned) => {
        // The owner of the folder may have replaced it, to make another file accessible.
        if (!pinned.stats.isFIFO()) throw new Error('it was replaced by another file');
        pinned.chmod(options.mode);
      });
      if (hasSelinux) await run('chcon', ['-h', '-t', SELINUX_TYPE, '--', file]);
      const { uid, gid } = await fs.lstat(file);
      fifos.push({ path: file, isOld, uid, gid });
    } catch (error) {
      throw cannotCreate(file, describeError(error), error);
    }
  }
  return fifos;
}

/** False if the file does not exist. */
async function isFifo(file: string): Promise<boolean> {
  try {
    if ((await fs.lstat(file)).isFIFO()) return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw cannotCreate(file, describeError(error), error);
  }
  throw cannotCreate(file, 'already exists and is not a FIFO');
}

/** Looking up a user name over a network may take a while. */
const TOOL_MS = 30_000;

async function runOrFail(name: string, args: readonly string[]): Promise<void> {
  const result = await runTool([name, ...args], { timeoutMs: TOOL_MS }).catch((cause: unknown) => {
    throw systemCode(cause) === 'ENOENT' ? new Error(`${name}(1) is missing`, { cause }) : cause;
  });
  if (result.end !== 0) throw new Error(describeToolFailure(name, result));
}

function cannotCreate(file: string, what: string, cause?: unknown): VproxyError {
  return new VproxyError('cannot-create', `${escapeText(file)}: ${escapeText(what)}`, { cause });
}
