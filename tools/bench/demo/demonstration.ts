/** The steps of the demonstration, each of which adds a row to its table or throws. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import { ESTABLISHED, listeningFor } from '../../../spec/helpers/vproxy-process.js';
import type { CommandResult, Machine, Program, ProgramName } from './machine.js';
import { type Outcome, say, showProgress } from './report.js';
import type { Stage } from './stage.js';
import { bytesSent, type RunningTransfer, startTransfer, type Transfer } from './transfer.js';

const COPY_BYTES = 20_000_000;
const START_MS = 20_000;
const PROGRESS_MS = 250;
/** The number of updates of `vproxy top`, one a second, during the transfers. */
const TOP_LOOKS = 4;
const REPLIES = join(PROJECT_ROOT, 'examples/replies.json');
const CALL = ['/c0', 'show'];

/** Runs everything on a stage; stops everything it started, also when a step fails. */
export class Demonstration {
  readonly outcomes: Outcome[] = [];
  readonly #stage: Stage;
  readonly #programs: Program[] = [];
  #isStopped = false;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  /** Runs all steps. Rejects with the first failure. */
  async run(): Promise<void> {
    const { host, guest, hostChannel, guestChannel } = this.#stage;
    const sinks = { host: await this.#startSink(host), guest: await this.#startSink(guest) };
    const began = performance.now();
    const hostForwards = ['-o', 'storage:127.0.0.1:0', '-o', 'up:127.0.0.1:0', '-i', `down:127.0.0.1:${sinks.host}`];
    const hostSide = await this.#startVproxy('host', host, [...hostChannel, ...hostForwards]);
    const guestForwards = ['-i', `up:127.0.0.1:${sinks.guest}`, '-o', 'down:127.0.0.1:0'];
    const guestArgs = [...guestChannel, ...guestForwards, '--allow-exec', '--allow-copy'];
    const guestSide = await this.#startVproxy('guest', guest, guestArgs);
    const portOf = async (side: Program, service: string) =>
      (await side.waitForLine(listeningFor(service), START_MS))[2] ?? '';
    await Promise.all([hostSide, guestSide].map((side) => side.waitForLine(ESTABLISHED, START_MS)));
    this.#add('a session between the two sides', `established after ${formatSeconds(performance.now() - began)}`);
    await this.#startEmulator(await portOf(hostSide, 'storage'));
    say(await this.#callStorage('storcli64 /c0 show in the guest'));
    await this.#runCommand();
    await this.#copyFile();
    await this.#pushBothWays(await portOf(hostSide, 'up'), await portOf(guestSide, 'down'));
    await this.#restartGuest(guestSide, guestArgs);
  }

  /** Stops every started program, the last one first. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const program of this.#programs.reverse()) await program.stop();
  }

  async #startEmulator(port: string): Promise<void> {
    const args = ['storage-emulator', '--replies', REPLIES, '--dial', `127.0.0.1:${port}`];
    const emulator = await this.#startVproxy('host', this.#stage.host, args);
    await emulator.waitForLine(/connected to/, START_MS);
  }

  /** Calls the utility; resolves with its output. */
  async #callStorage(what: string): Promise<string> {
    say(`\nguest$ storcli64 ${CALL.join(' ')}`);
    const began = performance.now();
    const { stdout, stderr, status } = await this.#stage.guest.runUtility(CALL);
    const took = formatSeconds(performance.now() - began);
    const shown = `${stdout}${stderr}(exit status ${status})`;
    if (status !== 0 || stdout !== recordedReply())
      throw new Error(`the reply differs from the recorded one:\n${shown}`);
    this.#add(what, `exit status ${status}, ${stdout.length} bytes, ${took}`);
    return shown;
  }

  async #runCommand(): Promise<void> {
    say(`\nhost$ export VPROXY_SOCKET=${this.#stage.host.controlSocket}`);
    const began = performance.now();
    const { stdout, stderr, status } = await this.#ask('exec', '-n', 'sh', '-c', 'echo it works; echo oh >&2; exit 7');
    const took = formatSeconds(performance.now() - began);
    say(`(exit status ${status})`);
    if (status !== 7 || stdout !== 'it works\n' || stderr !== 'oh\n')
      throw new Error('unexpected result of the command');
    this.#add('a command in the guest', `both outputs, exit status ${status}, ${took}`);
  }

