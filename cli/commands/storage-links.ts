/** `vproxy storage link` and `vproxy storage unlink`: links by which the storage wrapper is called as a vendor's utility. */

import { lstatSync, readlinkSync, realpathSync, renameSync, symlinkSync, unlinkSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { systemCode, VproxyError } from '../../lib/errors.js';
import { isExecutable } from '../../lib/system/processes/find-program.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import { badArgument } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { print } from '../ui/print.js';

/** Where vendors install theirs. */
const DEFAULT_FOLDER = '/usr/sbin';

const FOLDER_OPTION = {
  folder: { value: 'FOLDER', describe: `The folder of the utility [default: ${DEFAULT_FOLDER}]` },
} as const;

/** What the wrapper is called where it has its own name: installed, in the package, and in a clone. */
const WRAPPER_NAMES = ['vproxy-storage', 'vproxy-storage.cjs', 'vproxy-storage.js'];

export const link: Command = {
  usage: 'storage link NAME [--folder FOLDER] [--force]',
  about:
    'Makes a link to vproxy-storage that is called as the utility of a storage controller, such as storcli64, and prints it. What is there already, and is no such link, stays.',
  examples: [['vproxy storage link storcli64', 'Answer storcli64 by the emulator of the host']],
  options: { ...FOLDER_OPTION, force: { describe: 'Replace what is there already' } },
  isLocal: true,
  operands: ['NAME'],
  run: (args) => {
    const path = utilityPath(args.operands[0] ?? '', args.text('folder') ?? DEFAULT_FOLDER);
    const programs = [process.argv[1] ?? '', process.execPath];
    const target = findWrapper({ searchPath: process.env['PATH'] ?? '', programs });
    linkWrapper(path, target, args.has('force'));
    print(`${escapeText(path)} -> ${escapeText(target)}\n`);
    return Promise.resolve();
  },
};

export const unlink: Command = {
  usage: 'storage unlink NAME [--folder FOLDER]',
  about: 'Removes a link that vproxy storage link has made, and nothing else.',
  examples: [['vproxy storage unlink storcli64', 'Take that back']],
  options: FOLDER_OPTION,
  isLocal: true,
  operands: ['NAME'],
  run: (args) => {
    unlinkWrapper(utilityPath(args.operands[0] ?? '', args.text('folder') ?? DEFAULT_FOLDER));
    return Promise.resolve();
  },
};

/** The path of the utility `name`, which is no path itself, in `folder`. Throws `bad-argument`. */
function utilityPath(name: string, folder: string): string {
  if (name.includes('/') || /^\.{0,2}$/.test(name)) {
    throw badArgument(`"${escapeText(name, 64)}" is no name of a program; --folder says where it is`);
  }
  if (name.startsWith('vproxy')) {
    throw badArgument(`"${escapeText(name, 64)}" is vproxy's own; the name is that of a utility`);
  }
  return join(resolve(folder), name);
}

/** Where the wrapper may be. */
interface WrapperPlaces {
  /** `$PATH`. */
  readonly searchPath: string;
  /** The programs beside which it is, where it is in no folder of `searchPath`. */
  readonly programs: readonly string[];
}

/** The absolute path of the wrapper, of which no link is followed. Throws `not-found`. */
export function findWrapper({ searchPath, programs }: WrapperPlaces): string {
  const folders = searchPath.split(':').filter((folder) => folder.startsWith('/'));
  const besides = programs.flatMap((program) => {
    try {
      return [dirname(realpathSync(program))];
    } catch {
      return [];
    }
  });
  const paths = [
    ...folders.map((folder) => join(folder, 'vproxy-storage')),
    ...besides.flatMap((folder) => WRAPPER_NAMES.map((name) => join(folder, name))),
  ];
  const found = paths.find(isExecutable);
  if (found === undefined) throw new VproxyError('not-found', 'vproxy-storage is neither in $PATH nor beside vproxy');
  return found;
}

/**
 * Makes `path` a link to the wrapper `target`, in one step. What is there already stays, unless it is such a link, or
 * `isForced`. Throws `cannot-create`.
 */
function linkWrapper(path: string, target: string, isForced: boolean): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    if (!isForced && exists(path) && !isWrapperLink(path)) {
      const hint = 'it is there already, and no link to vproxy-storage; --force replaces it';
      throw new VproxyError('cannot-create', `${escapeText(path)}: ${hint}`);
    }
    symlinkSync(target, temporary);
    try {
      renameSync(temporary, path);
    } catch (error) {
      unlinkSync(temporary);
      throw error;
    }
  } catch (cause) {
    if (cause instanceof VproxyError) throw cause;
    throw new VproxyError('cannot-create', `${escapeText(path)}: ${describeError(cause)}`, { cause });
  }
}

/** Removes a link to the wrapper, and nothing else. Throws `not-found`, or `cannot-create` where the system forbids it. */
function unlinkWrapper(path: string): void {
  try {
    if (!isWrapperLink(path)) {
      const what = exists(path) ? 'no link to vproxy-storage; it is left as it is' : 'there is no such link';
      throw new VproxyError('not-found', `${escapeText(path)}: ${what}`);
    }
    unlinkSync(path);
  } catch (cause) {
    if (cause instanceof VproxyError) throw cause;
    throw new VproxyError('cannot-create', `${escapeText(path)}: ${describeError(cause)}`, { cause });
  }
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function isWrapperLink(path: string): boolean {
  try {
    return WRAPPER_NAMES.includes(basename(readlinkSync(path)));
  } catch (error) {
    if (['EINVAL', 'ENOENT', 'ENOTDIR'].includes(systemCode(error))) return false;
    throw error;
  }
}
