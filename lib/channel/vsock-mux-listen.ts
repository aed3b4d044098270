/** `vsock-mux-listen:PATH_PORT`: where Firecracker and cloud-hypervisor connect for a guest that dials the host's port. */
import { unixListenKind } from './unix-listen.js';

/** The kind `vsock-mux-listen`; its address is the VMM's path with `_PORT` behind it. */
export const vsockMuxListen = unixListenKind('vsock-mux-listen');
