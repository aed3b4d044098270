/** A machine described by a spec: files in a folder, and the output of the system and of systemctl. */
import { mkdirSync, writeFileSync } from 'node:fs';
import type os from 'node:os';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type MachineSources, thisMachine } from '../../lib/services/info/this-machine.js';
import type { ToolResult } from '../../lib/system/processes/run-tool.js';
import { temporaryFolder } from './files.js';

/** The differences from a machine without files, whose init is not systemd. */
export interface DescribedMachine {
  readonly files?: Readonly<Record<string, string>>;
  readonly os?: Partial<MachineSources['os']>;
  readonly statfs?: MachineSources['statfs'];
  /** The results of programs, by their command lines; others cannot be started. */
  readonly tools?: Readonly<Record<string, Partial<ToolResult>>>;
}

const ADDRESS = { family: 'IPv4', mac: '52:54:00:12:34:56', internal: false } as const;

const NETWORK: ReturnType<typeof os.networkInterfaces> = {
  eth0: [{ ...ADDRESS, address: '192.0.2.7', netmask: '255.255.255.0', cidr: '192.0.2.7/24' }],
};

const OS: MachineSources['os'] = {
  availableParallelism: () => 2,
  freemem: () => 1_000_000,
  hostname: () => 'transient',
  loadavg: () => [0.5, 0.25, 0.125],
  machine: () => 'x86_64',
  networkInterfaces: () => NETWORK,
  release: () => '6.1.0',
  totalmem: () => 4_000_000,
  type: () => 'Linux',
  uptime: () => 3725.5,
};

/** A file in this folder marks systemd as the init. */
export const SYSTEMD = { '/run/systemd/system/file': '' } as const;

/** The sources of a machine; its files are removed with the test. `calls` has the command lines that were run. */
export function describedMachine(
  t: ExecutionContext,
  { files = {}, os = {}, tools = {}, statfs = () => new Promise(() => undefined) }: DescribedMachine = {},
): MachineSources & { readonly calls: string[] } {
  const root = temporaryFolder(t);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  const calls: string[] = [];
  return {
    ...thisMachine(root),
    os: { ...OS, ...os },
    statfs,
    calls,
    run: (words) => {
      const line = words.join(' ');
      calls.push(line);
      const result = tools[line];
      if (result === undefined) return Promise.reject(new Error(`spawn ${words[0]} ENOENT`));
      return Promise.resolve({ end: 0, stdout: '', stderr: '', ...result });
    },
  };
}
