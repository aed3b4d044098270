/** Chooses the supervisor of a channel. */
import { DialSupervisor } from './dial-supervisor.js';
import { ListenSupervisor } from './listen-supervisor.js';
import type { ChannelSupervisor, SupervisorOptions } from './supervisor.js';

export function supervise(options: SupervisorOptions): ChannelSupervisor {
  const { kind } = options.channel;
  return kind.mode === 'dial' ? new DialSupervisor(kind, options) : new ListenSupervisor(kind, options);
}
