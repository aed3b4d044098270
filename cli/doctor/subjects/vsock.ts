/** AF_VSOCK: whether this machine has it, and which number it has there. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Finding, type FindingRows, fail, findingsOf, note, ok } from '../finding.js';
import type { Machine } from '../machine.js';

export const VSOCK_FINDINGS = {
  'vsock-missing': fail(
    'This machine has no /dev/vsock, so the kernel has no AF_VSOCK.',
    'in a guest modprobe vmw_vsock_virtio_transport, on a host vhost_vsock; and give the VM a vhost-vsock device',
  ),
  'vsock-no-koffi': fail(
    'AF_VSOCK needs the optional package koffi, which cannot be loaded.',
    'npm install koffi, or use exec: with socat',
  ),
  'vsock-cid': ok('The CID of this machine.'),
  'vsock-own': note('The channel leads to this machine itself.', 'modprobe vsock_loopback; the host is CID 2'),
} as const satisfies FindingRows;

const finding = findingsOf(VSOCK_FINDINGS);

/** A machine by its CID; null for a port to listen on. */
export interface VsockSubject {
  readonly cid: number | null;
}

/** Looks at what both kinds of AF_VSOCK need. */
export async function checkVsock({ options }: Machine, { cid }: VsockSubject): Promise<Finding[]> {
  const missing = existsSync(join(options.dev, 'vsock')) ? [] : [finding('vsock-missing', 'there is no /dev/vsock')];
  if (!(await options.hasKoffi())) return [...missing, finding('vsock-no-koffi', 'koffi cannot be loaded')];
  if (missing.length > 0) return missing;
  const own = await options.readCid().catch(() => null);
  if (own === null || own === ANY_CID)
    return [finding('vsock-missing', 'AF_VSOCK has no CID for this machine: there is no vsock device')];
  if (cid !== null && (cid === own || cid === LOCAL_CID)) return [finding('vsock-own', `CID ${cid} is this machine`)];
  return [finding('vsock-cid', `this machine has the CID ${own}`)];
}

const ANY_CID = 0xffffffff;
const LOCAL_CID = 1;
