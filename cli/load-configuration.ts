/** What is in force with a command line and the file that it names. */
import type { Configuration } from '../lib/config/configuration.js';
import { mergeConfiguration } from '../lib/config/merge-configuration.js';
import type { RunFlags } from './run-options.js';

/** Reads the file, if there is one. Rejects with `bad-argument`, or with a `BadFileError`. */
export async function loadConfiguration(flags: RunFlags): Promise<Configuration> {
  if (flags.file === null) return mergeConfiguration(null, flags);
  // Loads what checks and parses files, which a command line alone does not need.
  const { readConfigurationFile } = await import('../lib/config/read-configuration-file.js');
  return mergeConfiguration(await readConfigurationFile(flags.file), flags);
}
