/** What is in force with a command line and the file that it names. */
import type { Configuration } from '../../lib/settings/configuration.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';
import { withKeyFiles } from './key-files.js';
import type { RunFlags } from './run-options.js';

/**
 * Reads the file, if there is one. `credentials` is `$CREDENTIALS_DIRECTORY`, or null. Rejects with `bad-argument`, or
 * with a `BadFileError`.
 */
export async function loadConfiguration(flags: RunFlags, credentials: string | null): Promise<Configuration> {
  if (flags.file === null) return mergeConfiguration(...withKeyFiles(null, flags, credentials));
  // Loads what checks and parses files, which a command line alone does not need.
  const { readConfigurationFile } = await import('../../lib/settings/read-file.js');
  const file = await readConfigurationFile(flags.file);
  return mergeConfiguration(...withKeyFiles(file, flags, credentials));
}
