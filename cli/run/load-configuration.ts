/** The configuration that results from a command line and its file. */
import type { Configuration } from '../../lib/settings/configuration.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';
import { withKeyFiles } from './key-files.js';
import type { RunFlags } from './run-options.js';

/**
 * Reads the file or the folder, if any. `credentials` is `$CREDENTIALS_DIRECTORY`, or null; `running` is the active configuration. Rejects with
 * `bad-argument` or a `BadFileError`.
 */
export async function loadConfiguration(
  flags: RunFlags,
  credentials: string | null,
  running: Pick<Configuration, 'name'> | null = null,
  patienceMs = 0,
): Promise<Configuration> {
  if (flags.file === null) return mergeConfiguration(...withKeyFiles(null, flags, credentials), running);
  // The parser of files is loaded only when there is a file.
  const { readConfiguration } = await import('../../lib/settings/file/read-configuration.js');
  const file = await readConfiguration(flags.file, patienceMs);
  return mergeConfiguration(...withKeyFiles(file, flags, credentials), running);
}