  async #copyFile(): Promise<void> {
    const { host, guestFolder } = this.#stage;
    const bytes = randomBytes(COPY_BYTES);
    const [source, copy] = [join(host.folder, 'disk.img'), `${guestFolder}/disk.copy`];
    writeFileSync(source, bytes);
    const began = performance.now();
    const copied = await this.#ask('copy', source, `:${copy}`);
    const took = formatSeconds(performance.now() - began);
    const summed = await this.#ask('exec', '-n', 'sha256sum', copy);
    const sent = createHash('sha256').update(bytes).digest('hex');
    if (copied.status !== 0 || !summed.stdout.startsWith(`${sent} `)) throw new Error('the copy differs from the file');
    this.#add(`${COPY_BYTES / 1e6} MB copied to the guest`, `SHA-256 equal, ${took}`);
  }

  async #pushBothWays(hostPort: string, guestPort: string): Promise<void> {
    const { host, guest } = this.#stage;
    const up = await this.#startTransfer(host, hostPort);
    const down = await this.#startTransfer(guest, guestPort);
    const done = Promise.all([up.done, down.done]);
    done.catch(() => undefined);
    const watching = new AbortController();
    await this.#watch();
    void watchProgress([up, down], watching.signal);
    try {
      const [upwards, downwards] = await done;
      this.#addTransfer('host to guest', upwards);
      this.#addTransfer('guest to host', downwards);
    } finally {
      watching.abort();
    }
  }

  /** Shows the streams of the host's side: on a terminal with the screen of `vproxy top`, else with its lines. */
  async #watch(): Promise<void> {
    const words = ['top', '--count', String(TOP_LOOKS)];
    say(`\nhost$ vproxy ${words.join(' ')}`);
    if (process.stdout.isTTY) await this.#stage.host.showVproxy(words);
    else say((await this.#stage.host.runVproxy(words)).stdout.trimEnd());
    this.#add('vproxy top beside the transfers', `${TOP_LOOKS} looks`);
  }

  /** Simulates a reboot of the guest: its side vanishes without notice, and returns. */
  async #restartGuest(guestSide: Program, guestArgs: readonly string[]): Promise<void> {
    say("\nThe guest's vproxy is killed, as by a reboot, and restarted; the host is left alone.\n");
    await guestSide.kill();
    const began = performance.now();
    const again = await this.#startVproxy('guest', this.#stage.guest, guestArgs);
    await again.waitForLine(ESTABLISHED, START_MS);
    this.#add('a session after the guest is back', `established after ${formatSeconds(performance.now() - began)}`);
    await this.#callStorage('storcli64 /c0 show once more');
    say('(the same reply)');
  }

  /** Runs a vproxy command on the host, and shows it with its output. */
  async #ask(...words: readonly string[]): Promise<CommandResult> {
    say(`host$ vproxy ${words.map(quoteWord).join(' ')}`);
    const result = await this.#stage.host.runVproxy(words);
    for (const text of [result.stdout, result.stderr]) if (text !== '') say(text.trimEnd());
    return result;
  }

  #addTransfer(direction: string, { ms, sent, received }: Transfer): void {
    if (sent !== received) throw new Error(`${direction}: sent SHA-256 ${sent}, received ${received}`);
    const { transferBytes } = this.#stage;
    const rate = Math.round(transferBytes / 1000 / ms);
    const figures = `SHA-256 equal, ${formatSeconds(ms)}, ${rate} MB/s`;
    this.#add(`${transferBytes / 1e6} MB ${direction}, both at once`, figures);
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
    const transfer = await startTransfer(machine, port, this.#stage.transferBytes);
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

/** Shows the bytes sent, until `signal`. */
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

/** Quotes a word for the shell. */
const quoteWord = (word: string): string => (/^[\w./:=@-]+$/.test(word) ? word : `'${word}'`);

function formatSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
