/** Everything that the doctor can find, gathered from its subjects: docs/doctor.md has the same rows, and a spec provokes each. */
import { JOB_FINDINGS } from './jobs.js';
import { PATH_FINDINGS } from './path.js';
import { RUNNING_FINDINGS } from './running.js';
import { CHANNEL_FINDINGS } from './subjects/channel.js';
import { COMMAND_FINDINGS } from './subjects/command.js';
import { CONTROL_FINDINGS } from './subjects/control-socket.js';
import { DENIAL_FINDINGS } from './subjects/denials.js';
import { EGRESS_FINDINGS } from './subjects/egress.js';
import { FILE_FINDINGS } from './subjects/forward.js';
import { KEY_FINDINGS } from './subjects/key-file.js';
import { DOMAIN_FINDINGS } from './subjects/libvirt.js';
import { LISTENER_FINDINGS } from './subjects/listener.js';
import { MACHINE_FINDINGS } from './subjects/machine-facts.js';
import { FIFO_FINDINGS } from './subjects/pipe.js';
import { RIVAL_FINDINGS } from './subjects/rivals.js';
import { LINE_FINDINGS } from './subjects/serial-line.js';
import { SESSION_FINDINGS } from './subjects/session.js';
import { BUFFER_FINDINGS } from './subjects/socket-buffer.js';
import { TCP_FINDINGS } from './subjects/tcp-address.js';
import { SOCKET_FINDINGS } from './subjects/unix-socket.js';
import { PORT_FINDINGS } from './subjects/virtio-port.js';
import { VSOCK_FINDINGS } from './subjects/vsock.js';

/** By id. */
export const FINDINGS = {
  ...JOB_FINDINGS,
  ...PATH_FINDINGS,
  ...RUNNING_FINDINGS,
  ...CHANNEL_FINDINGS,
  ...COMMAND_FINDINGS,
  ...CONTROL_FINDINGS,
  ...DENIAL_FINDINGS,
  ...EGRESS_FINDINGS,
  ...FILE_FINDINGS,
  ...KEY_FINDINGS,
  ...DOMAIN_FINDINGS,
  ...LISTENER_FINDINGS,
  ...MACHINE_FINDINGS,
  ...FIFO_FINDINGS,
  ...LINE_FINDINGS,
  ...RIVAL_FINDINGS,
  ...SESSION_FINDINGS,
  ...TCP_FINDINGS,
  ...SOCKET_FINDINGS,
  ...BUFFER_FINDINGS,
  ...PORT_FINDINGS,
  ...VSOCK_FINDINGS,
} as const;

export type FindingId = keyof typeof FINDINGS;
