/** TLS 1.3 inside a channel, with keys that both sides have or with certificates on both sides (R-AUTH-3). */
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import { TlsRecords } from '../codec/tls-records.js';
import { systemCode, VproxyError } from '../errors.js';
import type { ByteSink } from '../session/byte-sink.js';
import { commonKey } from '../session/proof.js';
import type { SecretKey } from '../session/secret-key.js';
import type { SecureLayer, SecureLayerFactory, SecureLayerHandler } from '../session/secure-layer.js';
import { type CancelTimer, type Clock, systemClock } from '../util/clock.js';
import { describeError } from '../util/describe-error.js';

/** With an external key OpenSSL takes a suite of SHA-256 only. */
const CIPHERS = 'TLS_AES_128_GCM_SHA256';

/** The handshake is given up after this time, in milliseconds. */
const HANDSHAKE_MS = 10_000;

/** What a side shows, and what it trusts: PEM texts, and the name that the peer's certificate has to have. */
export interface TlsCertificates {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** A DNS name; null: any certificate of `ca` will do. */
  readonly peerName: string | null;
}

/** Makes layers with the key that both sides have, of those given. */
export function tlsWithKeys(keys: readonly SecretKey[], clock: Clock = systemClock): SecureLayerFactory {
  return (agreement, channel, handler) => {
    const key = commonKey(agreement, keys);
    const psk = key.exportBytes();
    const options: tls.ConnectionOptions & tls.TLSSocketOptions = {
      ...COMMON,
      // With a key there is no certificate whose name could be checked.
      checkServerIdentity: () => undefined,
      pskCallback: (agreement.isOdd
        ? () => ({ psk, identity: key.id })
        : (_socket: tls.TLSSocket, identity: string) => (identity === key.id ? psk : null)) as never,
    };
    return new TlsLayer(options, agreement.isOdd, agreement.peer.nonce, { channel, handler, clock });
  };
}

/** Makes layers with certificates, which are asked for once for each, so that new files are used from then on. */
export function tlsWithCertificates(read: () => TlsCertificates, clock: Clock = systemClock): SecureLayerFactory {
  return (agreement, channel, handler) => {
    const { ca, cert, key, peerName } = read();
    const check = (certificate: tls.PeerCertificate): Error | undefined =>
      peerName === null ? undefined : tls.checkServerIdentity(peerName, certificate);
    const options: tls.ConnectionOptions & tls.TLSSocketOptions = {
      ...COMMON,
      ...{ ca, cert, key, requestCert: true, rejectUnauthorized: true },
      checkServerIdentity: (_host, certificate) => check(certificate),
    };
    return new TlsLayer(options, agreement.isOdd, agreement.peer.nonce, { channel, handler, clock, check });
  };
}

const COMMON = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3', ciphers: CIPHERS } as const;

interface TlsLayerContext {
  readonly channel: ByteSink;
  readonly handler: SecureLayerHandler;
  readonly clock: Clock;
  /** What the TLS server checks of the client's certificate; the client checks by itself. */
  readonly check?: (certificate: tls.PeerCertificate) => Error | undefined;
}

class TlsLayer implements SecureLayer {
  readonly sink: ByteSink;
  readonly #records: TlsRecords;
  readonly #channel: ChannelDuplex;
  readonly #socket: tls.TLSSocket;
  readonly #handler: SecureLayerHandler;
  readonly #cancelTimeout: CancelTimer;
  #isSecure = false;
  #isOver = false;

