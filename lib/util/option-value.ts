/** The value of an option that may be given without one. */

/** Marks an option given without a value: no command-line word contains a NUL. */
export const NO_VALUE = '\0';
