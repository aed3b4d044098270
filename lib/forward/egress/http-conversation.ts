/** An HTTP/1.1 conversation: requests in absolute form, in turn, each answered by its origin server; or a CONNECT. */
import {
  type Conversation,
  type ConversationContext,
  type Exchange,
  NoRequest,
  type TunnelOffer,
} from './conversation.js';
import {
  BadMessage,
  BadVersion,
  CLOSE,
  endToEnd,
  type Field,
  formatHead,
  HeadTooLarge,
  isClosing,
  listOf,
  parseRequestHead,
  parseRequestLine,
  parseResponseHead,
  type ResponseHead,
} from './head.js';
import { chunkOf, contentLengthOf, type Framing, type HttpReader, LAST_CHUNK, responseFraming } from './message.js';
import { type Kept, OriginConnection, OriginFailure } from './origin.js';
import { HEAD_BYTES, HEAD_MS, headTimeout, httpAnswer, Refusal } from './refusal.js';
import { framingFields, type ProxyRequest, upgradeFields } from './request.js';

/** Idle timeout of a connection between requests, in milliseconds. */
const IDLE_MS = 60_000;

/** The head of an answer may be longer than that of a request, because of cookies. */
const ANSWER_HEAD_BYTES = 65_536;

const ESTABLISHED = 'HTTP/1.1 200 Connection Established\r\n\r\n';

const NOTHING = Buffer.alloc(0);

/** What has passed so far for one request. */
type Passed = { -readonly [K in keyof Omit<Exchange, 'code'>]: Exchange[K] };

/** What follows a request: the next one, a tunnel, or nothing. */
type Outcome = 'next' | TunnelOffer | null;

export class HttpConversation {
  readonly #guest: Conversation;
  readonly #reader: HttpReader;
  readonly #context: ConversationContext;
  readonly #kept: Kept;
  #isFirst = true;
  /** Whether part of the answer to the current request has been sent. */
  #hasBegun = false;

  constructor(guest: Conversation, reader: HttpReader, context: ConversationContext) {
    this.#guest = guest;
    this.#reader = reader;
    this.#context = context;
    this.#kept = context.kept();
  }

