/**
 * Members that come and go thousands of times a second. A long-lived Set would do, but V8 rebuilds its table every few members,
 * with a reference from the old table to the new one: once one of these is in the old generation, the contents of all later ones
 * stay until the next full collection, a third of everything that streams allocate.
 */

/** Unordered members, each with its own seat. */
export class Roster<T extends object> {
  readonly #members: (T | null)[] = [];
  readonly #freeSeats: number[] = [];

  get size(): number {
    return this.#members.length - this.#freeSeats.length;
  }

  /** Adds a member, and returns its seat for `remove`. */
  add(member: T): number {
    const seat = this.#freeSeats.pop() ?? this.#members.length;
    this.#members[seat] = member;
    return seat;
  }

  /** Frees the seat of a member. Call once for each. */
  remove(seat: number): void {
    this.#members[seat] = null;
    this.#freeSeats.push(seat);
  }

  list(): T[] {
    return this.#members.filter((member) => member !== null);
  }
}
