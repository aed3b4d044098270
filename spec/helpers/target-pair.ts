/** A target of a forward without the forward: it serves streams of an in-memory session. */
import type { LogEvent } from '../../lib/events.js';
import type { TargetContext } from '../../lib/forward/endpoint-kind.js';
import { ForwardLog } from '../../lib/forward/forward-log.js';
import { ResolvedNames } from '../../lib/forward/redirect/resolved-names.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { SessionPair } from './session-pair.js';

interface TargetPairOptions extends Partial<Omit<TargetContext, 'log'>> {
  readonly log?: (event: LogEvent) => void;
  readonly pair?: SessionPair;
}

/** A target for a service, as `endpoint` in messages, and a pair whose side b serves with it, with a session. */
export function targetPair<T extends { serve(stream: SessionStream): void }>(
  service: string,
  endpoint: string,
  create: (context: TargetContext) => T,
  { log = () => undefined, pair = new SessionPair(), ...more }: TargetPairOptions = {},
): { readonly pair: SessionPair; readonly target: T } {
  const { clock } = pair;
  const target = create({
    ...{ endpoint, name: `${endpoint} (${service})`, service, clock, maxStreams: 1024, preamble: null },
    ...{ egress: () => null, names: new ResolvedNames(clock), onClosed: () => undefined },
    log: new ForwardLog({ direction: 'incoming', service }, { clock, log }, () => endpoint),
    ...more,
  });
  pair.b.services = [service];
  pair.b.onSession = (session) => (session.server = { serve: (stream) => target.serve(stream) });
  pair.establish();
  return { pair, target };
}
