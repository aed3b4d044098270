/** What is written for a program in a terminal, as somebody would type it. */
import { Writable } from 'node:stream';

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
