/** Forwards in a configuration. Those of a group are a template; hybrid listeners get the services of ports. */
import { badArgument, naming } from '../errors.js';
import type { Direction } from '../forward/endpoint-kind.js';
import { parsePortService, type VsockMuxEndpoint } from '../forward/endpoints/vsock-mux-endpoint.js';
import { type ForwardSpec, formatForwardSpec, parseForwardSpec, parseForwardTemplate } from '../forward/spec.js';
import type { ForwardTemplate } from '../proxy/channel-options.js';
import type { SettingWithin } from './setting.js';
import { isTable, list, text, type ValueType } from './value-type.js';

/** Parses a forward for a group, or for a channel, where `{channel}` has no meaning. Throws `bad-argument`. */
export function parseForwardFor(isGroup: boolean, direction: Direction, text: string): ForwardSpec {
  return isGroup ? parseForwardTemplate(direction, text) : parseForwardSpec(direction, text);
}

/** The template that a group gets in place of a forward. */
export function toTemplate(spec: ForwardSpec): ForwardTemplate {
  return { direction: spec.direction, text: formatForwardSpec(spec) };
}

/** Whether a forward maps ports to services. */
export function isHybridListener(spec: ForwardSpec): spec is ForwardSpec & { readonly endpoint: VsockMuxEndpoint } {
  return spec.direction === 'outgoing' && spec.endpoint.kind === 'vsock-mux';
}

/** Adds `services` by port to a hybrid listener; its own entries win. */
export function withVsockPorts(spec: ForwardSpec, services: Readonly<Record<number, string>>): ForwardSpec {
  if (!isHybridListener(spec) || Object.keys(services).length === 0) return spec;
  return { ...spec, endpoint: { ...spec.endpoint, services: { ...services, ...spec.endpoint.services } } };
}

/** Not parsed here: that takes the other settings of their channel. */
function forwardTexts(example: string): ValueType<readonly string[]> {
  return list(text(`a string, such as "${example}"`), `a list of strings, such as ["${example}"]`);
}

export const OUTGOING = {
  key: 'outgoing',
  field: 'outgoing',
  type: forwardTexts('ssh:127.0.0.1:9022'),
  fallback: [],
  options: [
    {
      name: 'outgoing',
      short: 'o',
      value: 'FORWARD',
      isRepeatable: true,
      group: 'Forwards:',
      help: "listen here for the peer's SERVICE",
      forms: [
        '[LABEL/]SERVICE:ADDR:PORT',
        'SERVICE:PORT',
        'SERVICE:/path',
        'SERVICE:udp:ADDR:PORT',
        'SERVICE:unixgram:/path',
        '*:vsock-mux:/path',
      ],
      ofAddition: { help: 'Listen here for a service of its peer' },
    },
  ],
  about: 'Forwards as -o takes them',
  reload: 'now',
} as const satisfies SettingWithin<'forwards', readonly string[]>;

export const INCOMING = {
  key: 'incoming',
  field: 'incoming',
  type: forwardTexts('web:127.0.0.1:8080'),
  fallback: [],
  options: [
    {
      name: 'incoming',
      short: 'i',
      value: 'FORWARD',
      isRepeatable: true,
      group: 'Forwards:',
      help: 'offer SERVICE to the peer',
      forms: [
        '[LABEL/]SERVICE:ADDR:PORT',
        'SERVICE:PORT',
        'SERVICE:/path',
        'SERVICE:vsock-mux:/path:PORT',
        'SERVICE:file:/path',
        'SERVICE:exec:COMMAND',
        'SERVICE:egress:[NAME]',
        'SERVICE:resolver:[NAME]',
        'SERVICE:udp:ADDR:PORT',
        'SERVICE:unixgram:/path',
      ],
      ofAddition: { help: 'Offer a service to its peer' },
    },
  ],
  about: 'Forwards as -i takes them',
  reload: 'now',
} as const satisfies SettingWithin<'forwards', readonly string[]>;

const PORTS_EXPECTED = 'a table, such as { 1024 = "ssh" }';

const portServices: ValueType<Readonly<Record<number, string>>> = {
  expected: PORTS_EXPECTED,
  read(value, place) {
    if (!isTable(value)) return place.fail(`expected ${PORTS_EXPECTED}`);
    const pairs = Object.entries(value).map(([port, service]) => {
      const own = place.at(port);
      if (typeof service !== 'string') return own.fail('expected the name of a service');
      return own.attempt(() => parsePortService(`${port}=${service}`));
    });
    return { value: Object.fromEntries(pairs.flatMap((pair) => (pair === null ? [] : [pair.value]))) };
  },
  write: (services) => services,
  schema: (z) => z.record(z.string().regex(/^\d{1,10}$/), z.string()),
};

export const VSOCK_PORTS = {
  key: 'vsock-ports',
  field: 'vsockPorts',
  type: portServices,
  isNested: true,
  options: [
    {
      name: 'vsock-port',
      value: 'PORT=SERVICE',
      isRepeatable: true,
      group: 'Forwards:',
      help: 'PORT=SERVICE: what CONNECT PORT means on each -o *:vsock-mux:/path; repeatable',
    },
  ],
  fromOptions(given) {
    const services: Record<number, string> = {};
    for (const value of given('vsock-port')) {
      const [port, service] = naming('--vsock-port', () => parsePortService(value));
      if (services[port] !== undefined) throw badArgument(`--vsock-port: port ${port} given twice`);
      services[port] = service;
    }
    return Object.keys(services).length === 0 ? undefined : services;
  },
  about: 'The services of ports, for each outgoing *:vsock-mux:/path',
  reload: 'now',
} as const satisfies SettingWithin<'forwards', Readonly<Record<number, string>>>;
