/** A command for `/bin/sh -c`: whether the program that it begins with is there. */
import { isAbsolute } from 'node:path';
import { isExecutable, locateProgram } from '../../../lib/system/processes/find-program.js';
import { escapeText } from '../../../lib/util/escape.js';

import { type Finding, finding } from '../findings.js';
import { notChecked } from '../jobs.js';
import type { Machine } from '../machine.js';

/** Looks for a plain first word only: what else the shell makes of the command, only the shell knows. */
export function checkCommand({ options }: Machine, command: string): Finding[] {
  const [, word = ''] = /^\s*([\w./+-]+)(?=\s|$)/.exec(command) ?? [];
  if (word === '' || BUILT_IN.has(word))
    return notChecked('what the shell makes of this command is not known beforehand');
  const program = locateProgram(word, options.searchPath);
  return isAbsolute(program) && isExecutable(program)
    ? [finding('command-found', `${escapeText(word)} is ${escapeText(program)}`)]
    : [finding('command-missing', `there is no program ${escapeText(word)}`)];
}

/** Words that the shell takes for itself. */
const BUILT_IN: ReadonlySet<string> = new Set('exec cd if while for case set export read eval umask trap .'.split(' '));
