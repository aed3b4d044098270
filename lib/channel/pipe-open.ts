/**
 * `pipe-open:PATH`: the host's side of QEMU's pipe chardev, which is two FIFOs: what the guest sends comes out of
 * `PATH.out`, and what goes into `PATH.in` is for the guest.
 */

import { closeSync, constants, existsSync, promises as fs, openSync, statSync } from 'node:fs';
import path from 'node:path';
import { systemCode, VproxyError } from '../errors.js';
import { channelError, type Link, requireWanted } from '../link/link.js';
import { openHalves, restoreSocketLink, SocketLink } from '../link/socket-link.js';
import { canonicalPath, withPinnedFile } from '../system/files/guarded-files.js';
import { describeToolFailure, runTool } from '../system/processes/run-tool.js';
import { formatPath, parsePath } from '../util/addresses.js';
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
    // A FIFO that this side has open both ways never ends, so no end is waited for.
    return new SocketLink(description, (onread) => openHalves(outFd, inFd, onread), { waitsForEnd: false });
  } catch (error) {
    for (const fd of opened) closeSync(fd);
    throw channelError(description, error);
  }
}

/** Open both ways, opening waits for nobody, and the FIFO keeps what is in it while QEMU is away. */
function openFifo(file: string): number {
  if (!statSync(file).isFIFO()) {
    throw new VproxyError('channel-unusable', `pipe-open: ${escapeText(file)} is not a FIFO; see vproxy pipe-create`);
  }
  return openSync(file, constants.O_RDWR | constants.O_NONBLOCK);
}

// Making the FIFOs of QEMU's pipe chardev, with their owner, mode and SELinux type.

/** What the FIFOs shall be like. */
export interface FifoOptions {
  /** `USER` or `USER:GROUP`, names or numbers; null leaves the owner of what is there, or this process. */
  readonly owner: string | null;
  /** Permission bits. */
  readonly mode: number;
}

/** What the system is like; for specs. */
interface FifoSystem {
  /** Where SELinux shows itself while it is on. Default `/sys/fs/selinux`. */
  readonly selinuxFolder?: string;
  /** Runs a program of the system. Default: runs it, and rejects with what it said on stderr. */
  readonly run?: (file: string, args: readonly string[]) => Promise<void>;
}

/** A FIFO that is there now. */
interface Fifo {
  readonly path: string;
  /** Whether it was there before. */
  readonly isOld: boolean;
  readonly uid: number;
  readonly gid: number;
}

/** The type with which SELinux lets a VM use it. */
const SELINUX_TYPE = 'svirt_image_t';

/**
 * Makes `base`, `base.in` and `base.out`, and gives them all what `options` says. FIFOs that are there are kept.
 * Rejects with `cannot-create`; where another file has one of the names, nothing was made or changed.
 */
export async function createFifos(base: string, options: FifoOptions, system: FifoSystem = {}): Promise<Fifo[]> {
  const { selinuxFolder = '/sys/fs/selinux', run = runOrFail } = system;
  const hasSelinux = existsSync(path.join(selinuxFolder, 'enforce'));
  const files = [base, `${base}.in`, `${base}.out`];
  const areThere = await Promise.all(files.map(isFifo));
  const fifos: Fifo[] = [];
  for (const [index, file] of files.entries()) {
    const isOld = areThere[index] === true;
    try {
      // Nobody else gets it before it has its owner.
      if (!isOld) await run('mkfifo', ['-m', '0600', '--', file]);
      if (options.owner !== null) await run('chown', ['-h', '--', options.owner, file]);
      withPinnedFile(file, (pinned) => {
        // The owner of the folder may have put another file there, to have that one opened to others.
        if (!pinned.stats.isFIFO()) throw new Error('another file was put in its place');
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

/** False where nothing is there. */
async function isFifo(file: string): Promise<boolean> {
  try {
    if ((await fs.lstat(file)).isFIFO()) return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw cannotCreate(file, describeError(error), error);
  }
  throw cannotCreate(file, 'something else is there, which is no FIFO');
}

/** A name of a user that is looked up in a network may take a while. */
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
