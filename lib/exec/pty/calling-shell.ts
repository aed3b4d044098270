/**
 * The shell that execs a command in a terminal. The session leader must open the terminal to make it the controlling one,
 * and `argv[0]` may differ from the path (`-bash` is a login shell). Node can only do the second for its children.
 */
import { existsSync } from 'node:fs';
import { Writable } from 'node:stream';

/** A program and its arguments. */
interface ProgramCall {
  readonly file: string;
  readonly args: readonly string[];
}

/** What the shell does before it execs the command. */
interface CallPreparation {
  /** The terminal to open, `/dev/pts/7`. Default: it is already open. */
  readonly path?: string;
  /** Shell commands to run first. */
  readonly script?: string;
  /** Where to look for bash. */
  readonly bashFiles?: readonly string[];
}

/** bash passes any environment on (plus PWD and SHLVL), and can set any `argv[0]`. */
const BASH_FILES = ['/bin/bash', '/usr/bin/bash', '/usr/local/bin/bash', '/run/current-system/sw/bin/bash'];

/**
 * A shell that execs the program `file` with `argv`. Its standard input is the terminal, which it duplicates to standard
 * error. Without bash this is `/bin/sh`: busybox's can do the same, but Debian's (dash) cannot set `argv[0]`; and both
 * drop variables whose names are not valid in a shell.
 */
export function callProgram(file: string, argv: readonly string[], preparation: CallPreparation = {}): ProgramCall {
  const { path, script = ':', bashFiles = BASH_FILES } = preparation;
  const [name = file, ...rest] = argv;
  const redirections = path === undefined ? '2>&0' : `2>&0 3<>${path} 3>&-`;
  const named = `exec -a "$0" "$@" ${redirections}`;
  const bash = bashFiles.find((candidate) => existsSync(candidate));
  // -p: ignore variables that run code (BASH_ENV, SHELLOPTS, functions).
  if (bash !== undefined) return { file: bash, args: ['-p', '-c', `${script}\n${named}`, name, file, ...rest] };
  const plain = `exec "$@" ${redirections}`;
  const either = `if (exec -a sh /bin/sh -c :) 2>/dev/null; then ${named}; else ${plain}; fi`;
  return { file: '/bin/sh', args: ['-c', `${script}\n${name === file ? plain : either}`, name, file, ...rest] };
}

/** Ctrl-D. */
const END_OF_FILE = 0x04;

/** A new line begins after these: line feed, return, Ctrl-C and Ctrl-D. */
const LINE_ENDS: readonly number[] = [0x0a, 0x0d, 0x03, END_OF_FILE];

/**
 * A stream that passes its bytes to `send`, which calls back when ready for more. EOF is typed as Ctrl-D, twice within a
 * line, where the first only submits what was typed. A program that changed the terminal's settings may read these
 * bytes instead of EOF.
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
