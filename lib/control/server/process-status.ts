/** What a process says of itself. */
import type { LogLevel } from '../../events.js';
import type { ProcessControl } from './control-server.js';
import type { LoopDelay } from './event-loop-delay.js';

/** The process as a whole; amounts in bytes, times in milliseconds. */
export interface ProcessStatus {
  /** The operator's name for it. */
  readonly name: string | null;
  /** Its number in the system. */
  readonly pid: number;
  /** Program and version, such as `vproxy 0.1.0`. */
  readonly version: string;
  /** The version of Node. */
  readonly node: string;
  /** When it was started, as ISO 8601 in UTC. */
  readonly startedAt: string;
  /** For how long it has run. */
  readonly uptimeMs: number;
  /** What it takes up. */
  readonly memory: {
    /** Of the machine's memory. */
    readonly residentBytes: number;
    /** Objects of JavaScript. */
    readonly heapBytes: number;
    /** What belongs to objects and lies outside of the heap, such as buffers. */
    readonly externalBytes: number;
  };
  /** Since the last request for it; null for the first one in a while: it is measured from then on. */
  readonly eventLoopDelay: LoopDelay | null;
  /** What the log shows. */
  readonly logLevel: LogLevel;
}

/** The status of this process. */
export function describeProcess(control: ProcessControl, eventLoopDelay: LoopDelay | null): ProcessStatus {
  const { rss, heapUsed, external } = process.memoryUsage();
  const uptimeMs = Math.round(process.uptime() * 1000);
  return {
    name: control.name,
    pid: process.pid,
    version: control.version,
    node: process.versions.node,
    startedAt: new Date(Date.now() - uptimeMs).toISOString(),
    uptimeMs,
    memory: { residentBytes: rss, heapBytes: heapUsed, externalBytes: external },
    eventLoopDelay,
    logLevel: control.logLevel,
  };
}
