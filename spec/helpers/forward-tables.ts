/** The forwards of a channel without a session, for what makes and removes them by itself. */
import type { ExecutionContext } from 'ava';
import type { LogEvent } from '../../lib/events.js';
import { ServiceRegistry } from '../../lib/forward/service-registry.js';
import { SessionSource } from '../../lib/forward/session-source.js';
import { ForwardAddresses, ForwardTable } from '../../lib/proxy/forward-table.js';
import { ManualClock } from './time.js';

/** With a clock that is moved by hand; stopped when the test ends. */
export function forwardTable(t: ExecutionContext, onServices: () => void = () => undefined) {
  const clock = new ManualClock();
  const events: LogEvent[] = [];
  const registry = new ServiceRegistry({ onChange: onServices });
  const addresses = new ForwardAddresses();
  let count = 0;
  const log = (event: LogEvent): void => void events.push(event);
  const forwards = new ForwardTable({
    channel: 'vm1',
    source: new SessionSource(clock),
    registry,
    log,
    clock,
    waitMs: 10_000,
    maxStreams: 10,
    preamble: null,
    filters: () => null,
    egress: () => null,
    nextId: () => `f${(count += 1)}`,
    addresses,
    onListening: () => undefined,
  });
  t.teardown(() => forwards.stop());
  /** What was logged of ports, and forgets it. */
  const told = (): string[] => {
    const lines = events.filter(({ event }) => event.startsWith('port-')).map(({ message }) => message);
    events.length = 0;
    return lines;
  };
  return { clock, registry, addresses, forwards, log, told };
}
