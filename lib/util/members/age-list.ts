/** Members ordered by age; a touch makes one the youngest. Every operation takes constant time. */

/** A member of one list at a time; the list owns these fields. */
export interface Aged {
  older: Aged | null;
  younger: Aged | null;
}

export class AgeList<T extends Aged> {
  #oldest: T | null = null;
  #youngest: T | null = null;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get oldest(): T | null {
    return this.#oldest;
  }

  /** Adds a member, in no list so far, as the youngest. */
  add(member: T): void {
    member.older = this.#youngest;
    member.younger = null;
    if (this.#youngest === null) this.#oldest = member;
    else this.#youngest.younger = member;
    this.#youngest = member;
    this.#size += 1;
  }

  remove(member: T): void {
    const { older, younger } = member;
    if (older === null) this.#oldest = younger as T | null;
    else older.younger = younger;
    if (younger === null) this.#youngest = older as T | null;
    else younger.older = older;
    member.older = null;
    member.younger = null;
    this.#size -= 1;
  }

  /** Makes a member of this list the youngest. */
  touch(member: T): void {
    if (member === this.#youngest) return;
    this.remove(member);
    this.add(member);
  }
}
