/** A command of the shell: whether the program that it begins with is there. */
import { isAbsolute } from 'node:path';
import { escapeText } from '../../../lib/util/escape.js';
import { findProgram, isExecutable } from '../../find-program.js';
import { type Finding, finding } from '../finding.js';
import type { Machine } from '../machine.js';

/** A command for `/bin/sh -c`. */
export interface CommandSubject {
  readonly command: string;
}

/** Only a plain first word is looked for: what else the shell makes of the command, it alone knows. */
export function checkCommand({ options }: Machine, { command }: CommandSubject): Finding[] {
  const [, word = ''] = /^\s*([\w./+-]+)(?=\s|$)/.exec(command) ?? [];
  if (word === '' || BUILT_IN.has(word))
    return [finding('not-checked', 'what the shell makes of this command is not known beforehand')];
  const program = findProgram(word, options.searchPath);
  return isAbsolute(program) && isExecutable(program)
    ? [finding('command-found', `${escapeText(word)} is ${escapeText(program)}`)]
    : [finding('command-missing', `there is no program ${escapeText(word)}`)];
}

/** Words that the shell takes for itself. */
const BUILT_IN: ReadonlySet<string> = new Set([
  'exec',
  'cd',
  'if',
  'while',
  'for',
  'case',
  'set',
  'export',
  'read',
  'eval',
  'umask',
  'trap',
  '.',
]);
