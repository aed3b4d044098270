/**
 * A program that runs several proxies in one process, on a clock that may be faster than the world's. It is started as
 * `node dist/spec/helpers/proxy-program.js JSON`, where JSON is a {@link ProxyProgram}; it logs as `vproxy` does.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { exitOnDefect } from '../../cli/exit.js';
import { Output } from '../../cli/output.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { type Clock, systemClock } from '../../lib/util/clock.js';

/** What the program runs. */
export interface ProxyProgram {
  /** How many seconds of its clock pass in one of the world's. Default 1. */
  readonly speed?: number;
  readonly proxies: readonly {
    readonly channel: string;
    readonly outgoing?: readonly string[];
    readonly incoming?: readonly string[];
  }[];
}

/** A clock that runs faster than the system's. */
function fastClock(speed: number): Clock {
  return {
    now: () => systemClock.now() * speed,
    schedule: (delayMs, callback) => systemClock.schedule(delayMs / speed, callback),
  };
}

async function run({ speed = 1, proxies }: ProxyProgram): Promise<void> {
  const output = new Output();
  exitOnDefect((error) => output.defect(error));
  const clock = fastClock(speed);
  const running = proxies.map(({ channel, outgoing = [], incoming = [] }) => {
    const forwards = [
      ...outgoing.map((text) => parseForwardSpec('outgoing', text)),
      ...incoming.map((text) => parseForwardSpec('incoming', text)),
    ];
    return new Proxy({ channels: [{ address: channel, forwards }], agent: 'proxy program', clock });
  });
  for (const proxy of running) {
    proxy.on('log', (event) => output.log(event));
    await proxy.start();
  }
  process.once('SIGTERM', () => {
    void Promise.race([Promise.all(running.map((proxy) => proxy.stop())), delay(1000)]).then(() => process.exit(0));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await run(JSON.parse(process.argv[2] ?? '') as ProxyProgram);

/** The program, seen from the project's folder. */
export const PROXY_PROGRAM = 'dist/spec/helpers/proxy-program.js';
