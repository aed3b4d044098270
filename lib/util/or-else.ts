/** Returns the result of `work`, or `otherwise` if it throws anything. */
export function orElse<T>(otherwise: T, work: () => T): T {
  try {
    return work();
  } catch {
    return otherwise;
  }
}
