/** Tracks the modes that a program leaves changed in the terminal, to restore them after its output was cut short. */

/** Modes that are on by default: wrapping, and the cursor. */
const ON_AT_FIRST: ReadonlySet<string> = new Set(['7', '25']);

/** DECSET and DECRST, such as those of the alternate screen (1049), the mouse (1000) and pasting (2004). */
const MODES = /\u001b\[\?([\d;]{1,64})([hl])/g;

/** The longest sequence that may span two pieces, in characters. */
const TAIL_LENGTH = 72;

/**
 * Resets attributes, character set, keypad and the scrolling region; that one moves the cursor, so it is saved and
 * restored.
 */
const RESET = '\u001b[m\u001b(B\u000f\u001b>\u001b7\u001b[r\u001b8';

/** Follows the output of a terminal that begins with default modes. */
export class TerminalModes {
  readonly #changed = new Set<string>();
  #tail = '';

  /** Takes the next piece of the output. */
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

  /** The output that restores the terminal. */
  restoring(): string {
    const modes = [...this.#changed].map((number) => `\u001b[?${number}${ON_AT_FIRST.has(number) ? 'h' : 'l'}`);
    return RESET + modes.join('');
  }
}
