/** The value of an option that may be given without one. */

/** What it is where it is given without one: a text that no word of a command line is, as a NUL ends those. */
export const NO_VALUE = '\0';
