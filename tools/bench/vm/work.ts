/** The work in a guest, and its bars. */
import { runProgram } from '../load/program.js';
import type { Bar } from '../report/bars.js';
import type { Outcomes, Row } from '../work/work.js';

/** The amounts of one round. */
export interface VmAmounts {
  /** Bytes of a transfer. */
  readonly bytes: number;
  /** Messages of an echo that is alone. */
  readonly echoes: number;
  /** How long an echo is measured beside bulk, in milliseconds. */
  readonly besideMs: number;
}

/** A piece of work: one run of the near end against an address. */
export interface VmWork {
  /** The name that `--only` matches, and the name in the JSON file. */
  readonly id: string;
  readonly rows: readonly Row[];
  /** The near end's mode, and how much of it. */
  readonly mode: string;
  amountOf(amounts: VmAmounts): number;
  /** Whether it needs several streams, which a bare port does not have. */
  readonly isMultiplexed?: boolean;
}

/** Every piece of work in the guest, in the order of the table. */
export const VM_WORK: readonly VmWork[] = [
  {
    id: 'up',
    mode: 'up',
    rows: [{ key: 'rate', title: 'up (host to guest), 1 stream', unit: 'MB/s' }],
    amountOf: ({ bytes }) => bytes,
  },
  {
    id: 'down',
    mode: 'down',
    rows: [{ key: 'rate', title: 'down (guest to host), 1 stream', unit: 'MB/s' }],
    amountOf: ({ bytes }) => bytes,
  },
  {
    id: 'echo',
    mode: 'echo',
    rows: [
      { key: 'p50', title: 'echo of 1 B, alone, p50', unit: 'µs' },
      { key: 'p99', title: '  p99', unit: 'µs' },
    ],
    amountOf: ({ echoes }) => echoes,
  },
  {
    id: 'beside-bulk',
    mode: 'beside',
    rows: [
      { key: 'p50', title: 'echo of 1 B next to 1 bulk stream each way, p50', unit: 'µs' },
      { key: 'p99', title: '  p99', unit: 'µs' },
      { key: 'up', title: '  bulk rate up meanwhile', unit: 'MB/s' },
      { key: 'down', title: '  bulk rate down meanwhile', unit: 'MB/s' },
    ],
    amountOf: ({ besideMs }) => besideMs,
    isMultiplexed: true,
  },
];

/** Does a piece of work once. Rejects when the near end fails. */
export function measureInGuest(work: VmWork, address: string, amounts: VmAmounts): Promise<Outcomes> {
  return runProgram('tools/bench/vm/client.js', [address, work.mode, `${work.amountOf(amounts)}`]);
}

const beside = (title: string, work: string, key: string, bound: Bar['bound'], bar: number): Bar => ({
  ...{ title, work, key, of: 'vproxy', beside: 'relay', bound, bar },
});

const ofGuestProgram = (title: string, work: string, key: string, bound: Bar['bound'], bar: number): Bar => ({
  ...{ title, work, key, of: 'vproxy-guest', beside: 'vproxy', bound, bar },
});

const inProcess = (work: string, bar: number): Bar => ({
  ...{ title: `${work}, 1 stream, in the process`, work, key: 'rate', of: 'mux', beside: 'raw', bound: 'least', bar },
});

/** The bars of the figures in the guest, as ratios of medians in one run; docs/performance-notebook.md has what limits them. */
export const VM_BARS: readonly Bar[] = [
  beside('up, 1 stream', 'up', 'rate', 'least', 0.8),
  beside('down, 1 stream', 'down', 'rate', 'least', 1),
  inProcess('up', 0.65),
  inProcess('down', 0.5),
  beside('echo of 1 B, alone, p50', 'echo', 'p50', 'most', 1.3),
  ofGuestProgram('vproxy-guest, up, 1 stream', 'up', 'rate', 'least', 1),
  ofGuestProgram('vproxy-guest, down, 1 stream', 'down', 'rate', 'least', 1),
  ofGuestProgram('vproxy-guest, echo of 1 B, alone, p50', 'echo', 'p50', 'most', 0.6),
];
