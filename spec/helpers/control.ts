/** A control server under test, and requests to it as any program could make them. */
import { once } from 'node:events';
import http from 'node:http';
import net, { type Socket } from 'node:net';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import type { ExecutionContext } from 'ava';
import type { ProcessControl, UpgradeRequest } from '../../lib/control/context/context.js';
import { ControlServer } from '../../lib/control/server/control-server.js';
import type { LogLevel } from '../../lib/events.js';
import type { Proxy } from '../../lib/proxy/proxy.js';
import type { ReloadAnswer, UpgradeAnswer } from '../../lib/status/types.js';
import type { Clock } from '../../lib/util/clock.js';
import { temporaryFolder } from './files.js';
import { localSocket } from './proxies.js';
import { within } from './time.js';

export const NO_CHANGES: ReloadAnswer = {
  ...{ addedChannels: [], removedChannels: [], replacedChannels: [], addedForwards: [], removedForwards: [] },
  ...{ changedPolicies: [], changedEgress: [], changedSettings: [], nextStart: [] },
};

export class TestProcess implements ProcessControl {
  readonly name = 'host1';
  readonly version = 'vproxy test';
  logLevel: LogLevel = 'info';
  readonly config = { name: 'host1' };
  channelDefaults: NonNullable<ProcessControl['channelDefaults']> = {};
  /** The calls it received, in order: `drain 30000`, `stop`. */
  readonly told: string[] = [];
  reload: () => Promise<ReloadAnswer> = () => Promise.resolve(NO_CHANGES);

  drain(timeoutMs: number): void {
    this.told.push(`drain ${timeoutMs}`);
  }

  /** Answers like a process that has a successor, and continues. */
  upgrade({ program, waitMs, isForced }: UpgradeRequest, answer: (answer: UpgradeAnswer) => void): Promise<never> {
    this.told.push(`upgrade ${program ?? 'itself'} ${waitMs}${isForced ? ' by force' : ''}`);
    answer({ pid: 2, version: this.version, sessions: 1, streams: 2, listeners: 3, cut: [], durationMs: 4 });
    return new Promise(() => undefined);
  }

  stop(): void {
    this.told.push('stop');
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  /** The parsed JSON; null for an empty body. */
  readonly body: unknown;
}

export interface TestRequest {
  readonly body?: unknown;
  /** Sent unchanged. */
  readonly text?: string;
  readonly headers?: http.OutgoingHttpHeaders;
}

export type TestControl = Awaited<ReturnType<typeof startControl>>;

export async function startControl(t: ExecutionContext, proxy: Proxy, { clock }: { readonly clock?: Clock } = {}) {
  const path = join(temporaryFolder(t), 'control.sock');
  const process = new TestProcess();
  const server = new ControlServer({ proxy, process, ...(clock && { clock }) });
  await server.listen({ path });
  t.teardown(() => server.close());
  const askHere = (method: string, url: string, request?: TestRequest) =>
    ask({ socketPath: path }, method, url, request);
  return { path, server, process, ask: askHere };
}

/** Sends one request on its own connection, and returns the whole answer. */
export async function ask(
  address: { readonly socketPath: string } | { readonly host: string; readonly port: number },
  method: string,
  path: string,
  { body, text = body === undefined ? '' : JSON.stringify(body), headers = {} }: TestRequest = {},
): Promise<Answer> {
  const type = text === '' ? {} : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) };
  const request = http.request({ ...address, method, path, agent: false, headers: { ...type, ...headers } });
  // After a long body libuv writes nothing once more, although the server has answered and closed.
  request.on('error', () => undefined);
  const [response] = (await once(request.end(text), 'response')) as [http.IncomingMessage];
  const answer = await textOf(response);
  const isJson = response.headers['content-type'] === 'application/json';
  return {
    ...{ status: response.statusCode ?? 0, headers: response.headers, text: answer },
    body: isJson ? JSON.parse(answer) : null,
  };
}

/** A connection on which anything can be sent; any kind of end is accepted. */
export async function openConnection(t: ExecutionContext, path: string): Promise<net.Socket> {
  const socket = localSocket(t, path);
  await once(socket, 'connect');
  return socket;
}

// Connections of a control socket that carry a stream.

/** The answer to an upgrade request: the socket if it was granted, otherwise the status and body. */
type StreamAnswer =
  | { readonly socket: Socket; readonly head: Buffer }
  | { readonly status: number; readonly text: string };

