/** A command for `/bin/sh -c`: whether its first word names a program. */
import { isAbsolute } from 'node:path';
import { isExecutable, locateProgram } from '../../../lib/system/processes/find-program.js';
import { escapeText } from '../../../lib/util/escape.js';

import { type Finding, finding } from '../findings.js';
import { notChecked } from '../jobs.js';
import type { Machine } from '../machine.js';

/** Looks up a plain first word only: the rest is for the shell to interpret. */
export function checkCommand({ options }: Machine, command: string): Finding[] {
  const [, word = ''] = /^\s*([\w./+-]+)(?=\s|$)/.exec(command) ?? [];
  if (word === '' || BUILT_IN.has(word)) return notChecked('only the shell knows which program this command runs');
  const program = locateProgram(word, options.searchPath);
  return isAbsolute(program) && isExecutable(program)
    ? [finding('command-found', `${escapeText(word)} is ${escapeText(program)}`)]
    : [finding('command-missing', `program not found: ${escapeText(word)}`)];
}

/** Keywords and built-in commands of the shell. */
const BUILT_IN: ReadonlySet<string> = new Set('exec cd if while for case set export read eval umask trap .'.split(' '));
