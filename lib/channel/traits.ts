/** What a kind of channel means for the protocol, where the kind does not say otherwise. */
import { DEFAULT_LIMITS } from '../codec/limits.js';
import type { ChannelTraits } from './kind.js';

/** The traits of a channel that leads to a VM, or may do so: the machine at its other end may be paused or restarted. */
export const VM_TRAITS: ChannelTraits = {
  frameBytes: 131_072,
  inFlightBytes: 1_048_576,
  streams: DEFAULT_LIMITS.streams,
  integrity: true,
  outlivesRestart: false,
  deadAfterMs: null,
  tls: null,
  tlsFiles: {},
  leadsToHost: false,
};

/** The traits of TCP: nobody is paused there, so silence means that the other side is gone. */
export const TCP_TRAITS: ChannelTraits = { ...VM_TRAITS, deadAfterMs: 30_000 };
