/** Resolves key files: those given, and the credentials that systemd passes to a service. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '../../lib/errors.js';
import type { ChannelSettings, FileLayer, FlagLayer } from '../../lib/settings/configuration.js';
import { BadFileError } from '../../lib/settings/problem.js';
import { describeError } from '../../lib/util/escape.js';

/** Names of files in `$CREDENTIALS_DIRECTORY` that are used as keys by default. */
const OWN_NAME = /^vproxy\.key(\..+)?$/;

/**
 * Returns the two layers with paths of key files. A name without a slash refers to a file in `folder` if it exists there. By
 * default, the keys are `vproxy.key` and `vproxy.key.*` in `folder`, by name. `folder` is `$CREDENTIALS_DIRECTORY`, or null. Throws
 * `bad-file` if it exists and cannot be read: without its keys, any peer would do.
 */
export function withKeyFiles(
  file: FileLayer | null,
  flags: FlagLayer,
  folder: string | null,
): readonly [FileLayer | null, FlagLayer] {
  if (folder === null) return [file, flags];
  const resolve = <T extends ChannelSettings>(settings: T): T =>
    settings.keyFiles === undefined
      ? settings
      : { ...settings, keyFiles: settings.keyFiles.map((path) => findFile(path, folder)) };
  const { defaults, channels, ...settings } = file ?? { defaults: {}, channels: [] };
  const own = (flags.settings.keyFiles ?? file?.defaults.keyFiles) === undefined ? listKeys(folder) : [];
  return [
    {
      ...settings,
      defaults: { ...(own.length > 0 ? { keyFiles: own } : {}), ...resolve(defaults) },
      channels: channels.map(resolve),
    },
    { ...flags, settings: resolve(flags.settings) },
  ];
}

function findFile(path: string, folder: string): string {
  const credential = join(folder, path);
  return !path.includes('/') && existsSync(credential) ? credential : path;
}

function listKeys(folder: string): string[] {
  try {
    const names = readdirSync(folder).filter((name) => OWN_NAME.test(name));
    return names.sort().map((name) => join(folder, name));
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return [];
    throw new BadFileError([{ file: folder, where: [], message: `$CREDENTIALS_DIRECTORY: ${describeError(cause)}` }]);
  }
}
