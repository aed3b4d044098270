/** A control server under test, and requests to it as any program could make them. */
import http from 'node:http';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { ProcessControl } from '../../lib/control/context/context.js';
import { ControlServer } from '../../lib/control/server/control-server.js';
import type { LogLevel } from '../../lib/events.js';
import type { Proxy } from '../../lib/proxy/proxy.js';
import type { ChannelChanges } from '../../lib/status/types.js';
import type { Clock } from '../../lib/util/clock.js';
import { temporaryFolder } from './temp-folder.js';

export const NO_CHANGES: ChannelChanges = {
  addedChannels: [],
  removedChannels: [],
  replacedChannels: [],
  addedForwards: [],
  removedForwards: [],
  changedPolicies: [],
};

/** A process that notes what it is told. */
export class TestProcess implements ProcessControl {
  readonly name = 'host1';
  readonly version = 'vproxy test';
  logLevel: LogLevel = 'info';
  readonly config = { name: 'host1' };
  channelDefaults: NonNullable<ProcessControl['channelDefaults']> = {};
  /** What it was told, in order: `drain 30000`, `stop`. */
  readonly told: string[] = [];
  reload: () => Promise<ChannelChanges> = () => Promise.resolve(NO_CHANGES);

  drain(timeoutMs: number): void {
    this.told.push(`drain ${timeoutMs}`);
  }

  stop(): void {
    this.told.push('stop');
  }
}

/** An answer as it came. */
export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  /** Of its JSON; null where there is none. */
  readonly body: unknown;
}

export interface TestRequest {
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is. */
  readonly text?: string;
  readonly headers?: http.OutgoingHttpHeaders;
}

/** A control server on a socket of its own. */
export interface TestControl {
  readonly path: string;
  readonly server: ControlServer;
  readonly process: TestProcess;
  readonly ask: (method: string, url: string, request?: TestRequest) => Promise<Answer>;
}

/** Starts a control server for a proxy; closed when the test ends. */
export async function startControl(
  t: ExecutionContext,
  proxy: Proxy,
  { clock }: { readonly clock?: Clock } = {},
): Promise<TestControl> {
  const path = join(temporaryFolder(t), 'control.sock');
  const process = new TestProcess();
  const server = new ControlServer({ proxy, process, ...(clock && { clock }) });
  await server.listen({ path });
  t.teardown(() => server.close());
  return { path, server, process, ask: (method, url, request) => ask({ socketPath: path }, method, url, request) };
}

/** One request on a connection of its own, and its whole answer. */
export function ask(
  address: { readonly socketPath: string } | { readonly host: string; readonly port: number },
  method: string,
  path: string,
  { body, text = body === undefined ? '' : JSON.stringify(body), headers = {} }: TestRequest = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const type = text === '' ? {} : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) };
    const request = http.request({ ...address, method, path, agent: false, headers: { ...type, ...headers } });
    request.once('error', reject);
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () => {
        const answer = Buffer.concat(chunks).toString();
        const isJson = response.headers['content-type'] === 'application/json';
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text: answer,
          body: isJson ? JSON.parse(answer) : null,
        });
      });
    });
    request.end(text);
  });
}
