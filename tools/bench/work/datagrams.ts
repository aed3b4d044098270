/** DNS-sized datagrams beside a bulk stream and a one-byte echo: their cost to the echo, and their loss. */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Contender, ContenderSetting, RunningContender } from '../contenders/contender.js';
import { startReady } from '../contenders/start-ready.js';
import { startVproxy } from '../contenders/vproxy.js';
import { LoadClient } from '../load/load-client.js';
import { runProgram } from '../load/program.js';
import { findFreePort } from '../process/free-port.js';
import { type Outcomes, stopSides, type Work } from './work.js';

/** The time until every buffer on the way is full. */
const RAMP_MS = 500;

const QUESTIONS = 10_000;
const PER_SECOND = 2000;
/** As long as the questions take. */
const FOR_MS = (1000 * QUESTIONS) / PER_SECOND;

/** The work's name and its rows. */
export const DATAGRAMS: Pick<Work, 'id' | 'rows'> = {
  id: 'datagrams',
  rows: () => [
    { key: 'p50', title: 'echo next to a bulk stream, p50', unit: 'µs' },
    { key: 'p99', title: '  p99', unit: 'µs' },
    { key: 'rate', title: '  bulk rate meanwhile', unit: 'MB/s' },
    { key: 'answered', title: `  answers to ${QUESTIONS} queries`, unit: '' },
  ],
};

/** The variants of traffic beside them. */
export const DATAGRAM_LOADS: readonly { readonly id: string; readonly title: string }[] = [
  { id: 'alone', title: 'no datagrams' },
  { id: 'beside', title: `${PER_SECOND} queries per second` },
];

/** Two sides, with a forward of streams and one of datagrams. */
export class DatagramLoad {
  readonly #running: RunningContender;
  readonly #ports: readonly [target: number, entrance: number];
  readonly #bulk = new LoadClient();
  readonly #echo = new LoadClient();

  private constructor(running: RunningContender, ports: readonly [number, number]) {
    this.#running = running;
    this.#ports = ports;
  }

  static async start(setting: ContenderSetting): Promise<DatagramLoad> {
    const folder = mkdtempSync(join(setting.folder, 'datagrams-'));
    const channel = join(folder, 'channel.sock');
    const [target, entrance] = [await findFreePort(), await findFreePort()];
    const contender: Contender = {
      ...{ id: 'vproxy', title: 'vproxy', descriptorsPerStream: 1, missing: () => undefined },
      start: (given) =>
        startVproxy(given, `unix-listen:${channel}`, `unix-connect:${channel}`, {
          near: ['-o', `dns:udp:127.0.0.1:${entrance}`],
          far: ['-i', `dns:udp:127.0.0.1:${target}`],
        }),
    };
    return new DatagramLoad(await startReady(contender, { ...setting, folder }), [target, entrance]);
  }

  /** Measures the echo and the bulk once, with datagrams beside them or without. */
  async measure(id: string): Promise<Outcomes> {
    const { address } = this.#running;
    await this.#bulk.run({ kind: 'start-bulk', address, direction: 'up', streams: 1 });
    try {
      await delay(RAMP_MS);
      const before = await this.#bulk.run({ kind: 'count-bulk' });
      const [echo, asked] = await Promise.all([
        this.#echo.run({ kind: 'echo', address, bytes: 1, messages: Infinity, forMs: FOR_MS }),
        id === 'beside' ? this.#ask() : null,
      ]);
      const after = await this.#bulk.run({ kind: 'count-bulk' });
      const change = (key: string): number => (after[key] ?? Number.NaN) - (before[key] ?? Number.NaN);
      return {
        p50: echo['p50'] ?? Number.NaN,
        p99: echo['p99'] ?? Number.NaN,
        rate: change('bytes') / change('atMs') / 1000,
        ...(asked !== null && { answered: asked['answers'] ?? 0 }),
      };
    } finally {
      await this.#bulk.run({ kind: 'release' });
    }
  }

  #ask(): Promise<Record<string, number>> {
    return runProgram('tools/bench/load/questions.js', [...this.#ports, QUESTIONS, PER_SECOND].map(String));
  }

  async stop(): Promise<void> {
    this.#bulk.stop();
    this.#echo.stop();
    await stopSides(this.#running);
  }
}
