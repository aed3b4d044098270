/** The subjects of a doctor run: the arguments of a proxy to start, and a running vproxy. */
import type { Configuration } from '../../lib/settings/configuration.js';
import { BadFileError } from '../../lib/settings/problem.js';
import type { Arguments } from '../command/arguments.js';
import { findSocket, socketInEnvironment } from '../command/find-process.js';
import { withKeyFiles } from '../run/key-files.js';
import { loadConfiguration } from '../run/load-configuration.js';
import { parseRunFlags, type RunFlags } from '../run/run-options.js';

export interface DoctorRequest {
  /** The configuration that the arguments give; null if they name no channel or are invalid. */
  readonly configuration: Configuration | null;
  /** Key files given without a channel. */
  readonly keyFiles: readonly string[];
  /** Errors in the file or the arguments. */
  readonly problems: readonly string[];
  /** The control socket of the named vproxy; null: any. */
  readonly socket: string | null;
  /** Whether nothing was named, so the machine as a whole is checked. */
  readonly isGeneral: boolean;
}

/** Run options that have a meaning of the doctor's own, or none for it. */
const OWN: ReadonlySet<string> = new Set(['json', 'print-config']);

/** Reads the request. Rejects with `bad-argument` for a wrong argument; errors in a file become part of the request. */
export async function readRequest(args: Arguments): Promise<DoctorRequest> {
  const flags = parseRunFlags((name) => (OWN.has(name) ? [] : args.texts(name)), process.env);
  const { configuration, problems } = await readConfiguration(flags);
  const isGeneral = configuration === null && problems.length === 0 && flags.settings.keyFiles === undefined;
  const socket = await findNamed(args.text('socket'), args.text('name'), flags);
  return {
    configuration,
    problems,
    socket,
    keyFiles: configuration === null ? keyFilesOf(flags) : [],
    isGeneral: isGeneral && socket === null,
  };
}

/** How long a FIFO may say nothing, in milliseconds. */
const FIFO_MS = 2000;

async function readConfiguration(
  flags: RunFlags,
): Promise<{ configuration: Configuration | null; problems: readonly string[] }> {
  if (flags.file === null && flags.channels.length === 0 && flags.forwards.length === 0)
    return { configuration: null, problems: [] };
  try {
    return { configuration: await loadConfiguration(flags, credentials(), null, FIFO_MS), problems: [] };
  } catch (error) {
    if (error instanceof BadFileError) return { configuration: null, problems: error.problems };
    throw error;
  }
}

const credentials = (): string | null => process.env['CREDENTIALS_DIRECTORY'] ?? null;

/** Key files are checked even without a channel. */
function keyFilesOf(flags: RunFlags): readonly string[] {
  // Without any, the credentials do not matter here, not even whether they can be read.
  if (flags.settings.keyFiles === undefined) return [];
  const [, { settings }] = withKeyFiles(null, flags, credentials());
  return settings.keyFiles ?? [];
}

/** Finds the named control socket. `--name` may also name a process that is yet to be started. */
async function findNamed(
  socket: string | undefined,
  name: string | undefined,
  { channels, file }: RunFlags,
): Promise<string | null> {
  if (socket !== undefined) return socket;
  if (name === undefined) return socketInEnvironment() ?? null;
  const isOfOthers = channels.length > 0 || file !== null;
  return findSocket({ name }).catch((error: unknown) => {
    if (isOfOthers) return null;
    throw error;
  });
}
