/** The streams whose turn to send comes, in order: one frame each (R-FLOW-7). */

/** What a member of a list carries, so that joining and leaving cost no memory. */
export interface Ready {
  nextReady: this | null;
  isReady: boolean;
}

/** A first-in-first-out list without duplicates. */
export class ReadyList<T extends Ready & { nextReady: T | null }> {
  #first: T | null = null;
  #last: T | null = null;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Adds a member at the end, unless it is in the list. */
  add(member: T): void {
    if (member.isReady) return;
    member.isReady = true;
    member.nextReady = null;
    if (this.#last === null) this.#first = member;
    else this.#last.nextReady = member;
    this.#last = member;
    this.#size += 1;
  }

  /** Takes the first member out. */
  shift(): T | null {
    const member = this.#first;
    if (member === null) return null;
    this.#first = member.nextReady;
    if (this.#first === null) this.#last = null;
    member.nextReady = null;
    member.isReady = false;
    this.#size -= 1;
    return member;
  }
}
