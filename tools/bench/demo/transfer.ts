/** A transfer of the demonstration: bytes through one forward, and their digest back through the same stream. */
import type { Machine, Program } from './machine.js';

/** The result of a transfer. */
export interface Transfer {
  readonly ms: number;
  readonly sent: string;
  /** What the other end counted. */
  readonly received: string;
}

/** A running transfer. */
export interface RunningTransfer {
  readonly program: Program;
  readonly done: Promise<Transfer>;
}

const TRANSFER_MS = 180_000;

/** Starts to push `byteCount` bytes into a port of `machine`. */
export async function startTransfer(machine: Machine, port: string, byteCount: number): Promise<RunningTransfer> {
  const program = await machine.start('push', [port, String(byteCount)]);
  const done = program.waitForLine(/^pushed (.*)/, TRANSFER_MS).then(([, json = '']) => JSON.parse(json) as Transfer);
  return { program, done };
}

/** The number of bytes that a transfer has sent so far. */
export async function bytesSent({ program }: RunningTransfer): Promise<number> {
  return Number(/^at (\d+)/.exec(await program.lastLine())?.[1] ?? 0);
}
