import dns from 'node:dns/promises';
import test from 'ava';
import { frameMessage, MessageFrames } from '../../lib/system/dns/message-frames.js';
import { a, bytesOf, query, shown, zoneServer } from '../helpers/dns.js';
import { freePort } from '../helpers/ports.js';
import { processPair } from '../helpers/process-pair.js';
import { localSocket, readToEnd } from '../helpers/proxies.js';
import { runVproxy } from '../helpers/vproxy-process.js';

test('two command lines resolve for a guest what an egress allows, by UDP and TCP', async (t) => {
  const server = await zoneServer(t, { A: [a('example.org', '93.184.216.34', 60)] });
  const port = await freePort();
  const pair = await processPair(t, {
    host: [
      '-i',
      `dns:resolver:internet,server=127.0.0.1:${server.port}`,
      '--egress',
      'internet:allow=*.example.org:443',
    ],
    guest: ['-o', `dns:udp:127.0.0.1:${port}`, '-o', `dns:tcp:127.0.0.1:${port}`],
  });
  const resolver = new dns.Resolver({ timeout: 20_000, tries: 1 });
  resolver.setServers([`127.0.0.1:${port}`]);
  t.deepEqual(await resolver.resolve4('deb.example.org'), ['93.184.216.34']);
  await t.throwsAsync(resolver.resolve4('www.example.net'), { code: 'EREFUSED' });
  const [line] = await pair.host.waitForLine(/refused A of www\.example\.net\.: .*/);
  t.is(line, 'refused A of www.example.net.: no entry allows it');

  const socket = localSocket(t, { host: '127.0.0.1', port });
  socket.end(Buffer.concat(['deb.example.org', 'example.net'].map((name) => frameMessage(bytesOf(query(name))))));
  const frames = new MessageFrames();
  frames.push(await readToEnd(socket));
  const answers = [frames.next(), frames.next()].map(shown).sort();
  t.regex(answers[0] ?? '', /^rcode 0; example\.org\. (60|59|58|57|56|55) A 93\.184\.216\.34$/);
  t.is(answers[1], 'rcode 5; EDE 18 example.net is not allowed by egress "internet" on the host');
  t.deepEqual(server.asked, ['udp deb.example.org. A']);
});

test('a resolver for an undefined egress is rejected at the start', async (t) => {
  const { code, stderr } = await runVproxy(['-c', 'unix-listen:/nonexistent/x.sock', '-i', 'dns:resolver:']);
  t.is(code, 64);
  t.regex(stderr, /-i dns:resolver: no \[egress\.dns\] section; none defined/);
});
