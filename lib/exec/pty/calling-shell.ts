/**
 * The shell that becomes a command in a terminal. A terminal is made the one of a session by its leader, who opens it; and
 * a program may be called by another name than its path (`-bash` is a login shell). Of a child of its own Node can have
 * only the second.
 */
import { existsSync } from 'node:fs';
import { Writable } from 'node:stream';

/** A program with its arguments. */
interface ProgramCall {
  readonly file: string;
  readonly args: readonly string[];
}

/** What the shell does before it becomes the command. */
interface CallPreparation {
  /** The terminal to open, `/dev/pts/7`. Default: it has it already. */
  readonly path?: string;
  /** Commands, as a shell reads them. */
  readonly script?: string;
  /** Where bash may be. */
  readonly bashFiles?: readonly string[];
}

/** It hands on any environment (with PWD and SHLVL, which it sets), and can call a program by any name. */
const BASH_FILES = ['/bin/bash', '/usr/bin/bash', '/usr/local/bin/bash', '/run/current-system/sw/bin/bash'];

/**
 * A shell that becomes the program `file`, called by the first of `argv`. Its standard input is the terminal, and becomes
 * its standard error, too. Without bash it is `/bin/sh`: busybox's can do as much, but Debian's (dash) calls a program by
 * its path only; and both drop variables whose names no shell takes.
 */
export function callProgram(file: string, argv: readonly string[], preparation: CallPreparation = {}): ProgramCall {
  const { path, script = ':', bashFiles = BASH_FILES } = preparation;
  const [name = file, ...rest] = argv;
  const redirections = path === undefined ? '2>&0' : `2>&0 3<>${path} 3>&-`;
  const named = `exec -a "$0" "$@" ${redirections}`;
  const bash = bashFiles.find((candidate) => existsSync(candidate));
  // -p: it runs nothing because a variable says so (BASH_ENV, SHELLOPTS, functions).
  if (bash !== undefined) return { file: bash, args: ['-p', '-c', `${script}\n${named}`, name, file, ...rest] };
  const plain = `exec "$@" ${redirections}`;
  const either = `if (exec -a sh /bin/sh -c :) 2>/dev/null; then ${named}; else ${plain}; fi`;
  return { file: '/bin/sh', args: ['-c', `${script}\n${name === file ? plain : either}`, name, file, ...rest] };
}

/** End of file, as it is typed: Ctrl-D. */
const END_OF_FILE = 0x04;

/** Behind these a new line begins: line feed, return, Ctrl-C and Ctrl-D. */
const LINE_ENDS: readonly number[] = [0x0a, 0x0d, 0x03, END_OF_FILE];

/**
 * A stream that hands its bytes on to `send`, which calls back when it takes more. Its end is typed: Ctrl-D, twice within
 * a line, where the first only sends off what was typed. A program that has changed the settings of the terminal may see
 * these bytes instead, and no end.
 */
export function typedInput(send: (bytes: Buffer, done: () => void) => void): Writable {
  let isWithinLine = false;
  return new Writable({
    write(bytes: Buffer, _encoding, done) {
      const last = bytes.at(-1);
      if (last !== undefined) isWithinLine = !LINE_ENDS.includes(last);
      send(bytes, done);
    },
    final(done) {
      send(Buffer.alloc(isWithinLine ? 2 : 1, END_OF_FILE), done);
    },
  });
}
