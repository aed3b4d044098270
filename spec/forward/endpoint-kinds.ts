/** The table of endpoint kinds: forwards of each kind match its row. */
import test from 'ava';
import { OpenedFlows } from '../../lib/forward/datagram/opened-flows.js';
import { OutgoingDatagrams } from '../../lib/forward/datagram/outgoing-datagrams.js';
import type { EndpointKind } from '../../lib/forward/endpoint-kind.js';
import { ENDPOINT_KINDS, takesDatagrams } from '../../lib/forward/endpoint-kinds.js';
import type { Direction, EndpointForm } from '../../lib/forward/forms/endpoint-form.js';
import { ENDPOINT_FORMS, type EndpointKindName } from '../../lib/forward/forms/endpoint-forms.js';
import { IncomingForward } from '../../lib/forward/incoming.js';
import { OutgoingForward } from '../../lib/forward/outgoing.js';
import { ServiceRegistry } from '../../lib/forward/service-registry.js';
import { SessionSource } from '../../lib/forward/session-source.js';
import { type ForwardSpec, formatEndpoint, formatForwardSpec, parseForwardSpec } from '../../lib/forward/spec.js';
import { ManualClock } from '../helpers/time.js';

interface Row {
  /** The part before the first colon of an outgoing forward. */
  readonly service: string;
  /** The text of an endpoint after the name, in each direction; null if the kind cannot be used in it. */
  readonly outgoing: string | null;
  readonly incoming: string | null;
  /** Its text in messages. */
  readonly shown: string;
}

const ROWS: Readonly<Record<EndpointKindName, Row>> = {
  unix: { service: 'x', outgoing: '/run/x.sock', incoming: '/run/x.sock', shown: '/run/x.sock' },
  'vsock-mux': { service: '*', outgoing: '/run/v,1=ssh', incoming: '/run/v:22', shown: 'vsock-mux:/run/v:22' },
  file: { service: 'x', outgoing: null, incoming: '/var/log/x.log', shown: 'file:/var/log/x.log' },
  exec: { service: 'x', outgoing: null, incoming: 'echo hello there', shown: 'exec:echo hello there' },
  egress: { service: 'x', outgoing: null, incoming: 'internet', shown: 'egress:internet' },
  origin: {
    service: 'x',
    outgoing: null,
    incoming:
      'https://api.example,allow=GET+POST:/v1/*,header=authorization:Bearer @/etc/key,upgrade=websocket,log=query',
    shown:
      'origin:https://api.example,allow=GET+POST:/v1/*,header=authorization:Bearer @/etc/key,upgrade=websocket,log=query',
  },
  udp: { service: 'x', outgoing: '[::1]:53', incoming: '[::1]:53', shown: 'udp:[::1]:53' },
  unixgram: {
    service: 'x',
    outgoing: '/dev/log,mode=0666',
    incoming: '/run/host.log',
    shown: 'unixgram:/run/host.log',
  },
  resolver: {
    service: 'x',
    outgoing: null,
    incoming: 'web,server=[::1]:5353',
    shown: 'resolver:web,server=[::1]:5353',
  },
  redirect: { service: 'x', outgoing: '[::1]:3129', incoming: null, shown: 'redirect:[::1]:3129' },
  tcp: { service: 'x', outgoing: '[::1]:22', incoming: '[::1]:22', shown: '[::1]:22' },
};

const clock = new ManualClock();
const log = () => undefined;

const OUTGOING = { source: new SessionSource(clock), log, clock, waitMs: 0 };

/** A forward that is not started. */
const create = (spec: ForwardSpec) =>
  spec.direction === 'outgoing'
    ? takesDatagrams(spec.endpoint)
      ? new OutgoingDatagrams(spec, { ...OUTGOING, flows: new OpenedFlows(clock) })
      : new OutgoingForward(spec, OUTGOING)
    : new IncomingForward(spec, { registry: new ServiceRegistry(), log, clock, maxStreams: 1 });

const refuses = test.macro({
  title: (_, name: string, direction: Direction) => `${name}: it is refused where it is ${direction}`,
  exec(t, name: string, direction: Direction) {
    const what = direction === 'outgoing' ? 'listen on' : 'serve streams with';
    t.throws(() => parseForwardSpec(direction, `x:${name}:x`), {
      code: 'bad-argument',
      message: new RegExp(`cannot ${what} ${name};`),
    });
  },
});

for (const [name, row] of Object.entries(ROWS)) {
  const kind: EndpointKind = ENDPOINT_KINDS[name as EndpointKindName];
  const { form }: EndpointForm = ENDPOINT_FORMS[name as EndpointKindName];

  test(`${name}: its row has a form for each direction that it implements, and no other`, (t) => {
    const isOutgoing = kind.datagramEntrance !== undefined || kind.listenAddress !== undefined;
    t.is(form.outgoing !== undefined, isOutgoing);
    t.is(kind.createEntrance === undefined, kind.listenAddress === undefined);
    t.is(form.incoming === undefined, kind.createTarget === undefined);
    for (const text of Object.values(form)) t.true(text.startsWith(`${name}:`), text);
  });

  for (const direction of ['outgoing', 'incoming'] as const) {
    const text = row[direction];
    const service = direction === 'outgoing' ? row.service : 'x';

    if (text === null) {
      test(refuses, name, direction);
    } else {
      test(`${name}: an ${direction} forward is parsed, formatted and created`, (t) => {
        const spec = parseForwardSpec(direction, `${service}:${name}:${text}`);
        t.is(spec.endpoint.kind, name as EndpointKindName);
        t.deepEqual(parseForwardSpec(direction, formatForwardSpec(spec)), spec);
        if (direction === 'incoming') t.is(formatEndpoint(spec.endpoint), row.shown);
        t.is(create(spec).endpointText, formatEndpoint(spec.endpoint));
      });
    }
  }
}

test('an endpoint made up by a program is rejected', (t) => {
  const made = { direction: 'incoming', service: 'x', endpoint: { kind: 'toString' } } as unknown as ForwardSpec;
  t.throws(() => create(made), {
    code: 'bad-argument',
    message: '-i x: cannot use an endpoint of kind toString',
  });
  const command = parseForwardSpec('incoming', 'x:exec:cat');
  t.throws(() => create({ ...command, direction: 'outgoing' }), {
    code: 'bad-argument',
    message: '-o x: cannot use an endpoint of kind exec',
  });
});
