/** A target `origin:` whose guest is a spec: an in-memory session, and HTTP servers that record what they get. */
import { setImmediate } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { EventFields, LogEvent } from '../../lib/events.js';
import type { Target } from '../../lib/forward/endpoint-kind.js';
import { targetKindOf } from '../../lib/forward/endpoint-kinds.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { readAll } from './egress.js';
import type { SessionPair } from './session-pair.js';
import { targetPair } from './target-pair.js';

/** A service `api` with that target, and its guest. */
export class OriginScene {
  readonly pair: SessionPair;
  readonly target: Target;
  readonly events: LogEvent[] = [];
  #isOver = false;

  /** `text` follows `api:origin:`. */
  constructor(t: ExecutionContext, text: string) {
    const { endpoint } = parseForwardSpec('incoming', `api:origin:${text}`);
    const kind = targetKindOf(endpoint, 'api');
    const { pair, target } = targetPair('api', text, (context) => kind.createTarget(endpoint, context), {
      log: (event) => this.events.push(event),
    });
    this.pair = pair;
    this.target = target;
    t.teardown(() => {
      this.#isOver = true;
      void target.stop();
    });
    void this.#carry();
  }

  async #carry(): Promise<void> {
    while (!this.#isOver) {
      this.pair.settle();
      await setImmediate();
    }
  }

  fieldsOf<Name extends 'origin-request' | 'origin-refused'>(name: Name): EventFields<Name>[] {
    return this.events.filter(({ event }) => event === name).map(({ fields }) => fields as EventFields<Name>);
  }

  open(): MuxStream {
    const stream = MuxStream.open(this.pair.a.session, 'api');
    stream.on('error', () => undefined);
    stream.on('stop', () => undefined);
    return stream;
  }

  /** Sends a text and ends; returns everything answered until EOF. */
  async say(words: Buffer | string): Promise<string> {
    const stream = this.open();
    stream.end(words, 'latin1');
    return (await readAll(stream)).toString('latin1');
  }
}

export const request = (line: string, fields = '', body = ''): string =>
  `${line} HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n${fields}\r\n${body}`;
