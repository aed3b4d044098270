/** What ping(8) says at its end. */

/** Counts pings. */
export class PingStatistics {
  readonly #startMs = performance.now();
  #sent = 0;
  #answered = 0;
  #least = Number.POSITIVE_INFINITY;
  #most = 0;
  #sum = 0;
  #sumOfSquares = 0;

  /** One ping, with its round trip in milliseconds, or null where it was not answered. */
  add(roundTripMs: number | null): void {
    this.#sent += 1;
    if (roundTripMs === null) return;
    this.#answered += 1;
    this.#least = Math.min(this.#least, roundTripMs);
    this.#most = Math.max(this.#most, roundTripMs);
    this.#sum += roundTripMs;
    this.#sumOfSquares += roundTripMs ** 2;
  }

  /** How many were answered. */
  get answered(): number {
    return this.#answered;
  }

  /** The lines. */
  format(label: string): string[] {
    const lostPercent = this.#sent === 0 ? 0 : Math.round((100 * (this.#sent - this.#answered)) / this.#sent);
    const lines = [
      `--- ${label} ping statistics ---`,
      `${this.#sent} sent, ${this.#answered} answered, ${lostPercent}% lost, time ${Math.round(performance.now() - this.#startMs)} ms`,
    ];
    if (this.#answered === 0) return lines;
    const mean = this.#sum / this.#answered;
    const deviation = Math.sqrt(Math.max(0, this.#sumOfSquares / this.#answered - mean ** 2));
    const figures = [this.#least, mean, this.#most, deviation].map((ms) => ms.toFixed(3)).join('/');
    return [...lines, `round trip min/avg/max/mdev = ${figures} ms`];
  }
}
