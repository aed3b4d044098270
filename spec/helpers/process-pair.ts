/** Two command lines on one unix channel: the host listens on it, the guest connects. */
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type ControlClient, connectControl } from '../../lib/control/client/client.js';
import { temporaryFolder } from './files.js';
import {
  ENDED,
  ESTABLISHED,
  type PipedCommand,
  type RunResult,
  runPiped,
  runProgram,
  type SpawnOptions,
  spawnVproxy,
  TAKING_CONTROL,
  VPROXY,
  type VproxyProcess,
} from './vproxy-process.js';

export interface PairSetup {
  readonly host?: readonly string[];
  readonly guest?: readonly string[];
  readonly hostOptions?: SpawnOptions;
  readonly guestOptions?: SpawnOptions;
  /** Where the host listens. Default: in a folder of its own. */
  readonly hostPath?: string;
  /** Where the guest connects. Default: where the host listens. */
  readonly guestPath?: string;
  /** Which sides have a control socket. Default: none. */
  readonly control?: 'host' | 'both';
}

/** The value of `sessions` as long as the first one continues. */
export const ONE_SESSION = [
  [1, 1],
  [0, 0],
];

export class ProcessPair {
  readonly #t: ExecutionContext;
  readonly #setup: PairSetup;
  readonly #hostPath: string;
  /** An empty folder, and the control sockets of the host and the guest, with clients for them. */
  readonly folder: string;
  readonly sockets: readonly [host: string, guest: string];
  readonly clients: readonly [host: ControlClient, guest: ControlClient];
  /** For commands at the host: its control socket; `VPROXY`, the command line for a shell; `WORK`, the folder. */
  readonly env: Readonly<Record<string, string>>;
  host: VproxyProcess;
  guest: VproxyProcess;

  constructor(t: ExecutionContext, setup: PairSetup) {
    this.#t = t;
    this.#setup = setup;
    this.folder = temporaryFolder(t);
    const folder = temporaryFolder(t);
    this.#hostPath = setup.hostPath ?? join(folder, 'channel.sock');
    this.sockets = [join(folder, 'host.sock'), join(folder, 'guest.sock')];
    this.clients = [connectControl(this.sockets[0]), connectControl(this.sockets[1])];
    this.env = { VPROXY_SOCKET: this.sockets[0], VPROXY, WORK: this.folder };
    this.host = this.startHost();
    this.guest = this.startGuest();
  }

  startHost(): VproxyProcess {
    const { host = [], hostOptions = {}, control } = this.#setup;
    const controlled = control === undefined ? [] : ['--control', this.sockets[0]];
    this.host = spawnVproxy(this.#t, ['-c', `unix-listen:${this.#hostPath}`, ...controlled, ...host], hostOptions);
    return this.host;
  }

  startGuest(): VproxyProcess {
    const { guest = [], guestOptions = {}, guestPath = this.#hostPath, control } = this.#setup;
    const controlled = control === 'both' ? ['--control', this.sockets[1]] : [];
    this.guest = spawnVproxy(this.#t, ['-c', `unix-connect:${guestPath}`, ...controlled, ...guest], guestOptions);
    return this.guest;
  }

  /** Resolves when both sides have logged a session, in lines from these numbers on. */
  async established(from: { readonly host?: number; readonly guest?: number } = {}): Promise<void> {
    await Promise.all([
      this.host.waitForLine(ESTABLISHED, { from: from.host ?? 0 }),
      this.guest.waitForLine(ESTABLISHED, { from: from.guest ?? 0 }),
    ]);
  }

  async controlled(): Promise<void> {
    const { control } = this.#setup;
    if (control !== undefined) await this.host.waitForLine(TAKING_CONTROL);
    if (control === 'both') await this.guest.waitForLine(TAKING_CONTROL);
  }

  /** The sessions that each side has begun, and ended. */
  readonly sessions = (): number[][] =>
    [ESTABLISHED, ENDED].map((pattern) =>
      [this.host, this.guest].map(({ lines }) => lines.filter((line) => pattern.test(line)).length),
    );

  /** Starts `vproxy exec` at the host with these words, on pipes held by the test. */
  readonly start = (...words: readonly string[]): PipedCommand => runPiped(this.#t, ['exec', ...words], this.env);

  /** Runs it to its end, with these bytes as standard input. */
  readonly exec = async (words: readonly string[], input: string | Buffer = ''): Promise<RunResult> => {
    const { child, output, ended } = this.start(...words);
    child.stdin.end(input);
    const [stdout, { code, stderr }] = await Promise.all([output, ended]);
    return { code, stdout: stdout.toString(), stderr };
  };

  /** Runs a bash script in which `$VPROXY exec …` works. */
  readonly script = (text: string): Promise<RunResult> =>
    runProgram(['bash', '-c', text], { env: { ...process.env, ...this.env } });
}

/** A pair with a session. */
export async function processPair(t: ExecutionContext, setup: PairSetup): Promise<ProcessPair> {
  const pair = new ProcessPair(t, setup);
  await Promise.all([pair.established(), pair.controlled()]);
  return pair;
}

/** A pair whose guest allows commands to the host. */
export const execPair = (t: ExecutionContext, args: readonly string[] = ['--allow-exec'], setup: PairSetup = {}) =>
  processPair(t, { ...setup, control: 'host', guest: args });
