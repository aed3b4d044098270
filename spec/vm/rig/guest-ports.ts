/** Listeners inside the guest, and the services among them. */

/** Ports on 127.0.0.1 in the guest. */
export const GUEST_PORTS = {
  /** Sends back what it receives. */
  echo: 7,
  /** Checks a pattern that it receives, and reports at its end. */
  sink: 9,
  /** Sends as much of the pattern as a line requests. */
  source: 19,
  ssh: 22,
  /** vproxy's forward to the echo of the host. */
  hostEcho: 9000,
} as const;

/** The services of the guest that the host has forwards to. */
export type GuestService = 'ssh' | 'echo' | 'source' | 'sink';

/** All of them. */
export const GUEST_SERVICES: readonly GuestService[] = ['ssh', 'echo', 'source', 'sink'];
