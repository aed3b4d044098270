/**
 * The shell that execs a command in a terminal. The session leader must open the terminal to make it the controlling one,
 * and `argv[0]` may differ from the path (`-bash` is a login shell). Node can only do the second for its children.
 */
import { existsSync } from 'node:fs';
import { Writable } from 'node:stream';
import { systemClock } from '../../../util/clock.js';

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

/** How long after EOF it is typed again: at first, and at most, in milliseconds. */
const AGAIN_MS = 100;
const MAX_AGAIN_MS = 60_000;

/** A new line begins after these: line feed, return, Ctrl-C and Ctrl-D. */
const LINE_ENDS: readonly number[] = [0x0a, 0x0d, 0x03, END_OF_FILE];

/**
 * A stream that passes its bytes to `send`, which calls back when ready for more. EOF is typed as Ctrl-D, twice within a
 * line, where the first only submits what was typed. It is typed again until the stream is destroyed: a program that changes the
 * terminal's settings as it starts, such as a shell, loses what was typed before, and each read at the end of a file is EOF.
 */
export function typedInput(send: (bytes: Buffer, done: () => void) => void): Writable {
  let isWithinLine = false;
  let cancelAgain = (): void => undefined;
  const end = (delayMs: number): void => {
    send(Buffer.alloc(isWithinLine ? 2 : 1, END_OF_FILE), () => undefined);
    isWithinLine = false;
    cancelAgain = systemClock.schedule(delayMs, () => end(Math.min(2 * delayMs, MAX_AGAIN_MS)));
  };
  return new Writable({
    write(bytes: Buffer, _encoding, done) {
      const last = bytes.at(-1);
      if (last !== undefined) isWithinLine = !LINE_ENDS.includes(last);
      send(bytes, done);
    },
    final: () => end(AGAIN_MS),
    destroy(error, done) {
      cancelAgain();
      done(error);
    },
  });
}
