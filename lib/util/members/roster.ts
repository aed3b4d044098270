/**
 * Members that come and go thousands of times a second. A long-lived Set would do, but V8 makes its table anew every few
 * members, with a reference from the old one to the new: once one of these tables is in the old generation, what was in all
 * later ones stays until the next full collection, a third of all that streams allocate.
 */

/** Members without an order, each with a seat of its own. */
export class Roster<T extends object> {
  readonly #members: (T | null)[] = [];
  readonly #freeSeats: number[] = [];

  get size(): number {
    return this.#members.length - this.#freeSeats.length;
  }

  /** Adds a member. Gives its seat, which `remove` takes. */
  add(member: T): number {
    const seat = this.#freeSeats.pop() ?? this.#members.length;
    this.#members[seat] = member;
    return seat;
  }

  /** Frees the seat of a member. Called once for each. */
  remove(seat: number): void {
    this.#members[seat] = null;
    this.#freeSeats.push(seat);
  }

  /** The members of this moment. */
  list(): T[] {
    return this.#members.filter((member) => member !== null);
  }
}
