/** What a program has switched on in the terminal and not off again: for who shows the output of one that was cut short. */

/** Modes that are on where nobody has said anything: wrapping, and the cursor. */
const ON_AT_FIRST: ReadonlySet<string> = new Set(['7', '25']);

/** DECSET and DECRST, such as those of the alternate screen (1049), the mouse (1000) and pasting (2004). */
const MODES = /\u001b\[\?([\d;]{1,64})([hl])/g;

/** The longest of them that two pieces may share, in characters. */
const TAIL_LENGTH = 72;

/**
 * Attributes, character set, cursor keys and keypad as they are at first; and the scrolling region, which moves the cursor: it
 * is put back.
 */
const RESET = '\u001b[m\u001b(B\u000f\u001b>\u001b7\u001b[r\u001b8';

/** Follows the output of a terminal, whose modes are those of a fresh one at first. */
export class TerminalModes {
  readonly #changed = new Set<string>();
  #tail = '';

  /** The next piece of the output. */
  follow(text: string): void {
    const whole = this.#tail + text;
    for (const [, numbers = '', letter] of whole.matchAll(MODES)) {
      for (const number of numbers.split(';')) {
        if ((letter === 'h') === ON_AT_FIRST.has(number)) this.#changed.delete(number);
        else this.#changed.add(number);
      }
    }
    this.#tail = whole.slice(-TAIL_LENGTH);
  }

  /** What makes the terminal as it was: for its output. */
  restoring(): string {
    const modes = [...this.#changed].map((number) => `\u001b[?${number}${ON_AT_FIRST.has(number) ? 'h' : 'l'}`);
    return RESET + modes.join('');
  }
}
