/** The mounted file systems of this machine: /proc/self/mountinfo (proc_pid_mountinfo(5)). */

export interface Mount {
  /** The number of the mount; a later one at the same place has another. */
  readonly mountId: string;
  /** The device, as `MAJOR:MINOR`: the same for all mounts of one file system. */
  readonly id: string;
  readonly mountPoint: string;
  readonly type: string;
  /** What is mounted, such as `/dev/vda1`. */
  readonly source: string;
  /** Whether the file system itself cannot be written, through any mount. */
  readonly isReadOnly: boolean;
}

/** Parses the table, in the order of the mounts, without those that another one at the same place hides. Skips malformed lines. */
export function parseMounts(text: string): Mount[] {
  const mounts = new Map<string, Mount>();
  for (const line of text.split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const [mountId = '', , id = '', , point = ''] = before.split(' ');
    const [type = '', source = '', options = ''] = after.split(' ');
    if (point === '' || type === '') continue;
    const mountPoint = unescapeOctal(point);
    mounts.delete(mountPoint);
    const isReadOnly = options.split(',').includes('ro');
    mounts.set(mountPoint, { mountId, id, mountPoint, type, source: unescapeOctal(source), isReadOnly });
  }
  return [...mounts.values()];
}

/** Decodes octal escapes: `\040` is a space. */
const unescapeOctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_escape, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
