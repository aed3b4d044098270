/** A private Prometheus on loopback, with its data in a temporary folder. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { findProgram } from '../process/find-program.js';
import { findFreePort } from '../process/free-port.js';
import { Programs, type RunningProgram } from '../process/programs.js';

/** Its scrape interval. */
export const SCRAPE_S = 2;

const READY_MS = 30_000;
const LOOK_MS = 100;

/** One series of an answer, oldest point first. */
export interface QueriedSeries {
  readonly labels: Readonly<Record<string, string>>;
  /** In seconds since 1970. */
  readonly points: readonly { readonly time: number; readonly value: number }[];
}

/** The part of an answer that is used: https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries */
interface RangeAnswer {
  readonly status: string;
  readonly error?: string;
  readonly data?: {
    readonly result: readonly {
      readonly metric: Record<string, string>;
      readonly values: readonly (readonly [number, string])[];
    }[];
  };
}

export class Prometheus {
  readonly #url: string;
  readonly #programs: Programs;

  private constructor(url: string, programs: Programs) {
    this.#url = url;
    this.#programs = programs;
  }

  /** `targets`: `HOST:PORT` by instance name. The caller stops it. */
  static async start(folder: string, targets: Readonly<Record<string, string>>): Promise<Prometheus> {
    const program = findProgram('prometheus');
    if (program === undefined) {
      throw new Error('prometheus not found: apt-get install --no-install-recommends prometheus');
    }
    const own = join(folder, 'prometheus');
    mkdirSync(own);
    const config = {
      global: { scrape_interval: `${SCRAPE_S}s` },
      scrape_configs: [
        {
          job_name: 'vproxy',
          static_configs: Object.entries(targets).map(([instance, address]) => ({
            targets: [address],
            labels: { instance },
          })),
        },
      ],
    };
    // JSON is YAML.
    writeFileSync(join(own, 'prometheus.yml'), JSON.stringify(config));
    const address = `127.0.0.1:${await findFreePort()}`;
    const programs = new Programs(own);
    const process = programs.start(program, [
      `--config.file=${join(own, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(own, 'data')}`,
      `--web.listen-address=${address}`,
    ]);
    const server = new Prometheus(`http://${address}`, programs);
    await server.#untilReady(process);
    return server;
  }

  async #untilReady(process: RunningProgram): Promise<void> {
    const deadline = performance.now() + READY_MS;
    for (;;) {
      const isReady = await fetch(`${this.#url}/-/ready`).then(
        ({ ok }) => ok,
        () => false,
      );
      if (isReady) return;
      if (process.hasEnded || performance.now() > deadline) {
        await this.stop();
        throw new Error(`prometheus does not answer: ${process.lastLine()}`);
      }
      await delay(LOOK_MS);
    }
  }

  /** Throws the error of Prometheus for an invalid query. Times are in seconds since 1970. */
  async queryRange(
    query: string,
    { from, to }: { readonly from: number; readonly to: number },
  ): Promise<QueriedSeries[]> {
    const words = new URLSearchParams({ query, start: String(from), end: String(to), step: String(SCRAPE_S) });
    const response = await fetch(`${this.#url}/api/v1/query_range?${words.toString()}`);
    const { status, error, data } = (await response.json()) as RangeAnswer;
    if (status !== 'success' || data === undefined) throw new Error(`${query}: ${error ?? status}`);
    return data.result.map(({ metric, values }) => ({
      labels: metric,
      points: values.map(([time, value]) => ({ time, value: Number(value) })),
    }));
  }

  stop(): Promise<void> {
    return this.#programs.stop();
  }
}
