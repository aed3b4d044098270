/** Another process of this machine that has the same channel: who it is, as far as can be found out, and whether it has left. */
import type { ChannelAddress } from '../../channel/address/address.js';
import type { VproxyError } from '../../errors.js';
import { escapeText } from '../../util/escape.js';

/** Another process that has a channel. */
export interface Rival {
  readonly pid: number;
  /** Its `--name`, or its program; foreign text. */
  readonly name: string;
  /** Resolves with whether it has released the channel. Never rejects. */
  hasLeft(): Promise<boolean>;
}

/** What is known about the channel that another process has. */
export interface RivalQuery {
  readonly channel: ChannelAddress;
  /** The device that was busy; null if none. */
  readonly device: string | null;
}

/** Looks for a process of this machine that has a session on the same channel, or its device open; null if none is found. */
export type FindRival = (query: RivalQuery) => Promise<Rival | null>;

/** `process 123 (host1)`. */
export const formatRival = ({ pid, name }: Rival): string => `process ${pid} (${escapeText(name, 80)})`;

/** The path that the system reported as busy. */
export function deviceOf(reason: VproxyError | null): string | null {
  const cause = reason?.code === 'channel-busy' ? reason.cause : null;
  return cause instanceof Error && 'path' in cause && typeof cause.path === 'string' ? cause.path : null;
}
