import test from 'ava';
import { parseForwardSpec } from '../../../lib/forward/spec.js';
import {
  formatPortForwarding,
  parsePortForwarding,
  parsePortRanges,
  requireNoPortService,
} from '../../../lib/proxy/ports/port-rules.js';
import { formatPortRanges, isInRanges } from '../../../lib/util/addresses.js';

test('ranges are ports and pairs of ports, in any order', (t) => {
  const ranges = parsePortRanges('18080,3000-9999');
  t.deepEqual(ranges, [
    [3000, 9999],
    [18_080, 18_080],
  ]);
  t.is(formatPortRanges(ranges), '3000-9999,18080');
  for (const [port, isIn] of [
    [2999, false],
    [3000, true],
    [9999, true],
    [10_000, false],
    [18_080, true],
  ] as const)
    t.is(isInRanges(ranges, port), isIn, String(port));
  t.deepEqual(parsePortRanges('1024-65535'), [[1024, 65_535]]);
});

for (const text of [
  '',
  '22',
  '1023-3000',
  '3000-',
  '-3000',
  '3000-2999',
  '65536',
  '3000-65536',
  '3000 ',
  '0x1000',
  '3000,,4000',
  'a',
  '3000,',
  '99999999999',
])
  test(`no ranges of ports: "${text}"`, (t) => {
    t.throws(() => parsePortRanges(text), {
      code: 'bad-argument',
      message: /^".*" is not a port, or two with a hyphen, from 1024 to 65535$/,
    });
    t.throws(() => parsePortForwarding(text), { code: 'bad-argument' });
  });

test('more than 64 ranges are refused', (t) => {
  const text = Array.from({ length: 65 }, (_, index) => 2000 + index).join(',');
  t.throws(() => parsePortRanges(text), { code: 'bad-argument', message: '65 ranges of ports exceed 64' });
});

for (const [text, value] of [
  ['3000-9999', { ranges: [[3000, 9999]] }],
  ['3000,address=0.0.0.0', { ranges: [[3000, 3000]], host: '0.0.0.0' }],
  ['3000,address=::1', { ranges: [[3000, 3000]], host: '::1' }],
  ['3000,dir=/run/a,,b/{channel}', { ranges: [[3000, 3000]], folder: '/run/a,b/{channel}' }],
] as const)
  test(`where ports are listened for: ${text}`, (t) => {
    const parsed = parsePortForwarding(text);
    t.deepEqual(parsed as unknown, value);
    t.is(formatPortForwarding(parsed), text);
  });

for (const [text, message] of [
  ['address=0.0.0.0', 'there are no ports, such as 3000-9999'],
  ['3000,address=localhost', 'address=localhost is not an IP address, such as 127.0.0.1'],
  ['3000,address=::1,dir=/run', 'address= and dir= cannot stand together'],
  ['3000,dir=run', /absolute/],
  [`3000,dir=/${'x'.repeat(100)}`, /exceeds 107$/],
  ['3000,path=/run', 'there is no option "path" here; there are: address, dir'],
  ['3000,dir=/a,dir=/b', 'the option dir is there twice'],
] as const)
  test(`ports are not listened for: ${text.slice(0, 40)}`, (t) => {
    t.throws(() => parsePortForwarding(text), { code: 'bad-argument', message });
  });

test('a side that announces ports offers no service with the name of a port', (t) => {
  const forwards = (...texts: string[]) => texts.map((text) => parseForwardSpec('incoming', text));
  t.notThrows(() =>
    requireNoPortService([
      ...forwards('port.x:22', 'port:22', 'ports.1:22'),
      parseForwardSpec('outgoing', 'port.3000:0'),
    ]),
  );
  t.throws(() => requireNoPortService(forwards('ssh:22', 'port.3000:3000')), {
    code: 'bad-argument',
    message: /^-i port\.3000: with --announce-ports/,
  });
});
