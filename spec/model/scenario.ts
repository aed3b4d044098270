/** Scenarios of the model: the properties of the link and the two sides, and what happens to them. */
import fc from 'fast-check';
import type { ModelSideOptions } from './model.js';

/** The operations and their frequencies, simplest first: a failing scenario is shrunk towards those. */
const WEIGHTS = {
  // Time and the link.
  ...{ step: 20, settle: 4, wait: 4, hours: 0.25 },
  // Programs.
  ...{ open: 14, send: 12, finish: 6, reset: 3, stop: 3, pause: 4, read: 3, resume: 3, answer: 3, services: 3 },
  ...{ drain: 1.5 },
  // Faults of every link.
  ...{ stall: 2, unstall: 2, freeze: 1, thaw: 1, late: 2, jump: 1, cut: 1, replace: 0.5 },
  // Faults detected only by counted frames and their checks (R-INTEGRITY-3).
  ...{ restart: 1.5, 'restart-twice': 0.5, 'restart-both': 0.5, lose: 2, repeat: 1, garbage: 1, stale: 0.5 },
};
export type OperationName = keyof typeof WEIGHTS;

/** One step of a scenario. What `index` chooses and `amount` measures depends on the operation. */
export interface Operation {
  readonly what: OperationName;
  readonly index: number;
  readonly amount: number;
}

export interface Scenario {
  /** How many bytes the link takes before it pushes back, and how long a byte is in flight. */
  readonly link: { readonly capacityBytes: number; readonly latencyMs: number };
  /** Whether nothing happens before both sides are established. */
  readonly beginsEstablished: boolean;
  /** The most bytes read from the link at once. */
  readonly pieceBytes: number;
  readonly a: ModelSideOptions;
  readonly b: ModelSideOptions;
  /** Seeds the nonces, and thereby the parities of the stream ids. */
  readonly identity: number;
  readonly operations: readonly Operation[];
}

const operation: fc.Arbitrary<Operation> = fc.record({
  what: fc.oneof(
    ...Object.entries(WEIGHTS).map(([what, weight]) => ({
      arbitrary: fc.constant(what as OperationName),
      weight: Math.round(4 * weight),
    })),
  ),
  index: fc.nat(1000),
  amount: fc.oneof(fc.nat(40_000), fc.nat(2000)),
});

const side: fc.Arbitrary<ModelSideOptions> = fc.record({
  limits: fc.record({
    frame: fc.constantFrom(4096, 20_000),
    streamCredit: fc.constantFrom(65_536, 1024, 5000),
    inFlight: fc.constantFrom(2 ** 20, 1024, 10_000),
    streams: fc.constantFrom(1024, 1, 3),
    opens: fc.constantFrom(256, 1, 3),
  }),
  integrity: fc.constantFrom('frame', 'full'),
  budgetBytes: fc.constantFrom(0, 3000, 2 ** 26),
  deadAfterMs: fc.constantFrom(null, null, 30_000),
});

const link = fc.constantFrom(
  { capacityBytes: 100_000, latencyMs: 0 },
  { capacityBytes: 40, latencyMs: 0 },
  { capacityBytes: 300, latencyMs: 0 },
  { capacityBytes: 4096, latencyMs: 0 },
  { capacityBytes: 4096, latencyMs: 5 },
  { capacityBytes: 100_000, latencyMs: 40 },
  { capacityBytes: 100_000, latencyMs: 1500 },
);

export const scenarios: fc.Arbitrary<Scenario> = fc.record({
  link,
  beginsEstablished: fc.oneof(
    { arbitrary: fc.constant(true), weight: 3 },
    { arbitrary: fc.constant(false), weight: 1 },
  ),
  pieceBytes: fc.oneof(fc.constantFrom(65_536, 4096), fc.integer({ min: 20, max: 2000 })),
  a: side,
  b: side,
  identity: fc.nat(1000),
  operations: fc.array(operation, { maxLength: 60 }),
});
