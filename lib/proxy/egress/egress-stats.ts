/** What the egresses of a channel did in the last hour, by destination. */
import type { EventFields, LogEvent } from '../../events.js';
import type { EgressStats } from '../../status/types.js';
import { formatHostPort } from '../../util/addresses/host-port.js';
import type { Clock } from '../../util/clock.js';

/** Counts are kept for each five minutes of the last hour. */
const SLOT_MS = 300_000;
const SLOTS = 12;

/** Destinations of a channel; the others are counted as one of each egress. */
export const MAX_DESTINATIONS = 1000;

const NOTHING = { opened: 0, refused: 0, asked: 0, uploadedBytes: 0, downloadedBytes: 0 };

type Counts = { [Name in keyof typeof NOTHING]: number };

interface Row {
  readonly egress: string;
  /** Null: the destinations beyond the limit. */
  readonly destination: string | null;
  /** By number of the slot. */
  readonly slots: Map<number, Counts>;
}

export class EgressCounts {
  readonly #clock: Clock;
  readonly #rows = new Map<string, Row>();
  /** When rows were last dropped, as the number of a slot. */
  #forgotten = -1;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Counts an event of an egress; any other has no effect. */
  record({ event, fields }: LogEvent): void {
    if (event === 'egress-opened') this.#add(fields as EventFields<'egress-opened'>, { opened: 1 });
    else if (event === 'egress-asked') this.#add(fields as EventFields<'egress-asked'>, { asked: 1 });
    else if (event === 'egress') {
      const { uploadedBytes, downloadedBytes, ...place } = fields as EventFields<'egress'>;
      this.#add(place, { uploadedBytes, downloadedBytes });
    } else if (event === 'egress-refused') {
      const { destination, egress, reason } = fields as EventFields<'egress-refused'>;
      if (destination !== null && reason === 'denied') this.#count(egress, destination, { refused: 1 });
    }
  }

  #add(
    { egress, ...place }: { readonly egress: string; readonly host: string; readonly port: number },
    more: Partial<Counts>,
  ): void {
    this.#count(egress, formatHostPort(place), more);
  }

  #count(egress: string, destination: string, more: Partial<Counts>): void {
    const slots = this.#rowOf(egress, destination).slots;
    const now = this.#slot;
    const counts = { ...NOTHING, ...slots.get(now) };
    for (const [name, count] of Object.entries(more)) counts[name as keyof Counts] += count;
    slots.set(now, counts);
    for (const slot of slots.keys()) if (slot <= now - SLOTS) slots.delete(slot);
  }

  #rowOf(egress: string, destination: string): Row {
    const known = this.#rows.get(keyOf(egress, destination));
    if (known !== undefined) return known;
    if (this.#rows.size >= MAX_DESTINATIONS) this.#forget();
    const isRest = this.#rows.size >= MAX_DESTINATIONS;
    const key = isRest ? egress : keyOf(egress, destination);
    const row = this.#rows.get(key) ?? { egress, destination: isRest ? null : destination, slots: new Map() };
    this.#rows.set(key, row);
    return row;
  }

  get #slot(): number {
    return Math.floor(this.#clock.now() / SLOT_MS);
  }

  /** Drops rows older than an hour; nothing changes within a slot. */
  #forget(): void {
    if (this.#forgotten === this.#slot) return;
    this.#forgotten = this.#slot;
    const oldest = this.#slot - SLOTS;
    for (const [key, { slots }] of this.#rows)
      if (![...slots.keys()].some((slot) => slot > oldest)) this.#rows.delete(key);
  }

  /** Most bytes first. */
  list(channel: string): EgressStats[] {
    this.#forget();
    const oldest = this.#slot - SLOTS;
    const rows = [...this.#rows.values()].map(({ egress, destination, slots }) => {
      const sum = { ...NOTHING };
      for (const [slot, counts] of slots)
        for (const [name, count] of slot > oldest ? Object.entries(counts) : []) sum[name as keyof Counts] += count;
      return { channel, egress, destination, ...sum };
    });
    const bytes = (row: EgressStats): number => row.uploadedBytes + row.downloadedBytes;
    return rows.sort((one, other) => bytes(other) - bytes(one));
  }
}

/** A destination has no space. */
const keyOf = (egress: string, destination: string): string => `${egress} ${destination}`;
