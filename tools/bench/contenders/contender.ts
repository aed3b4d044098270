/**
 * The contenders to compare. Each carries connections on the same path: load → TCP on loopback → near process → one unix socket
 * (or as its name says) → far process → TCP on loopback → target.
 */
import type { Programs, RunningProgram } from '../process/programs.js';

/** The surroundings of a contender. */
export interface ContenderSetting {
  readonly programs: Programs;
  /** A folder of its own, for sockets and configuration. */
  readonly folder: string;
  /** The port of 127.0.0.1 that every connection is to reach. */
  readonly target: number;
  /** Inserts a relay into the channel: takes the path of the listening socket, returns the path to connect to instead. */
  readonly through?: ((path: string) => string) | undefined;
}

/** A started contender; it may not be ready yet. */
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
  /** How to install what it lacks; undefined if it can run. */
  readonly missing: () => string | undefined;
  /** Starts its processes. Resolves before they are ready to carry anything. */
  start(setting: ContenderSetting): Promise<RunningContender>;
}