/** Requests a stream to a service; the socket is destroyed when the test ends. */
export function askForStream(t: ExecutionContext, path: string, query: string): Promise<StreamAnswer> {
  const answered = new Promise<StreamAnswer>((resolve, reject) => {
    const headers = { Connection: 'Upgrade', Upgrade: 'vproxy-stream' };
    // A separate connection, because those of node:http end when their peer ends.
    const createConnection = () => net.connect({ path, allowHalfOpen: true });
    const request = http.request({ createConnection, path: `/v1/connect?${query}`, headers });
    request.once('error', reject);
    request.once('upgrade', (_response, socket, head) => {
      t.teardown(() => socket.destroy());
      socket.on('error', () => undefined);
      resolve({ socket, head });
    });
    request.once('response', (response) => {
      const { statusCode: status = 0 } = response;
      textOf(response).then((text) => resolve({ status, text }), reject);
    });
    request.end();
  });
  return within(20_000, 'the answer to an upgrade', answered);
}

/** The socket of a stream; rejects if it was refused. */
export async function openStream(t: ExecutionContext, path: string, query: string): Promise<Socket> {
  const answer = await askForStream(t, path, query);
  if ('status' in answer) throw new Error(`${answer.status} ${answer.text}`);
  if (answer.head.length > 0) answer.socket.unshift(answer.head);
  return answer.socket;
}

/** Requests that try every route, in an order that works: `METHOD PATH` as in the description, and the request. */
export const routeRequests = (
  streamId: number,
  job: string,
  question = '0123abcd',
  forward = 'f2',
): readonly (readonly [route: string, url: string, body?: unknown])[] => [
  ['get /v1/status', '/v1/status'],
  ['get /v1/channels', '/v1/channels'],
  ['post /v1/channels', '/v1/channels', { address: 'tcp-connect:127.0.0.1:1', label: 'vm1' }],
  ['get /v1/channels/{label}', '/v1/channels/vm1'],
  ['delete /v1/channels/{label}', '/v1/channels/vm1?mode=now'],
  ['get /v1/forwards', '/v1/forwards'],
  ['post /v1/forwards', '/v1/forwards', { direction: 'incoming', spec: 'web:127.0.0.1:80', channel: 'default' }],
  ['delete /v1/forwards/{id}', `/v1/forwards/${forward}?mode=drain`],
  ['get /v1/services', '/v1/services'],
  ['get /v1/egress', '/v1/egress'],
  ['post /v1/egress/test', '/v1/egress/test', { name: 'internet', destination: '127.0.0.1:443' }],
  ['post /v1/egress/allow', '/v1/egress/allow', { name: 'internet', destinations: ['a.example:80'], forS: 60 }],
  ['get /v1/egress/stats', '/v1/egress/stats'],
  ['get /v1/egress/questions', '/v1/egress/questions'],
  ['post /v1/egress/answer', '/v1/egress/answer', { id: question, isAllowed: false, forS: 60 }],
  ['post /v1/egress/block', '/v1/egress/block', { name: 'internet', channel: 'default' }],
  ['post /v1/egress/reset', '/v1/egress/reset', { name: 'internet' }],
  ['get /v1/ports', '/v1/ports'],
  ['get /v1/streams', '/v1/streams'],
  ['delete /v1/streams/{channel}/{id}', `/v1/streams/default/${streamId}`],
  ['get /v1/events', '/v1/events?follow=false&replay=500'],
  ['post /v1/ping', '/v1/ping', {}],
  ['get /v1/terminal', '/v1/terminal'],
  ['get /v1/wait', '/v1/wait?service=echo&channel=default&timeout=1'],
  ['get /v1/info', '/v1/info'],
  ['get /v1/boot', '/v1/boot?channel=default'],
  ['post /v1/freeze', '/v1/freeze', { paths: ['/srv'], forS: 5 }],
  ['post /v1/thaw', '/v1/thaw', {}],
  ['post /v1/exec', '/v1/exec?stream=false', { argv: ['true'], input: '', encoding: 'base64' }],
  ['post /v1/jobs', '/v1/jobs', { argv: ['true'], tag: 'one', keepBytes: 0 }],
  ['get /v1/jobs', '/v1/jobs'],
  ['get /v1/jobs/{id}/output', `/v1/jobs/${job}/output?from=0`],
  ['delete /v1/jobs/{id}', `/v1/jobs/${job}?killAfter=1`],
  ['put /v1/files', '/v1/files?path=one&mode=600', 'text'],
  ['get /v1/files', '/v1/files?path=one'],
  ['get /v1/folders', '/v1/folders?path=.&channel=default'],
  ['delete /v1/files', '/v1/files?path=one&recursive=true'],
  ['put /v1/log-level', '/v1/log-level', { level: 'debug' }],
  ['get /v1/config', '/v1/config'],
  ['post /v1/reload', '/v1/reload'],
  ['post /v1/upgrade', '/v1/upgrade', {}],
  ['get /v1/connect', '/v1/connect?service=echo'],
  ['get /v1/connect/{id}', '/v1/connect/1'],
  ['get /metrics', '/metrics'],
  ['get /v1/openapi.json', '/v1/openapi.json'],
  ['post /v1/drain', '/v1/drain', { timeoutS: 5 }],
  ['post /v1/stop', '/v1/stop'],
];
