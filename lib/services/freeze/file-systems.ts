/** Which file systems of this machine are frozen, and in which order. */
import { normalize } from 'node:path/posix';
import { VproxyError } from '../../errors.js';
import { type Mount, parseMounts } from '../../system/mounts.js';
import { escapeText } from '../../util/escape.js';
import { MAX_FREEZE_PATHS } from './freeze-messages.js';

/** Types of file systems on block devices that Linux can freeze. */
export const FREEZABLE_TYPES: readonly string[] = [
  ...['bcachefs', 'btrfs', 'ext2', 'ext3', 'ext4', 'f2fs', 'gfs2', 'jfs', 'nilfs2', 'reiserfs', 'xfs'],
];

/**
 * The mount points to freeze, in order: what was mounted last is first, since it may lie on what was mounted before. `paths`
 * limits them; with none, all that can be frozen and written. Throws `freeze-failed`.
 */
export function chooseFileSystems(mountinfo: string, paths: readonly string[]): Mount[] {
  const mounts = parseMounts(mountinfo);
  const wanted = paths.map((path) => normalize(path).replace(/(?<=.)\/$/, ''));
  for (const path of wanted)
    if (!mounts.some(({ mountPoint }) => mountPoint === path))
      throw new VproxyError('freeze-failed', `${escapeText(path, 200)}: not a mount point`);
  const byDevice = new Map<string, Mount>();
  for (const mount of mounts) {
    const isWanted = wanted.length > 0 ? wanted.includes(mount.mountPoint) : isFreezable(mount);
    // The other mounts of a file system may be in the sandbox of a service.
    if (isWanted && !byDevice.has(mount.id)) byDevice.set(mount.id, mount);
  }
  if (byDevice.size === 0) throw new VproxyError('freeze-failed', 'no file system here can be frozen');
  if (byDevice.size > MAX_FREEZE_PATHS)
    throw new VproxyError('freeze-failed', `too many file systems (max ${MAX_FREEZE_PATHS}); name those to freeze`);
  const newest = [...byDevice.values()].reverse();
  return [...newest.filter(isOnFile), ...newest.filter((mount) => !isOnFile(mount))];
}

/** In a mount namespace of its own, the order of the table is not that of the mounts. */
const isOnFile = ({ source }: Mount): boolean => source.startsWith('/dev/loop');

const isFreezable = ({ source, type, isReadOnly }: Mount): boolean =>
  source.startsWith('/dev/') && FREEZABLE_TYPES.includes(type) && !isReadOnly;
