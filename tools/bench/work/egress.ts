/** An egress compared with a plain forward of the same two processes: the cost of a CONNECT, while and after it is set up. */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, within } from '../../../spec/helpers/time.js';
import { VPROXY_SCRIPT } from '../contenders/vproxy.js';
import type { Address } from '../load/connection.js';
import { exchangeOneByte } from '../load/connections.js';
import { LoadClient } from '../load/load-client.js';
import { findFreePort } from '../process/free-port.js';
import type { Programs, RunningProgram } from '../process/programs.js';
import { cpuSecondsOf } from '../process/tree.js';
import { type Amounts, type Outcomes, pidsOf, type Work } from './work.js';

const START_TIMEOUT_MS = 20_000;
const TRY_TIMEOUT_MS = 5000;

/** The work's name and its rows. */
export const EGRESS: Pick<Work, 'id' | 'rows'> = {
  id: 'egress',
  rows: () => [
    { key: 'up', title: 'up, 1 stream', unit: 'MB/s' },
    { key: 'up-cpu', title: '  CPU of both sides', unit: 's/GB' },
    { key: 'down', title: 'down, 1 stream', unit: 'MB/s' },
    { key: 'down-cpu', title: '  CPU of both sides', unit: 's/GB' },
    { key: 'connections-1', title: 'connections, 1 at a time', unit: '/s' },
    { key: 'connections-16', title: 'connections, 16 at a time', unit: '/s' },
  ],
};

/** The ways to reach the target. */
export const WAYS_OUT: readonly { readonly id: string; readonly title: string }[] = [
  { id: 'forward', title: 'plain forward' },
  { id: 'connect', title: 'CONNECT' },
];

/** Two sides with a forward and an egress to the target. */
export class EgressTimes {
  readonly #sides: readonly RunningProgram[];
  readonly #addresses: ReadonlyMap<string, Address>;
  readonly #load: LoadClient;

  private constructor(sides: readonly RunningProgram[], addresses: ReadonlyMap<string, Address>, load: LoadClient) {
    this.#sides = sides;
    this.#addresses = addresses;
    this.#load = load;
  }

  /** Starts both sides, and resolves when a byte has made the round trip on either way. */
  static async start(
    programs: Programs,
    parent: string,
    target: number,
    { timeoutMs }: Pick<Amounts, 'timeoutMs'>,
  ): Promise<EgressTimes> {
    const path = join(mkdtempSync(join(parent, 'egress-')), 'channel.sock');
    const [plain, proxy] = [await findFreePort(), await findFreePort()];
    const run = (...args: string[]) => programs.startScript(VPROXY_SCRIPT, [...args, '--quiet', '--no-control']);
    const rules = ['-i', 'web:egress:', '--egress', `web:allow=127.0.0.1:${target}`];
    const times = new EgressTimes(
      [
        run('-c', `unix-listen:${path}`, '-o', `load:127.0.0.1:${plain}`, '-o', `web:127.0.0.1:${proxy}`),
        run('-c', `unix-connect:${path}`, '-i', `load:127.0.0.1:${target}`, ...rules),
      ],
      new Map<string, Address>([
        ['forward', plain],
        ['connect', { proxy, port: target }],
      ]),
      new LoadClient(timeoutMs),
    );
    try {
      for (const [id, address] of times.#addresses) {
        const what = `the first echo by ${id}`;
        const look = async (): Promise<boolean> => {
          await within(TRY_TIMEOUT_MS, what, exchangeOneByte(address));
          return true;
        };
        await eventually(look, { timeoutMs: START_TIMEOUT_MS, what });
      }
    } catch (error) {
      await times.stop();
      throw error;
    }
    return times;
  }

  /** Measures everything once by each way, alternating. */
  async measure({
    bytes,
    connections,
  }: Pick<Amounts, 'bytes' | 'connections'>): Promise<ReadonlyMap<string, Outcomes>> {
    const found = new Map([...this.#addresses.keys()].map((id) => [id, {}]));
    for (const direction of ['up', 'down'] as const) {
      for (const [id, address] of this.#addresses) {
        const before = cpuSecondsOf(pidsOf(this.#sides));
        const { rate = Number.NaN } = await this.#load.run({ kind: 'rate', address, direction, streams: 1, bytes });
        const cpuSeconds = cpuSecondsOf(pidsOf(this.#sides)) - before;
        await this.#load.run({ kind: 'release' });
        Object.assign(found.get(id) ?? {}, { [direction]: rate, [`${direction}-cpu`]: cpuSeconds / (bytes / 1e9) });
      }
    }
    for (const parallel of [1, 16]) {
      for (const [id, address] of this.#addresses) {
        const figures = await this.#load.run({ kind: 'connections', address, count: connections, parallel });
        Object.assign(found.get(id) ?? {}, { [`connections-${parallel}`]: figures['perSecond'] ?? Number.NaN });
      }
    }
    return found;
  }

  /** Ends both sides. */
  async stop(): Promise<void> {
    this.#load.stop();
    await Promise.all(this.#sides.map((side) => side.stop()));
  }
}