  /** Resolves with the tunnel's destination, or null if the conversation is over. Rejects if the program has gone away. */
  async run(): Promise<TunnelOffer | null> {
    try {
      for (;;) {
        const outcome = await this.#serveNext();
        if (outcome !== 'next') return outcome;
        if (this.#guest.isLeaving) return this.#end();
      }
    } finally {
      this.#kept.close();
    }
  }

  async #serveNext(): Promise<Outcome> {
    let method = '';
    let request: ProxyRequest | null = null;
    try {
      const text = await this.#head();
      if (text === null) return this.#end();
      const turn = this.#guest.nextTurn();
      if (turn !== null) await turn;
      this.#guest.gone.throwIfAborted();
      if (this.#guest.isLeaving) return this.#end();
      const head = parseRequestHead(text);
      method = head.method;
      request = this.#context.requests.parse(head);
      return request.originTarget === null ? await this.#connect(request) : await this.#fetch(request);
    } catch (error) {
      if (error instanceof NoRequest) return this.#end();
      const refusal = refusalOf(error);
      if (!this.#hasBegun) return this.#refuse(refusal, method, request);
      this.#guest.reset(`the answer to the guest was cut off: ${refusal.message}`);
      return null;
    }
  }

  /** The text of the next head; null if none follows. */
  async #head(): Promise<string | null> {
    const guest = this.#guest;
    const isFirst = this.#isFirst;
    this.#isFirst = false;
    this.#hasBegun = false;
    if (!isFirst) guest.expectWithin(IDLE_MS, () => new NoRequest());
    guest.isIdle = !isFirst;
    const text = await this.#reader.head({
      maxBytes: HEAD_BYTES,
      onPart: () => {
        guest.isIdle = false;
        if (!isFirst) guest.expectWithin(HEAD_MS, headTimeout);
      },
      checkFirstLine: parseRequestLine,
    });
    guest.isIdle = false;
    guest.expectNothing();
    return text;
  }

  async #connect({ destination }: ProxyRequest): Promise<TunnelOffer> {
    return { reached: await this.#context.dial(destination), answer: Buffer.from(ESTABLISHED) };
  }

  #end(): null {
    this.#guest.close();
    return null;
  }

  /** Another request may follow if the end of this one is known and nothing of it is left. */
  async #refuse(refusal: Refusal, method: string, request: ProxyRequest | null): Promise<Outcome> {
    const isLast =
      request === null || request.originTarget === null || !request.isPersistent || request.framing.kind !== 'none';
    this.#context.onRefused(refusal);
    await this.#guest.write(httpAnswer(refusal, { method, isLast }));
    return isLast ? this.#end() : 'next';
  }

  // ---- a request for an origin server ---------------------------------------------------------------------------

  async #fetch(request: ProxyRequest): Promise<Outcome> {
    const head = this.#context.requests.format(request);
    const kept = this.#kept.take(request.destination, this.#context.rules());
    if (kept === null) return await this.#exchange(request, head, await this.#dial(request));
    const mayRepeat = isRepeatable(request);
    try {
      return await this.#exchange(request, head, kept, mayRepeat);
    } catch (error) {
      // RFC 9112 section 9.3.1: the server may have closed an idle connection.
      if (!mayRepeat || !this.#isToRepeat(error)) throw error;
      return await this.#exchange(request, head, await this.#dial(request));
    }
  }

  #isToRepeat(failure: unknown): boolean {
    return failure instanceof OriginFailure && !this.#hasBegun;
  }

  async #dial({ destination }: ProxyRequest): Promise<OriginConnection> {
    const reached = await this.#context.dial(destination);
    return new OriginConnection(reached, (ending) => this.#context.onLeft(reached, ending));
  }

  /** Sends the request and its body, and meanwhile passes on the answer. */
  async #exchange(request: ProxyRequest, head: Buffer, origin: OriginConnection, mayRepeat = false): Promise<Outcome> {
    const guest = this.#guest;
    guest.onGone = () => origin.destroy();
    const upload: { isSent: boolean; failure: unknown } = { isSent: false, failure: null };
    const passed: Passed = { status: null, uploadedBytes: 0, downloadedBytes: 0 };
    let code: Exchange['code'] | 'repeated' = 'cancelled';
    this.#send(request, head, origin, passed).then(
      () => {
        upload.isSent = true;
      },
      (error: unknown) => {
        // An origin that takes nothing shows that in its answer.
        if (error instanceof OriginFailure) return;
        upload.failure = error;
        origin.destroy();
      },
    );
    try {
      const { isLast, isReusable } = await this.#answer(request, origin, () => upload.isSent, passed);
      code = null;
      // Ending the conversation must not end the origin server's connection.
      guest.onGone = null;
      if (isReusable && upload.isSent && origin.isUsableBy(this.#context.rules())) this.#kept.keep(origin);
      else origin.destroy();
      return isLast ? this.#end() : 'next';
    } catch (error) {
      origin.destroy();
      // Otherwise the origin server would be blamed for a program that went away.
      guest.gone.throwIfAborted();
      const failure = upload.failure ?? origin.failureOf(error);
      if (failure instanceof OriginFailure) code = mayRepeat && this.#isToRepeat(failure) ? 'repeated' : 'local-error';
      throw failure;
    } finally {
      guest.onGone = null;
      if (code !== 'repeated') this.#context.onExchanged?.(request, { ...passed, code });
    }
  }

  async #send({ framing }: ProxyRequest, head: Buffer, origin: OriginConnection, passed: Passed): Promise<void> {
    await origin.write(head);
    if (framing.kind === 'none') return;
    for await (const piece of this.#reader.body(framing)) {
      passed.uploadedBytes += piece.length;
      const turn = this.#guest.nextTurn();
      if (turn !== null) await turn;
      await origin.write(framing.kind === 'chunked' ? chunkOf(piece) : piece);
    }
    if (framing.kind === 'chunked') await origin.write(LAST_CHUNK);
  }

  /** `isLast`: nothing follows on the guest's connection; `isReusable`: the origin's connection can take another request. */
  async #answer(
    request: ProxyRequest,
    origin: OriginConnection,
    isSent: () => boolean,
    passed: Passed,
  ): Promise<{ readonly isLast: boolean; readonly isReusable: boolean }> {
    const { isPersistent, upgrade = null } = request;
    const { method, minor } = request.head;
    const head = await this.#finalHead(origin, minor, upgrade);
    const framing = responseFraming(head, method);
    passed.status = head.status;
    if (head.status === 101) {
      await this.#switch(head, upgrade ?? '', origin, passed);
      return { isLast: true, isReusable: false };
    }
    const outward = reframed(framing, minor);
    const { isLeaving, isWaitedFor } = this.#guest;
    const isLast = !isPersistent || outward.kind === 'close' || !isSent() || isLeaving || isWaitedFor;
    this.#hasBegun = true;
    const outwardHead = answerHead(head, method, outward, isLast);
    const whole =
      framing.kind === 'length' ? origin.reader.takeWhole(framing.bytes) : framing.kind === 'none' ? NOTHING : null;
    if (whole !== null) {
      passed.downloadedBytes = whole.length;
      await this.#guest.write(whole.length === 0 ? outwardHead : Buffer.concat([outwardHead, whole]));
      return { isLast, isReusable: head.minor === 1 && !isClosing(head.fields) };
    }
    await this.#guest.write(outwardHead);
    for await (const piece of origin.reader.body(framing)) {
      passed.downloadedBytes += piece.length;
      const turn = this.#guest.nextTurn();
      if (turn !== null) await turn;
      await this.#guest.write(outward.kind === 'chunked' ? chunkOf(piece) : piece);
    }
    // Node does not tell the end of TLS, which shows that nothing is missing, from that of TCP, which anybody can forge.
    if (framing.kind === 'close' && origin.isTls)
      throw origin.failed('sent an answer of unknown length, perhaps in part');
    if (outward.kind === 'chunked') await this.#guest.write(LAST_CHUNK);
    const isReusable = framing.kind !== 'close' && head.minor === 1 && !isClosing(head.fields);
    return { isLast, isReusable };
  }

  /** Passes bytes on in both directions, in the protocol that the origin server has switched to (RFC 9110 section 7.8). */
  async #switch(head: ResponseHead, protocol: string, origin: OriginConnection, passed: Passed): Promise<void> {
    this.#hasBegun = true;
    const fields = [...endToEnd(head.fields), ...upgradeFields(protocol), VIA];
    await this.#guest.write(formatHead(statusLine(head), fields));
    const upward = async (): Promise<void> => {
      for await (const piece of this.#reader.body({ kind: 'close' })) {
        passed.uploadedBytes += piece.length;
        const turn = this.#guest.nextTurn();
        if (turn !== null) await turn;
        await origin.write(piece);
      }
      origin.end();
    };
    // A program that has gone away ends both; the origin server's end is the end.
    void upward().catch(() => origin.destroy());
    for await (const piece of origin.reader.body({ kind: 'close' })) {
      passed.downloadedBytes += piece.length;
      const turn = this.#guest.nextTurn();
      if (turn !== null) await turn;
      await this.#guest.write(piece);
    }
  }

  /** The head of the final answer; passes on informational ones before it (RFC 9110 section 15.2). */
  async #finalHead(origin: OriginConnection, minor: 0 | 1, upgrade: string | null): Promise<ResponseHead> {
    for (;;) {
      const text = await origin.reader.head({ maxBytes: ANSWER_HEAD_BYTES });
      if (text === null) throw origin.failed('closed the connection without an answer');
      // Many servers may answer in the same turn of the event loop.
      const turn = this.#guest.nextTurn();
      if (turn !== null) await turn;
      const head = parseResponseHead(text);
      const isSwitch = head.status === 101;
      if (isSwitch && (upgrade === null || listOf(head.fields, 'upgrade').join() !== upgrade))
        throw new BadMessage('unrequested switch to another protocol');
      if (isSwitch || head.status >= 200) return head;
      if (minor === 1) await this.#guest.write(formatHead(statusLine(head), [...endToEnd(head.fields), VIA]));
    }
  }
}

