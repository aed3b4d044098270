/** What the doctor is asked to look at: the arguments of the command that runs a proxy, and those of a vproxy that runs. */
import type { Configuration } from '../../lib/settings/configuration.js';
import { BadFileError } from '../../lib/settings/problem.js';
import type { Arguments } from '../command/arguments.js';
import { findSocket } from '../command/find-process.js';
import { withKeyFiles } from '../run/key-files.js';
import { loadConfiguration } from '../run/load-configuration.js';
import { parseRunFlags, type RunFlags } from '../run/run-options.js';
import { givenToRun } from './run-arguments.js';

export interface DoctorRequest {
  /** What would be in force with the arguments; null where they name no channel, or are not valid as they are. */
  readonly configuration: Configuration | null;
  /** Key files, also without a channel. */
  readonly keyFiles: readonly string[];
  /** What is wrong with the file or the arguments. */
  readonly problems: readonly string[];
  /** The control socket of a vproxy that was named; null: any. */
  readonly socket: string | null;
  /** Whether nothing was named at all, so that the machine is looked at. */
  readonly isGeneral: boolean;
}

/** Rejects with `bad-argument` where an argument is wrong; what is wrong with a file is a part of the request. */
export async function readRequest(args: Arguments): Promise<DoctorRequest> {
  const flags = parseRunFlags(givenToRun(args));
  const { configuration, problems } = await readConfiguration(flags);
  const isGeneral = configuration === null && problems.length === 0 && flags.settings.keyFiles === undefined;
  const socket = await findNamed(args.text('socket'), flags);
  return {
    configuration,
    problems,
    socket,
    keyFiles: configuration === null ? keyFilesOf(flags) : [],
    isGeneral: isGeneral && socket === null,
  };
}

async function readConfiguration(
  flags: RunFlags,
): Promise<{ configuration: Configuration | null; problems: readonly string[] }> {
  if (flags.file === null && flags.channels.length === 0 && flags.forwards.length === 0)
    return { configuration: null, problems: [] };
  try {
    return { configuration: await loadConfiguration(flags, credentials()), problems: [] };
  } catch (error) {
    if (error instanceof BadFileError) return { configuration: null, problems: error.problems };
    throw error;
  }
}

const credentials = (): string | null => process.env['CREDENTIALS_DIRECTORY'] ?? null;

/** Without a channel, key files are looked at all the same. */
function keyFilesOf(flags: RunFlags): readonly string[] {
  const [, { settings }] = withKeyFiles(null, flags, credentials());
  return settings.keyFiles ?? [];
}

/** The control socket that was named. `--name` is also the name of a process that is not there yet. */
async function findNamed(socket: string | undefined, { name, channels, file }: RunFlags): Promise<string | null> {
  if (socket !== undefined) return socket;
  const environment = process.env['VPROXY_SOCKET'];
  if (name === undefined) return environment || null;
  const isOfOthers = channels.length > 0 || file !== null;
  return findSocket({ name }).catch((error: unknown) => {
    if (isOfOthers) return null;
    throw error;
  });
}
