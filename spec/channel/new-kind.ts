/** A new kind of channel, as a contributor would add it: one object, for a row of the table. */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { type ChannelAddress, formatChannel } from '../../lib/channel/address/address.js';
import { applyOptions } from '../../lib/channel/address/options.js';
import { type DialKind, type OptionFor, VM_TRAITS } from '../../lib/channel/kind.js';
import { VproxyError } from '../../lib/errors.js';
import { SessionSource } from '../../lib/forward/session-source.js';
import { DuplexLink } from '../../lib/link/duplex-link.js';
import { ChannelSessions } from '../../lib/proxy/channel/channel-sessions.js';
import { supervise } from '../../lib/proxy/channel/supervise.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import type { Session } from '../../lib/session/session.js';
import { sessionSettings } from '../../lib/session/settings.js';
import { systemClock } from '../../lib/util/clock.js';
import { deferred } from '../../lib/util/concurrency.js';
import { duplexPair } from '../helpers/channel-pair.js';

interface Place {
  readonly name: string;
  readonly pieceBytes: number;
}

/** `toy:NAME[,piece=BYTES]`: joins the two sides that dial a name in one process. */
const toy: DialKind<Place> = {
  mode: 'dial',
  traits: { ...VM_TRAITS, frameBytes: 8192 },
  options: new Map([
    [
      'piece',
      {
        field: 'pieceBytes',
        type: {
          parse: (value) => (/^[1-9]\d{0,4}$/.test(value) ? Number(value) : null),
          format: String,
          expected: 'a number of bytes',
        },
        fallback: 1000,
      } satisfies OptionFor<Place>,
    ],
  ]),
  parse: (name) => ({ name, pieceBytes: 1000 }),
  format: ({ name }) => name,
  dial: ({ name }) => {
    const [one, other] = duplexPair();
    const waits = waiting.get(name);
    if (waits === undefined) waiting.set(name, other);
    return Promise.resolve(new DuplexLink(`toy:${name}`, waits ?? one));
  },
};

const waiting = new Map<string, Duplex>();

/** Parses an address with its options, as if the kind had a row in the table. */
function toyChannel(name: string, ...options: string[]): ChannelAddress {
  const { address, traits } = applyOptions(toy, toy.parse(name), options);
  const channel = { kind: toy, kindName: 'toy', address, traits };
  return { ...channel, text: formatChannel(channel) };
}

test('its address and its options are parsed, formatted and explained like those of every kind', (t) => {
  const channel = toyChannel('a,b', 'piece=7', 'frame=131072');
  t.deepEqual(channel.address, { name: 'a,b', pieceBytes: 7 });
  t.is(channel.text, 'toy:a,,b,piece=7,frame=131072');
  t.is(toyChannel('a', 'frame=8192', 'piece=1000').text, 'toy:a');
  t.throws(() => toyChannel('a', 'piece=x'), { message: /piece=x: must be a number of bytes/ });
  t.throws(() => toyChannel('a', 'peace=1'), { message: /available: piece, frame, in-flight, integrity, streams/ });
});

/** One side of a channel, and its first session. */
function openSide(t: ExecutionContext, channel: ChannelAddress): Promise<Session> {
  const settings = sessionSettings({ instance: randomBytes(16).toString('hex'), randomBytes, agent: 'test' });
  const session = deferred<Session>();
  const nothing = () => undefined;
  const sessions = new ChannelSessions({
    ...{ channel, clock: systemClock, log: nothing, onChanged: nothing, onEnded: nothing },
    skippedBytes: () => 0,
    source: new SessionSource(systemClock),
    onSession: (established) => {
      established.start(['echo']);
      session.resolve(established);
    },
  });
  const supervisor = supervise({
    channel,
    settings,
    bufferBytes: 65_536,
    clock: systemClock,
    sessions,
    findRival: () => Promise.resolve(null),
    onFatal: nothing,
  });
  t.teardown(() => supervisor.stop(new VproxyError('shutdown', 'the test is over')));
  void supervisor.start();
  return session.promise;
}

test('sessions run on it, and streams in them', async (t) => {
  const [a, b] = await Promise.all([openSide(t, toyChannel('here')), openSide(t, toyChannel('here', 'piece=3'))]);
  b.server = {
    serve: (stream) => {
      const served = MuxStream.accept(b, stream);
      served.pipe(served);
    },
  };
  const stream = MuxStream.open(a, 'echo');
  const sent = randomBytes(50_000);
  stream.end(sent);
  t.deepEqual(await buffer(stream), sent);
});
