/** A file system for guests, which have none on a block device. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const BYTES = 8 << 20;

/** Shell commands that mount an ext4 in a file of the guest at `place`. */
export function mountExt4(place: string): string {
  const folder = mkdtempSync(join(os.tmpdir(), 'vproxy-ext4-'));
  const file = join(folder, 'image');
  try {
    writeFileSync(file, '');
    truncateSync(file, BYTES);
    execFileSync('mkfs.ext4', ['-q', file]);
    const packed = gzipSync(readFileSync(file)).toString('base64');
    return `mkdir -p ${place}; echo ${packed} | base64 -d | gunzip > /tmp/ext4.img; mount -o loop /tmp/ext4.img ${place}`;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
