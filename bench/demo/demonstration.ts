/** The steps of the demonstration, each of which adds a row to its table or throws. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PROJECT_ROOT } from '../../spec/helpers/files.js';
import { ESTABLISHED, listeningFor } from '../../spec/helpers/vproxy-process.js';
import type { Machine, Program, ProgramName } from './machine.js';
import { type Outcome, say, showProgress } from './report.js';
import type { Stage } from './stage.js';
import { bytesSent, type RunningTransfer, startTransfer, type Transfer } from './transfer.js';

const TRANSFER_BYTES = 100_000_000;
const START_MS = 20_000;
const PROGRESS_MS = 250;
const REPLIES = join(PROJECT_ROOT, 'examples/replies.json');
const CALL = ['/c0', 'show'];

/** Runs everything on a stage; stops what it started, also when a step fails. */
export class Demonstration {
  readonly outcomes: Outcome[] = [];
  readonly #stage: Stage;
  readonly #programs: Program[] = [];
  #isStopped = false;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  /** All steps. Rejects with the first one that fails. */
  async run(): Promise<void> {
    const { host, guest, hostChannel, guestChannel } = this.#stage;
    const sinks = { host: await this.#startSink(host), guest: await this.#startSink(guest) };
    const began = performance.now();
    const hostForwards = ['-o', 'storage:127.0.0.1:0', '-o', 'up:127.0.0.1:0', '-i', `down:127.0.0.1:${sinks.host}`];
    const hostSide = await this.#startVproxy('host', host, [...hostChannel, ...hostForwards]);
    const guestForwards = ['-i', `up:127.0.0.1:${sinks.guest}`, '-o', 'down:127.0.0.1:0'];
    const guestSide = await this.#startVproxy('guest', guest, [...guestChannel, ...guestForwards]);
    const portOf = async (side: Program, service: string) =>
      (await side.waitForLine(listeningFor(service), START_MS))[2] ?? '';
    await Promise.all([hostSide, guestSide].map((side) => side.waitForLine(ESTABLISHED, START_MS)));
    this.#add('a session between the two sides', `established after ${formatSeconds(performance.now() - began)}`);
    await this.#callStorage(await portOf(hostSide, 'storage'));
    await this.#pushBothWays(await portOf(hostSide, 'up'), await portOf(guestSide, 'down'));
  }

  /** Stops every program that was started, the last one first. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const program of this.#programs.reverse()) await program.stop();
  }

  async #callStorage(port: string): Promise<void> {
    const { host, guest } = this.#stage;
    const args = ['storage-emulator', '--replies', REPLIES, '--dial', `127.0.0.1:${port}`];
    const emulator = await this.#startVproxy('host', host, args);
    await emulator.waitForLine(/connected to/, START_MS);
    say(`\nguest$ storcli64 ${CALL.join(' ')}`);
    const began = performance.now();
    const { stdout, stderr, status } = await guest.runUtility(CALL);
    const took = formatSeconds(performance.now() - began);
    say(`${stdout}${stderr}(exit status ${status})\n`);
    if (status !== 0 || stdout !== recordedReply()) throw new Error('the storage call did not give the recorded reply');
    this.#add(`storcli64 ${CALL.join(' ')} in the guest`, `exit status ${status}, ${stdout.length} bytes, ${took}`);
  }

  async #pushBothWays(hostPort: string, guestPort: string): Promise<void> {
    const { host, guest } = this.#stage;
    const up = await this.#startTransfer(host, hostPort);
    const down = await this.#startTransfer(guest, guestPort);
    const done = Promise.all([up.done, down.done]);
    const watching = new AbortController();
    void watchProgress([up, down], watching.signal);
    try {
      const [upwards, downwards] = await done;
      this.#addTransfer('host to guest', upwards);
      this.#addTransfer('guest to host', downwards);
    } finally {
      watching.abort();
    }
  }

  #addTransfer(direction: string, { ms, sent, received }: Transfer): void {
    if (sent !== received) throw new Error(`${direction}: SHA-256 ${sent} was sent, ${received} came`);
    const rate = Math.round(TRANSFER_BYTES / 1000 / ms);
    const figures = `SHA-256 equal (${sent.slice(0, 12)}…), ${formatSeconds(ms)}, ${rate} MB/s`;
    this.#add(`${TRANSFER_BYTES / 1e6} MB ${direction}, both at once`, figures);
  }

  async #startSink(machine: Machine): Promise<string> {
    const sink = await this.#start(machine, 'sink', []);
    return (await sink.waitForLine(/sink on port (\d+)/, START_MS))[1] ?? '';
  }

  #startVproxy(prompt: string, machine: Machine, args: readonly string[]): Promise<Program> {
    say(`${prompt}$ vproxy ${args.join(' ')}`);
    return this.#start(machine, 'vproxy', args);
  }

  async #startTransfer(machine: Machine, port: string): Promise<RunningTransfer> {
    const transfer = await startTransfer(machine, port, TRANSFER_BYTES);
    transfer.done.catch(() => undefined);
    this.#programs.push(transfer.program);
    return transfer;
  }

  async #start(machine: Machine, name: ProgramName, args: readonly string[]): Promise<Program> {
    if (this.#isStopped) throw new Error('the demonstration was stopped');
    const program = await machine.start(name, args);
    this.#programs.push(program);
    return program;
  }

  #add(what: string, figures: string): void {
    this.outcomes.push({ what, result: 'ok', figures });
  }
}

/** Shows how much was sent, until `signal`. */
async function watchProgress(transfers: readonly RunningTransfer[], signal: AbortSignal): Promise<void> {
  while (process.stderr.isTTY && !signal.aborted) {
    const sent = await Promise.all(transfers.map(bytesSent)).catch(() => []);
    showProgress(`sent each way: ${sent.map((bytes) => `${bytes / 1e6} MB`).join(', ')}`);
    await delay(PROGRESS_MS, undefined, { signal }).catch(() => undefined);
  }
}

function recordedReply(): string {
  const { replies } = JSON.parse(readFileSync(REPLIES, 'utf8')) as { replies: { stdout: string[] }[] };
  return (replies[0]?.stdout ?? []).map((line) => `${line}\n`).join('');
}

function formatSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
