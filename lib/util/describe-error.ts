/** The text of an error of the system, for a message. */

/** What the system said, in one line; several attempts at one name come as an AggregateError without a message. */
export function describeError(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(describeError).join('; ');
  return error instanceof Error ? error.message : String(error);
}
