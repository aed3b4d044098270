/** What the handlers of requests work on. */
import type { Proxy } from '../proxy/proxy.js';
import type { EventLoopDelay } from './event-loop-delay.js';
import type { EventRing } from './event-ring.js';
import type { ProcessControl } from './process-control.js';
import type { StreamEnds } from './stream-ends.js';
import type { StreamRates } from './stream-rates.js';

export interface ControlContext {
  readonly proxy: Proxy;
  readonly process: ProcessControl;
  readonly ring: EventRing;
  readonly rates: StreamRates;
  readonly ends: StreamEnds;
  readonly eventLoopDelay: EventLoopDelay;
}
