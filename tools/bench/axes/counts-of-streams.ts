/** The numbers of idle streams that a contender is measured beside. */

const COUNTS = [1, 10, 100, 1000, 10_000];
/** Processes need descriptors beside those of the streams. */
const OTHER_DESCRIPTORS = 200;
/** The maximum for a contender with processes for each stream. */
const MOST_AS_PROCESSES = 100;
/** A replacement for a count that does not fit is a multiple of this. */
const STEP = 1000;

/**
 * Returns the counts in rising order; one beyond the limit of descriptors is replaced by the largest that fits, in thousands.
 */
export function countsOfStreams(descriptorsPerStream: number, descriptorLimit: number): number[] {
  const most =
    descriptorsPerStream === Infinity
      ? MOST_AS_PROCESSES
      : Math.floor((descriptorLimit - OTHER_DESCRIPTORS) / Math.max(descriptorsPerStream, 1));
  return [...new Set(COUNTS.map((count) => (count <= most ? count : Math.floor(most / STEP) * STEP)))].filter(
    (count, index, counts) => count > (counts[index - 1] ?? 0),
  );
}
