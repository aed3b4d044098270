/** Findings about files, folders and programs, whatever they are for. */
import { type FindingRows, fail, note, ok } from './row.js';

/** By id. */
export const PATH_FINDINGS = {
  'folder-missing': fail(
    'The folder in which something should be is not there.',
    'correct the path, or make the folder',
  ),
  'path-denied': fail(
    'A folder on the way cannot be searched by this user.',
    'let this user search the folder (chmod +x), or run as its owner',
  ),
  'path-remote': note(
    'The path is on a network file system, whose server might not answer: it is not looked at.',
    'have sockets, FIFOs and keys on a file system of this machine',
  ),
  'folder-denied': fail(
    'This user can make no file in the folder.',
    'choose another folder, change its owner or mode, or run as its owner',
  ),
  'file-denied': fail(
    'This user cannot write the file.',
    'change the owner or the mode of the file, or run as its owner',
  ),
  'file-not': fail('What is there is no file.', 'name another path'),
  'file-writable': ok('The file is there and can be written, or can be made.'),
  'command-missing': fail('There is no such program, or it cannot be run.', 'install it, or correct the command'),
  'command-found': ok('The program that a command begins with is there.'),
} as const satisfies FindingRows;
