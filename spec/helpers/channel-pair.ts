/** Two links that lead to each other, over kinds of channels as they are. */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import type { ChannelListener, DialContext, ListenHandlers } from '../../lib/channel/kind.js';
import type { Link } from '../../lib/link/link.js';
import { deferred } from '../../lib/util/concurrency.js';

export interface LinkPair {
  readonly dialled: Link;
  readonly accepted: Link;
  readonly listener: ChannelListener;
}

/** A folder of its own for a test. */
export async function makeFolder(t: ExecutionContext): Promise<string> {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'vproxy-channel-'));
  t.teardown(() => fs.rm(folder, { recursive: true }));
  return folder;
}

/** A context for dialling that waits for ever and tells nobody. */
export const patiently = (): DialContext => ({
  signal: new AbortController().signal,
  report: { waiting: () => undefined },
});

/** Dials the channel that a text means; the link goes with the test. */
export async function dial(t: ExecutionContext, text: string, context = patiently()): Promise<Link> {
  const { kind, address } = parseChannel(text);
  if (kind.mode !== 'dial') throw new Error(`${text} is not dialled`);
  const link = await kind.dial(address, context);
  t.teardown(() => link.destroy());
  return link;
}

/** Listens on the channel that a text means; the listener goes with the test. */
export async function listen(
  t: ExecutionContext,
  text: string,
  handlers: Partial<ListenHandlers> = {},
): Promise<ChannelListener> {
  const { kind, address } = parseChannel(text);
  if (kind.mode !== 'listen') throw new Error(`${text} is not listened on`);
  const onLink = handlers.onLink ?? ((link: Link) => link.destroy());
  const onFailed = handlers.onFailed ?? ((error: Error) => t.fail(error.message));
  const listener = await kind.listen(address, { onLink, onFailed });
  t.teardown(() => listener.close());
  return listener;
}

/** A pair over a listener's text; `dialText` makes that of the dialling side from what the listener describes. */
async function openPair(
  t: ExecutionContext,
  listenText: string,
  dialText: (text: string) => string,
): Promise<LinkPair> {
  const accepted = deferred<Link>();
  const listener = await listen(t, listenText, { onLink: (link) => accepted.resolve(link) });
  const dialled = await dial(t, dialText(listener.description));
  const link = await accepted.promise;
  t.teardown(() => link.destroy());
  return { dialled, accepted: link, listener };
}

export async function openUnixPair(t: ExecutionContext): Promise<LinkPair> {
  const file = path.join(await makeFolder(t), 'channel.sock');
  return openPair(t, `unix-listen:${file}`, () => `unix-connect:${file}:-`);
}

export function openTcpPair(t: ExecutionContext): Promise<LinkPair> {
  return openPair(t, 'tcp-listen:127.0.0.1:0', (text) => text.replace('listen', 'connect'));
}
