/** Something that this machine lacks. */

/** Its message says what is missing, and what to do about it. */
export class MissingError extends Error {}

/** Returns the error for something in a Debian package. */
export const missing = (what: string, debianPackage: string): MissingError =>
  new MissingError(`${what}: not found; sudo apt-get install ${debianPackage}`);
