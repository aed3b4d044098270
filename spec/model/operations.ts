/** What each operation of a scenario does to the model. */

import type { PatternEnd } from '../helpers/local-ends.js';
import type { Answer } from '../helpers/traffic.js';
import type { Model, ModelSide } from './model.js';
import type { Operation, OperationName } from './scenario.js';

interface Context {
  readonly model: Model;
  /** The side that the operation's `index` means. */
  readonly side: ModelSide;
  /** The end of a stream that it means; undefined before any stream was opened. */
  readonly end: PatternEnd | undefined;
  readonly index: number;
  readonly amount: number;
}

const HOUR_MS = 3_600_000;

const ANSWERS: readonly Answer[] = ['accept', 'accept', 'accept', 'accept', 'accept', 'later', 'refuse', 'ignore'];

/** A position among the bytes in flight from a side. */
const place = ({ side, amount }: Context): number => amount % Math.max(side.outbound.totalBytes, 1);

/** Of the bytes in flight from a side `count` are lost from `at` on, or repeated if negative, and others are inserted there. */
function splice({ model, side }: Context, at: number, count: number, others: Buffer = Buffer.alloc(0)): void {
  model.mangle(side, (pipe) =>
    pipe.mangle((bytes) => Buffer.concat([bytes.subarray(0, at), others, bytes.subarray(Math.max(at + count, 0))])),
  );
}

const ACTIONS: Readonly<Record<OperationName, (context: Context) => void>> = {
  step: ({ model, amount }) => {
    for (let step = 0; step <= amount % 50; step += 1) model.step();
  },
  settle: ({ model }) => model.settle(),
  wait: ({ model, amount }) => model.wait(amount % 10_000),
  hours: ({ model, amount }) => model.wait((1 + (amount % 3)) * HOUR_MS, 65_536),

  open: ({ model, side, index, amount }) =>
    model.traffic.open(side, ANSWERS[(index >> 1) % ANSWERS.length])?.send(amount),
  send: ({ end, amount }) => end?.send(amount),
  finish: ({ end }) => end?.finish(),
  reset: ({ end }) => end?.stream?.reset('cancelled', 'at random'),
  stop: ({ end }) => end?.stop(),
  pause: ({ end }) => {
    if (end !== undefined) end.isPaused = true;
  },
  read: ({ end, amount }) => end?.release(1 + (amount % 4)),
  resume: ({ end }) => end?.resume(),
  answer: ({ end, amount }) => {
    if (amount % 4 === 0) end?.stream?.refuse('denied', 'at random');
    else end?.stream?.accept();
  },
  services: ({ model, side, amount }) => model.setServices(side, amount),
  drain: ({ model, side }) => model.drain(side),

  stall: ({ side }) => {
    side.outbound.isStalled = true;
  },
  unstall: ({ side }) => {
    side.outbound.isStalled = false;
  },
  freeze: ({ model, side }) => model.freeze(side),
  thaw: ({ model, side }) => model.thaw(side),
  late: ({ model, amount }) => model.late(amount % 10_000),
  // From seconds to half a day; of one side, or of the machine that both run on.
  jump: ({ model, side, amount }) => model.jump(1000 * (1 + amount), amount % 3 === 0 ? model.sides : [side]),
  cut: ({ model, amount }) => model.cut(amount % 3000),
  replace: ({ model, side }) => model.replace(side),

  restart: ({ model, side }) => model.restart(side),
  'restart-twice': ({ model, side, amount }) => {
    model.restart(side);
    for (let step = 0; step < amount % 20; step += 1) model.step();
    model.restart(side);
  },
  'restart-both': ({ model }) => {
    for (const side of model.sides) model.restart(side);
  },
  lose: (context) => {
    const { model, side, index, amount } = context;
    if (index % 4 < 2) {
      model.mangle(side, (pipe) => pipe.repeatPiece(amount, 0));
      return;
    }
    const count = 1 + (index % 3 === 0 ? amount : index % 500);
    splice(context, index % 6 === 0 ? 0 : place(context), count);
  },
  repeat: (context) => {
    const { model, side, index, amount } = context;
    if (index % 4 < 2) model.mangle(side, (pipe) => pipe.repeatPiece(amount, 2));
    else splice(context, place(context) + 1 + (index % 500), -1 - (index % 500));
  },
  garbage: (context) => splice(context, place(context), 0, Buffer.alloc(1 + (context.index % 300), context.amount)),
  // Bytes of an earlier session precede what the next process writes.
  stale: (context) => {
    const { model, side, amount } = context;
    splice(context, side.outbound.totalBytes, 0, side.history.subarray(-amount - 1));
    model.restart(side);
  },
};

/** Faults that change bytes in flight. */
const MANGLING: ReadonlySet<OperationName> = new Set(['lose', 'repeat', 'garbage', 'stale']);

export function act(model: Model, { what, index, amount }: Operation): void {
  if (MANGLING.has(what) && !model.canMangle(model.side(index))) return;
  const { ends } = model.traffic;
  const end = ends[(index >> 1) % Math.max(ends.length, 1)];
  ACTIONS[what]({ model, side: model.side(index), end, index, amount });
}
