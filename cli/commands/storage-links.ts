/** `vproxy storage link` and `vproxy storage unlink`: links that run the storage wrapper under the name of a vendor's utility. */

import { lstatSync, readlinkSync, realpathSync, renameSync, symlinkSync, unlinkSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { systemCode, VproxyError } from '../../lib/errors.js';
import { isExecutable } from '../../lib/system/processes/find-program.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import { orElse } from '../../lib/util/or-else.js';
import { badArgument } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { print } from '../ui/print.js';

/** Where vendors install their utilities. */
const DEFAULT_FOLDER = '/usr/sbin';

const FOLDER_OPTION = {
  folder: { value: 'FOLDER', describe: `The folder of the utility [default: ${DEFAULT_FOLDER}]` },
} as const;

/** The wrapper's own names: installed, in the package, and in a clone. */
const WRAPPER_NAMES = ['vproxy-storage', 'vproxy-storage.cjs', 'vproxy-storage.js'];

export const link: Command = {
  usage: 'storage link NAME [--folder FOLDER] [--force]',
  about:
    'Creates a link to vproxy-storage with the name of the utility of a storage controller, such as storcli64, and prints it. Any other existing file is kept.',
  examples: [['vproxy storage link storcli64', "Let the host's emulator answer storcli64"]],
  options: { ...FOLDER_OPTION, force: { describe: 'Replace an existing file' } },
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
  about: 'Removes a link created by vproxy storage link, and nothing else.',
  examples: [['vproxy storage unlink storcli64', 'Undo vproxy storage link storcli64']],
  options: FOLDER_OPTION,
  isLocal: true,
  operands: ['NAME'],
  run: (args) => {
    unlinkWrapper(utilityPath(args.operands[0] ?? '', args.text('folder') ?? DEFAULT_FOLDER));
    return Promise.resolve();
  },
};

/** The path of the utility `name` in `folder`; `name` must not be a path. Throws `bad-argument`. */
function utilityPath(name: string, folder: string): string {
  if (name.includes('/') || /^\.{0,2}$/.test(name)) {
    throw badArgument(`"${escapeText(name, 64)}": not the name of a program; set its folder with --folder`);
  }
  if (name.startsWith('vproxy')) {
    throw badArgument(`"${escapeText(name, 64)}": a name of vproxy itself; expected the name of a utility`);
  }
  return join(resolve(folder), name);
}

interface WrapperPlaces {
  /** `$PATH`. */
  readonly searchPath: string;
  /** Programs whose folders are searched after `searchPath`. */
  readonly programs: readonly string[];
}

/** The absolute path of the wrapper; its own links are not followed. Throws `not-found`. */
export function findWrapper({ searchPath, programs }: WrapperPlaces): string {
  const folders = searchPath.split(':').filter((folder) => folder.startsWith('/'));
  const besides = programs.flatMap((program) => orElse([], () => [dirname(realpathSync(program))]));
  const paths = [
    ...folders.map((folder) => join(folder, 'vproxy-storage')),
    ...besides.flatMap((folder) => WRAPPER_NAMES.map((name) => join(folder, name))),
  ];
  const found = paths.find(isExecutable);
  if (found === undefined) throw new VproxyError('not-found', 'vproxy-storage: not found in $PATH, nor next to vproxy');
  return found;
}

/**
 * Makes `path` a link to the wrapper `target`, atomically. Keeps an existing file, unless it is such a link, or
 * `isForced`. Throws `cannot-create`.
 */
function linkWrapper(path: string, target: string, isForced: boolean): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    if (!isForced && exists(path) && !isWrapperLink(path)) {
      const hint = 'already exists, and is not a link to vproxy-storage; replace it with --force';
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

/** Removes a link to the wrapper, and nothing else. Throws `not-found`, or `cannot-create` if the system forbids it. */
function unlinkWrapper(path: string): void {
  try {
    if (!isWrapperLink(path)) {
      const what = exists(path) ? 'not a link to vproxy-storage; left unchanged' : 'no such link';
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
