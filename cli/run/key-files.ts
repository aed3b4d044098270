/** Which files keys are read from: those that were named, and those that systemd hands to a service. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ChannelSettings, FileLayer, FlagLayer } from '../../lib/settings/configuration.js';

/** The names of files in `$CREDENTIALS_DIRECTORY` that are keys without being asked for. */
const OWN_NAME = /^vproxy\.key(\..+)?$/;

/**
 * The same two layers with the paths of key files. A name without a slash is one of `folder` if there is such a file.
 * Where nothing is said of keys, they are those in `folder` that are called `vproxy.key` or `vproxy.key.*`, in the
 * order of their names. `folder` is `$CREDENTIALS_DIRECTORY`, or null.
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
  const own = listKeys(folder);
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
    return readdirSync(folder)
      .filter((name) => OWN_NAME.test(name))
      .sort()
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}
