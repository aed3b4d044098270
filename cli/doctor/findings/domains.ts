/** Findings about domains of libvirt. */
import { type FindingRows, fail, ok } from './row.js';

/** By id. */
export const DOMAIN_FINDINGS = {
  'domain-port': ok(
    'The domain runs, and has the port; what is at its place is looked at as any channel of that kind.',
  ),
  'domain-missing': fail(
    'There is no domain of that name in libvirt.',
    'virsh list --all; add uri=qemu:///system where virsh asks another one by itself',
  ),
  'domain-off': fail('The domain does not run.', 'virsh start DOMAIN'),
  'domain-no-port': fail(
    'The domain has no such virtio port, or several of which none was named.',
    'vproxy libvirt-xml prints a channel for virsh edit; or name the port: libvirt:DOMAIN:PORTNAME',
  ),
  'domain-port-unusable': fail(
    'The port of the domain is of a kind that vproxy cannot open from this side.',
    'do what the line says, or change the channel of the domain',
  ),
  'virsh-missing': fail('There is no virsh(1), or it cannot be run.', 'install libvirt-clients'),
  'libvirt-silent': fail('Nobody answers for libvirt.', 'systemctl status libvirtd virtqemud'),
  'libvirt-denied': fail('This user may not ask libvirt.', 'join the group libvirt, or run as root'),
} as const satisfies FindingRows;
