/** Which of the connections that wait unestablished on a listening channel makes room for a newcomer (R-CHANNEL-2). */

/** What is known of a connection before anybody has proved anything on it. */
export interface WaitingConnection {
  /** The machine that it comes from; null where the channel does not tell. */
  readonly origin: string | null;
  /** Whether its other end has answered this side's HELLO, and not failed since. */
  readonly isAnswered: boolean;
}

/**
 * One of `waiting`, which is not empty: of the machine that has most of them, the newcomer's own counted; there one that
 * has answered nothing before one that has; and of these any, by chance, so that whoever opens connections in a loop
 * cannot reckon with it. `random` gives numbers from 0 to below 1.
 */
export function chooseCrowded<T extends WaitingConnection>(
  waiting: readonly T[],
  newcomerOrigin: string | null,
  random: () => number = Math.random,
): T {
  const counts = new Map<string | null, number>();
  for (const origin of [newcomerOrigin, ...waiting.map((each) => each.origin)]) {
    counts.set(origin, (counts.get(origin) ?? 0) + 1);
  }
  const countOf = ({ origin }: T): number => counts.get(origin) ?? 0;
  const most = Math.max(...waiting.map(countOf));
  const crowd = waiting.filter((each) => countOf(each) === most);
  const silent = crowd.filter(({ isAnswered }) => !isAnswered);
  const candidates = silent.length > 0 ? silent : crowd;
  return candidates[Math.floor(random() * candidates.length)] as T;
}