  constructor(
    options: tls.ConnectionOptions & tls.TLSSocketOptions,
    isClient: boolean,
    peerNonce: string,
    { channel, handler, clock, check }: TlsLayerContext,
  ) {
    this.#records = new TlsRecords(peerNonce);
    this.#handler = handler;
    this.#channel = new ChannelDuplex(channel);
    const socket = isClient
      ? tls.connect({ ...options, socket: this.#channel as never })
      : new tls.TLSSocket(this.#channel as never, { ...options, isServer: true });
    this.#socket = socket;
    this.sink = new TlsSink(socket, () => handler.onDrain());
    this.#cancelTimeout = clock.schedule(HANDSHAKE_MS, () =>
      this.#fail(new VproxyError('auth-failed', `TLS was not established within ${HANDSHAKE_MS / 1000} s`)),
    );
    socket.on(isClient ? 'secureConnect' : 'secure', () => {
      const error = this.#verify(isClient, check);
      if (error !== undefined) {
        this.#fail(new VproxyError('auth-failed', `TLS: ${describeError(error)}`, { cause: error }));
        return;
      }
      this.#isSecure = true;
      this.#cancelTimeout();
    });
    socket.on('data', (chunk: Buffer) => {
      if (!this.#isOver) handler.onBytes(chunk);
    });
    socket.on('error', (error) => this.#fail(this.#failure(error)));
    socket.on('end', () => this.#fail(new VproxyError('peer-restarted', 'the peer ended TLS')));
    socket.on('close', () => this.#fail(new VproxyError('desync', 'TLS ended')));
    // A channel that is gone says so itself.
    this.#channel.on('error', () => undefined);
  }

  receive(chunk: Buffer): void {
    if (this.#isOver) return;
    try {
      for (const record of this.#records.push(chunk)) this.#channel.push(Buffer.from(record));
    } catch (error) {
      this.#fail(error as VproxyError, this.#records.takeRest());
    }
  }

  handleDrain(): void {
    this.#channel.handleDrain();
  }

  destroy(): void {
    this.#isOver = true;
    this.#cancelTimeout();
    this.#socket.destroy();
    this.#channel.destroy();
  }

  #verify(isClient: boolean, check: TlsLayerContext['check']): Error | undefined {
    if (isClient || check === undefined) return undefined;
    if (!this.#socket.authorized) return this.#socket.authorizationError as Error;
    return check(this.#socket.getPeerCertificate());
  }

  #failure(error: Error): VproxyError {
    const isDenied = !this.#isSecure || /ALERT|CERT/.test(systemCode(error));
    return new VproxyError(isDenied ? 'auth-failed' : 'desync', `TLS: ${describeError(error)}`, { cause: error });
  }

  #fail(reason: VproxyError, rest: Buffer = Buffer.alloc(0)): void {
    if (this.#isOver) return;
    this.destroy();
    this.#handler.onFailed(reason, rest);
  }
}

/** What TLS reads from and writes to. */
class ChannelDuplex extends Duplex {
  readonly #channel: ByteSink;
  #onWritten: (() => void) | null = null;

  constructor(channel: ByteSink) {
    super();
    this.#channel = channel;
  }

  /** The channel has written all that it was given. */
  handleDrain(): void {
    const onWritten = this.#onWritten;
    this.#onWritten = null;
    onWritten?.();
  }

  override _read(): void {
    // Bytes come when the channel has them; reading never pauses.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    if (this.#channel.write(chunk)) callback();
    else this.#onWritten = callback;
  }
}

/** What the session writes to. */
class TlsSink implements ByteSink {
  readonly #socket: tls.TLSSocket;
  readonly #onDrain: () => void;
  #awaitsDrain = false;

  constructor(socket: tls.TLSSocket, onDrain: () => void) {
    this.#socket = socket;
    this.#onDrain = onDrain;
  }

  get unwrittenBytes(): number {
    return this.#socket.writableLength;
  }

  write(bytes: Buffer): boolean {
    if (this.#socket.destroyed) return true;
    this.#socket.write(bytes, this.#written);
    if (this.#socket.writableLength === 0) return true;
    this.#awaitsDrain = true;
    return false;
  }

  writePair(first: Buffer, second: Buffer): boolean {
    this.#socket.cork();
    this.write(first);
    this.write(second);
    this.#socket.uncork();
    return this.#socket.writableLength === 0;
  }

  readonly #written = (): void => {
    if (!this.#awaitsDrain || this.#socket.writableLength > 0 || this.#socket.destroyed) return;
    this.#awaitsDrain = false;
    this.#onDrain();
  };
}
