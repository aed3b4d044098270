/** A virtio-serial port as a hypervisor is told of it: its name, and what stands at the host's end. */

/** Which side waits at the host's end: in `bind` QEMU listens, in `connect` it dials. */
export type SocketMode = 'bind' | 'connect';

/** The host's end of a port: what QEMU calls its chardev. */
export type HostEnd =
  /** A unix socket; with null for its path, which only `bind` may have, libvirt picks one. */
  | { readonly kind: 'unix'; readonly mode: SocketMode; readonly path: string | null }
  /** A TCP address; an IPv6 host has no brackets. */
  | { readonly kind: 'tcp'; readonly mode: SocketMode; readonly host: string; readonly port: number }
  /** The FIFOs `PATH.in` and `PATH.out`. */
  | { readonly kind: 'pipe'; readonly path: string };

/** One port. */
export interface HypervisorPort {
  /** What the guest finds it by. */
  readonly name: string;
  readonly end: HostEnd;
  /** How long QEMU waits before it dials again, where it does, in seconds. */
  readonly reconnectSeconds: number;
}

/** Whether QEMU dials at the host's end, and so has to be told to do that again. */
export const isDialed = ({ end }: HypervisorPort): boolean => end.kind !== 'pipe' && end.mode === 'connect';
