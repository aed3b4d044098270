/** What is in force with a command line and the file that it names. */
import type { Configuration } from '../../lib/settings/configuration.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';
import { withKeyFiles } from './key-files.js';
import type { RunFlags } from './run-options.js';

/**
 * Reads the file, if there is one. `credentials` is `$CREDENTIALS_DIRECTORY`, or null; `running` is what is in force
 * already. Rejects with `bad-argument`, or
 * with a `BadFileError`.
 */
export async function loadConfiguration(
  flags: RunFlags,
  credentials: string | null,
  running: Pick<Configuration, 'name'> | null = null,
): Promise<Configuration> {
  if (flags.file === null) return mergeConfiguration(...withKeyFiles(null, flags, credentials), running);
  // Loads what checks and parses files, which a command line alone does not need.
  const { readConfigurationFile } = await import('../../lib/settings/parse-configuration.js');
  const file = await readConfigurationFile(flags.file);
  return mergeConfiguration(...withKeyFiles(file, flags, credentials), running);
}
