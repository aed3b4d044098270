/** What is wrong with a configuration file, all of it. */
import { VproxyError } from '../errors.js';

/** The error `bad-file` with everything that is wrong, a line each: `FILE:LINE:COLUMN: …` or `FILE: KEY: …`. */
export class BadFileError extends VproxyError {
  /** At least one. What the file says is escaped. */
  readonly problems: readonly string[];

  constructor(problems: readonly string[], options?: ErrorOptions) {
    const [first = 'it cannot be read', ...others] = problems;
    super('bad-file', others.length === 0 ? first : `${first} (and ${others.length} more)`, options);
    this.problems = problems;
  }
}
