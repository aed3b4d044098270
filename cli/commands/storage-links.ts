/** `vproxy storage link` and `vproxy storage unlink`: links by which the storage wrapper is called as a vendor's utility. */
import { escapeText } from '../../lib/util/escape.js';
import type { Command } from '../command/command.js';
import { findWrapper, linkWrapper, unlinkWrapper, utilityPath } from '../storage-link.js';
import { print } from '../ui/print.js';

/** Where vendors install theirs. */
export const DEFAULT_FOLDER = '/usr/sbin';

/** For the commands about such links. */
export const FOLDER_OPTION = {
  folder: { value: 'FOLDER', describe: `The folder of the utility [default: ${DEFAULT_FOLDER}]` },
} as const;

export const link: Command = {
  usage: 'storage link NAME [--folder FOLDER] [--force]',
  about:
    'Makes a link to vproxy-storage that is called as the utility of a storage controller, such as storcli64, and prints it. What is there already, and is no such link, stays.',
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
  options: FOLDER_OPTION,
  isLocal: true,
  operands: ['NAME'],
  run: (args) => {
    unlinkWrapper(utilityPath(args.operands[0] ?? '', args.text('folder') ?? DEFAULT_FOLDER));
    return Promise.resolve();
  },
};
