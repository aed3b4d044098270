/** A forward while it exists: what outgoing and incoming ones have in common. */
import type { ForwardSpec } from './spec.js';

/** A rule that ties sockets to a service. It is made without effect; `start` puts it in force. */
export interface Forward {
  readonly spec: ForwardSpec;
  /** The address in force, with the port that was picked where 0 was asked for. */
  readonly endpointText: string;
  /** Connections open now, those that wait and those being closed included. */
  readonly openCount: number;
  /** Streams that it ever had. */
  readonly streamCount: number;

  /** Takes new streams from now on. Rejects with `address-…` codes, or `bad-argument` for a service that is taken. */
  start(): Promise<void>;

  /** Takes no new streams; those that are open go on. `start` puts it in force again. */
  pause(): void;

  /** Takes no new streams, and resets what is open. For good. */
  stop(): Promise<void>;
}
