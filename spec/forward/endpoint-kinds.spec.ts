import test from 'ava';
import type { EndpointKind } from '../../lib/forward/endpoint-kind.js';
import { ENDPOINT_KINDS } from '../../lib/forward/endpoint-kinds.js';
import { IncomingForward } from '../../lib/forward/incoming.js';
import { ServiceRegistry } from '../../lib/forward/services.js';
import { formatEndpoint, formatForwardSpec, parseForwardSpec } from '../../lib/forward/spec.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { carryUntil, SessionPair } from '../helpers/session-pair.js';

interface SayEndpoint {
  readonly kind: 'say';
  readonly text: string;
}

/** A kind as somebody would add one: this file, and the row below. */
const say: EndpointKind<SayEndpoint> = {
  form: { incoming: 'say:TEXT' },
  parse: (text) => ({ kind: 'say', text }),
  format: ({ text }) => text,
  createTarget: ({ text }, { onOpened, onClosed }) => ({
    serve(stream) {
      stream.attach({
        handleAccept: () => undefined,
        handleData: (bytes) => {
          stream.release(bytes.length);
          return false;
        },
        handleFin: () => undefined,
        handleStop: () => undefined,
        handleSent: () => undefined,
        handleEnd: (reason) => onClosed(stream, reason),
      });
      stream.accept();
      onOpened(stream);
      stream.send(Buffer.from(text), 0, text.length, false);
      stream.finish();
    },
    openCount: 0,
    stop: () => undefined,
  }),
};
const KINDS = { say, ...ENDPOINT_KINDS };

test('a new kind of endpoint is one file and one row: it is parsed, shown, and serves streams', async (t) => {
  const spec = parseForwardSpec('incoming', 'motd:say:hello there', KINDS);
  t.is(formatForwardSpec(spec, KINDS), 'motd:say:hello there');
  t.is(formatEndpoint(spec.endpoint, KINDS), 'say:hello there');
  const pair = new SessionPair();
  const events: string[] = [];
  const log = ({ message }: { message: string }) => events.push(message);
  const registry = new ServiceRegistry();
  await new IncomingForward(spec, { registry, log, clock: pair.clock, maxStreams: 4, kinds: KINDS }).start();
  pair.b.services = ['motd'];
  pair.b.onSession = (session) => session.on('stream', (stream) => registry.serve(stream, session));
  pair.establish();
  const stream = MuxStream.open(pair.a.session, 'motd');
  stream.end();
  const chunks: unknown[] = [];
  stream.on('data', (chunk) => chunks.push(chunk));
  await carryUntil(pair, new Promise((resolve) => stream.once('end', resolve)));
  t.is(chunks.join(''), 'hello there');
  t.regex(events[0] ?? '', /^stream \d+ from the peer to say:hello there \(motd\) is open$/);
});

test('a kind that can only be a target is no listener', (t) => {
  t.throws(() => parseForwardSpec('outgoing', 'motd:say:hello', KINDS), {
    code: 'bad-argument',
    message: /say is nothing to listen on/,
  });
});
