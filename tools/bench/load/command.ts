/** The commands and answers of the near end of the load. */
import type { Address } from './connection.js';
import type { Transfer } from './held.js';
import type { Direction } from './rate.js';

/** One command. Those without a figure resolve with an empty object. */
export type LoadCommand =
  /** Figure: `rate`, MB/s. The connections stay open until `release`. */
  | ({ readonly kind: 'rate'; address: Address } & Transfer)
  /** Figures: those of `EchoTimes`. */
  | { readonly kind: 'echo'; address: Address; bytes: number; messages: number; forMs?: number }
  /** Figure: `perSecond`. */
  | { readonly kind: 'connections'; address: Address; count: number; parallel: number }
  | { readonly kind: 'start-bulk'; address: Address; direction: Direction; streams: number }
  /** Figures: `bytes` since the start, and `atMs` by a clock of this process only. */
  | { readonly kind: 'count-bulk' }
  | { readonly kind: 'hold'; address: Address; count: number }
  | { readonly kind: 'hold-unread'; address: Address }
  | { readonly kind: 'release' };

/** Figures by name. */
export type LoadFigures = Readonly<Record<string, number>>;

/** The answer to a command. */
export type LoadAnswer =
  | { readonly figures: LoadFigures; readonly cpuSeconds: number }
  | { readonly failure: string; cpuSeconds: number };