/** The refusal for an error about the request or its answer; rethrows any other. */
function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof BadVersion) return new Refusal('bad-version', error.message);
  if (error instanceof BadMessage) return new Refusal('bad-request', error.message);
  if (error instanceof HeadTooLarge) return new Refusal('head-too-large', error.message);
  throw error;
}

/** Whether a request may be sent twice (RFC 9110 section 9.2.2), and can be. */
const isRepeatable = ({ framing, head }: ProxyRequest): boolean =>
  framing.kind === 'none' && ['GET', 'HEAD', 'OPTIONS'].includes(head.method);

/** The framing of the body for an HTTP/1.`minor` guest. */
function reframed(framing: Framing, minor: 0 | 1): Framing {
  if (framing.kind !== 'chunked' && framing.kind !== 'close') return framing;
  return { kind: minor === 1 ? 'chunked' : 'close' };
}

const VIA: Field = { name: 'Via', value: '1.1 vproxy' };

const statusLine = ({ phrase, status }: ResponseHead): string => `HTTP/1.1 ${status} ${phrase}`;

function answerHead(head: ResponseHead, method: string, framing: Framing, isLast: boolean): Buffer {
  // The length of the answer to a GET.
  const length = method === 'HEAD' || head.status === 304 ? contentLengthOf(head.fields) : null;
  return formatHead(statusLine(head), [
    ...endToEnd(head.fields),
    ...framingFields(length === null ? framing : { kind: 'length', bytes: length }),
    VIA,
    ...(isLast ? [CLOSE] : []),
  ]);
}
