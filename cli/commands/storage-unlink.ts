/** `vproxy storage unlink`: takes away a link of `vproxy storage link`. */
import type { Command } from '../command/command.js';
import { unlinkWrapper, utilityPath } from '../storage-link.js';
import { DEFAULT_FOLDER, FOLDER_OPTION } from './storage-link.js';

/** The command. */
export const command: Command = {
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
