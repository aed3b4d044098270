/** Events over the control socket: past ones, new ones, and lost ones. */
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test, { type ExecutionContext } from 'ava';
import type { LogEvent } from '../../lib/events.js';
import type { ControlEvent } from '../../lib/status/types.js';
import { startControl } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { heapBytes } from '../helpers/measures.js';
import { TestProxy } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const event = (name: string, message = name): LogEvent => ({
  level: 'debug',
  // Any name is allowed: other versions have other events.
  event: name as LogEvent['event'],
  message,
  fields: {},
});

async function openEvents(t: ExecutionContext, socketPath: string, query = ''): Promise<IncomingMessage> {
  const request = http.get({ socketPath, path: `/v1/events${query}`, agent: false });
  request.on('error', () => undefined);
  t.teardown(() => request.destroy());
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return response;
}

function collect(response: IncomingMessage): ControlEvent[] {
  const events: ControlEvent[] = [];
  createInterface({ input: response })
    .on('line', (line) => events.push(JSON.parse(line) as ControlEvent))
    .on('error', () => undefined);
  response.on('error', () => undefined);
  return events;
}

/** A control server of a proxy that has not started. */
async function setUp(t: ExecutionContext) {
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`, { label: 'vm1' });
  return { proxy, ...(await startControl(t, proxy)) };
}

test('events of the proxy have a number, a time and the label of their channel: the last 500, or as many as requested', async (t) => {
  const { proxy, ask, server } = await setUp(t);
  await proxy.start();
  const past = async (query: string) => {
    const { text, headers } = await ask('GET', `/v1/events?follow=false${query}`);
    t.is(headers['content-type'], 'application/x-ndjson');
    const lines = text.split('\n').filter((line) => line !== '');
    return lines.map((line) => JSON.parse(line) as ControlEvent);
  };
  const [first] = await past('');
  t.like(first, { seq: 1, level: 'info', event: 'channel-listening', fields: { channel: 'vm1' } });
  t.false(Number.isNaN(Date.parse(first?.time ?? '')));
  for (let number = 2; number <= 700; number += 1) server.record(event('tick'));
  const seqs = async (query: string) => (await past(query)).map(({ seq }) => seq);
  t.deepEqual(await seqs('&replay=2'), [699, 700]);
  t.deepEqual(await seqs('&replay=0'), []);
  const all = await seqs('');
  t.deepEqual([all.length, all[0], all.at(-1)], [500, 201, 700]);
});

// Serial: it measures the memory of the whole process.
test.serial('a slow client loses events, learns how many, and gets the current ones', async (t) => {
  const { server, path } = await setUp(t);
  const response = await openEvents(t, path);
  const before = await heapBytes();
  const count = 20_000;
  for (let number = 1; number <= count; number += 1) {
    server.record(event('tick', 'x'.repeat(1000)));
    // Let the process write as much as it can.
    if (number % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const heldBytes = (await heapBytes()) - before;
  t.true(heldBytes < 4 * 1024 * 1024, `${heldBytes} bytes more`);
  const events = collect(response);
  await eventually(() => events.at(-1)?.seq === count, { what: 'the last event' });
  const losses = events.filter(({ event: name }) => name === 'events-lost');
  t.is(losses.length, 1);
  const lost = losses.reduce((sum, { fields }) => sum + Number(fields['count']), 0);
  t.is(events.length - losses.length + lost, count);
  t.true(lost > 10_000);
  server.record(event('after'));
  await eventually(() => events.at(-1)?.event === 'after', { what: 'what happens afterwards' });
});

test('the answer to a follower ends in order when the server closes', async (t) => {
  const { server, path } = await setUp(t);
  const response = await openEvents(t, path);
  response.resume();
  const ended = once(response, 'end');
  await server.close();
  await ended;
  t.true(response.complete);
});
