/**
 * What is measured side by side. Every contender carries connections on the same path: load → TCP of the loopback → near
 * process → one unix socket (or what its name says) → far process → TCP of the loopback → target.
 */
import type { Programs, RunningProgram } from '../process/programs.js';

/** What a contender is started with. */
export interface ContenderSetting {
  readonly programs: Programs;
  /** A folder of its own, for sockets and configuration. */
  readonly folder: string;
  /** The port of 127.0.0.1 that every connection is to reach. */
  readonly target: number;
  /** Puts something into the channel: given the path of the socket that is listened on, the path to connect to instead. */
  readonly through?: ((path: string) => string) | undefined;
}

/** A contender that has been started; it may not be ready yet. */
export interface RunningContender {
  /** The port of 127.0.0.1 to connect to. */
  readonly address: number;
  /** The programs of each side; processes that they start belong to them. Empty without a proxy. */
  readonly near: readonly RunningProgram[];
  readonly far: readonly RunningProgram[];
}

/** One way of carrying connections. */
export interface Contender {
  /** The name on the command line and in the JSON file. */
  readonly id: string;
  /** The heading of its column. */
  readonly title: string;
  /** Descriptors that one stream takes in the process that needs most; Infinity when it takes processes. */
  readonly descriptorsPerStream: number;
  /** What to do so that it can run; undefined when it can. */
  readonly missing: () => string | undefined;
  /** Starts its processes. Resolves before they are ready to carry anything. */
  start(setting: ContenderSetting): Promise<RunningContender>;
}
