/** The observations of a soak, and the verdict on each: the permitted outcomes depend on the disturbances meanwhile. */

export type SideName = 'host' | 'guest';

/** The state when something began, from `Ledger.begin`. */
export interface Ticket {
  readonly side: SideName;
  readonly disturbances: number;
  readonly kills: number;
}

/** The outcome of one end of a transfer. */
export interface EndResult {
  /** `ended`: the socket reports EOF; `reset`: it reports an error. */
  readonly end: 'ended' | 'reset';
  /** Whether the received bytes are those that the other end sent, in order. */
  readonly isPrefix: boolean;
  readonly isComplete: boolean;
  readonly receivedBytes: number;
}

interface Count {
  complete: number;
  broken: number;
  bytes: number;
}

/** Further problems are only counted. */
const MAX_PROBLEMS = 100;

/** Counts successes, and keeps a description of each problem. */
export class Ledger {
  readonly problems: string[] = [];
  problemCount = 0;
  readonly counts: Record<string, Count> = {};
  #disturbances = 0;
  #isDisturbed = false;
  readonly #kills: Record<SideName, number> = { host: 0, guest: 0 };
  /** The sides whose process was killed and not launched again. */
  readonly #killed = new Set<SideName>();

  readonly #onProblem: (problem: string) => void;

  constructor(onProblem: (problem: string) => void = () => undefined) {
    this.#onProblem = onProblem;
  }

  /**
   * Begins something whose local socket belongs to the vproxy of this side. A connection accepted while there is none is one
   * that the killed process had made: it began before the kill.
   */
  begin(side: SideName): Ticket {
    return {
      side,
      disturbances: this.#isDisturbed ? Number.NaN : this.#disturbances,
      kills: this.#killed.has(side) ? Number.NaN : this.#kills[side],
    };
  }

  /** The session and everything on it ends now or soon; until `settle`. */
  disturb(): void {
    this.#disturbances += 1;
    this.#isDisturbed = true;
  }

  /** A process is killed: the system closes its sockets, possibly with EOF instead of a reset. */
  countKill(side: SideName): void {
    this.#kills[side] += 1;
    this.#killed.add(side);
  }

  countLaunch(side: SideName): void {
    this.#killed.delete(side);
  }

  /** The session works again. */
  settle(): void {
    this.#isDisturbed = false;
  }

  /** Whether nothing since then excuses a failure. */
  isUndisturbed({ disturbances }: Ticket): boolean {
    return disturbances === this.#disturbances;
  }

  /** Judges one end of a transfer. */
  judge(kind: string, ticket: Ticket, result: EndResult): void {
    const { end, isPrefix, isComplete, receivedBytes } = result;
    this.count(kind, isComplete && end === 'ended', receivedBytes);
    const what = `${kind} at the ${ticket.side}, ${receivedBytes} bytes received`;
    if (!isPrefix) this.problem(`wrong bytes: ${what}`);
    else if (end === 'ended' && !isComplete && ticket.kills === this.#kills[ticket.side])
      this.problem(`truncated, but ended with EOF: ${what}`);
    else if (!(end === 'ended' && isComplete) && this.isUndisturbed(ticket))
      this.problem(`aborted (${end}) without a disturbance: ${what}`);
  }

  count(kind: string, isComplete: boolean, bytes = 0): void {
    const count = (this.counts[kind] ??= { complete: 0, broken: 0, bytes: 0 });
    count[isComplete ? 'complete' : 'broken'] += 1;
    count.bytes += bytes;
  }

  problem(what: string): void {
    this.problemCount += 1;
    if (this.problems.length >= MAX_PROBLEMS) return;
    this.problems.push(what);
    this.#onProblem(what);
  }
}
