/** The sources of facts about this machine: files of /proc, /etc and /run, Node's `os`, and systemctl. Tests replace them. */
import { createReadStream, promises as fs } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { runTool, type ToolResult } from '../../system/processes/run-tool.js';

/** The size of a file system, in blocks. */
export interface FileSystemSize {
  readonly bsize: number;
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
}

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
  /** Reads a text file, at most its first MiB; null if it cannot be read. */
  readText(path: string): Promise<string | null>;
  exists(path: string): Promise<boolean>;
  /** Rejects with a system error, or never settles. */
  statfs(path: string): Promise<FileSystemSize>;
  /** Runs a program to its end. Rejects with a system error if it cannot be started. */
  run(words: readonly string[]): Promise<ToolResult>;
}

const MAX_FILE_BYTES = 1_048_576;

/** A booting machine may be slow. */
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
