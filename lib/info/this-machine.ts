/** What is read of this machine: files of /proc, /etc and /run, what Node knows of the system, and systemctl. Each may be another one in a test. */
import { createReadStream, promises as fs } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { runTool, type ToolResult } from '../system/processes/run-tool.js';

/** The size of a file system, in blocks. */
export interface FileSystemSize {
  readonly bsize: number;
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
}

/** Where facts of a machine come from. */
export interface MachineSources {
  readonly os: Pick<
    typeof os,
    | 'availableParallelism'
    | 'freemem'
    | 'hostname'
    | 'loadavg'
    | 'machine'
    | 'networkInterfaces'
    | 'release'
    | 'totalmem'
    | 'type'
    | 'uptime'
  >;
  /** The text of a file, at most its first MiB; null where it cannot be read. */
  readText(path: string): Promise<string | null>;
  /** Whether there is a file, or a folder. */
  exists(path: string): Promise<boolean>;
  /** Rejects with an error of the system, or never settles. */
  statfs(path: string): Promise<FileSystemSize>;
  /** Runs a program to its end. Rejects with an error of the system where it cannot be started. */
  run(words: readonly string[]): Promise<ToolResult>;
}

const MAX_FILE_BYTES = 1_048_576;

/** A machine that is just booting may be slow. */
const TOOL_MS = 5000;

/** The machine that this process runs on; its files are below `root`. */
export const thisMachine = (root = ''): MachineSources => ({
  os,
  readText: (path) => text(createReadStream(join(root, path), { end: MAX_FILE_BYTES - 1 })).catch(() => null),
  exists: (path) =>
    fs.access(join(root, path)).then(
      () => true,
      () => false,
    ),
  statfs: (path) => fs.statfs(path),
  run: (words) => runTool(words, { timeoutMs: TOOL_MS }),
});
