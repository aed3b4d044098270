/** R-SERVICES-1 to R-SERVICES-3. */
import type { Conversations } from '../script.js';
import { json } from './json.js';

const TIMES = ['12:00', -1, 1.5, 2 ** 53, true, {}].map((time) => ({ time }));
const PORTS = [
  ...[{ port: 3000 }, '3000', [3000], [{ port: 3000, program: 7 }]],
  Array.from({ length: 65 }, (_, index) => ({ port: 3000 + index })),
  ...[0, 65_536, 3000.5, '3000', undefined].map((port) => [{ port, program: 'node' }]),
].map((ports) => ({ ports }));

/** A list of this many services, in frames. */
const listOf = (count: number): string => {
  const names = Array.from({ length: count }, (_, index) => `service-${index}`);
  const frames = Array.from({ length: Math.ceil(count / 128) }, (_, index) =>
    names.slice(128 * index, 128 * (index + 1)),
  );
  return frames.map((services, at) => `SERVICES 0 ${json({ services, more: at < frames.length - 1 })}`).join(', ');
};

const inBoth = (fields: readonly object[], given: string): string[] =>
  fields.flatMap((field) =>
    [true, false].map(
      (more) => `${given}; SERVICES 0 ${json({ services: [], more, ...field })} -> ends protocol-error`,
    ),
  );

export const SERVICES: Conversations = {
  'R-SERVICES-1: lists may come again, in parts, with other frames between them and unknown fields': `
    SERVICES 0 a b, SERVICES 0 {"services":["c"],"more":true}, PING -> PONG 0
    SERVICES 0 {"services":["d"],"more":false,"time":null,"future":1}, SERVICES -> nothing`,
  'R-SERVICES-1: an invalid time is a protocol error in any frame of a list': inBoth(TIMES, ''),
  'R-SERVICES-2: a list of 4096 services is accepted, a longer one is a flood': [
    `${listOf(4096)} -> nothing`,
    `${listOf(4097)} -> ends flood`,
  ],
  'R-SERVICES-3: ports are known, or ignored like any unknown field': `
    SERVICES 0 {"services":[],"ports":[{"port":3000,"program":"node","future":1},{"port":3000},{"port":65535,"program":null}]},
    SERVICES 0 {"services":[],"ports":null} -> nothing`.replace(/,\n */, ', '),
  'R-SERVICES-3: anything but a list of at most 64 ports is a protocol error in any frame of a list': inBoth(
    PORTS,
    'given needs=ports',
  ),
};
