/** AF_VSOCK: whether this machine has it, and with which CID. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Finding, failure, finding } from '../findings.js';
import type { Machine } from '../machine.js';

/** Checks what both kinds of AF_VSOCK channel need; `cid` is null for a port to listen on. */
export async function checkVsock({ options }: Machine, cid: number | null): Promise<Finding[]> {
  const without = (message: string): Finding[] => [failure('vsock', 'channel-missing', message)];
  const missing = existsSync(join(options.dev, 'vsock')) ? [] : without('/dev/vsock does not exist');
  if (!(await options.hasKoffi())) return [...missing, failure('vsock', 'channel-unusable', 'koffi cannot be loaded')];
  if (missing.length > 0) return missing;
  const own = await options.readCid().catch(() => null);
  if (own === null || own === ANY_CID) return without('this machine has no CID: no vsock device');
  if (cid !== null && (cid === own || cid === LOCAL_CID)) return [finding('vsock-own', `CID ${cid} is this machine`)];
  return [finding('vsock-cid', `this machine has CID ${own}`)];
}

const ANY_CID = 0xffffffff;
const LOCAL_CID = 1;
