/** TLS 1.3 inside a channel, with keys that both sides have or with certificates on both sides (R-AUTH-3). */

import type tls from 'node:tls';
import type { ByteSink } from '../codec/frame-writer.js';
import { systemCode, toVproxyError, VproxyError } from '../errors.js';
import {
  commonKey,
  type SecretKey,
  type SecureLayer,
  type SecureLayerFactory,
  type SecureLayerHandler,
} from '../session/opening/auth.js';
import { readSecretFile, readSmallFile } from '../system/files/guarded-files.js';
import { type CancelTimer, type Clock, systemClock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { TlsChannel } from './tls-channel.js';
import { TlsReader } from './tls-reader.js';
import { TlsRecords } from './tls-records.js';

/** It takes milliseconds to load, and many processes do without. */
const loadTls = (): typeof tls => process.getBuiltinModule('node:tls');

/** With an external key OpenSSL accepts only a SHA-256 suite. */
const CIPHERS = 'TLS_AES_128_GCM_SHA256';

/** The handshake times out after this, in milliseconds. */
const HANDSHAKE_MS = 10_000;

/** The clock is checked once per this many records: tiny records cost as much as large ones. */
const RECORDS_PER_LOOK = 16;

const NOTHING = Buffer.alloc(0);

/** The certificates of a side and those it trusts: PEM texts, and the name required in the peer's certificate. */
export interface TlsCertificates {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** A DNS name; null: any certificate of `ca` will do. */
  readonly peerName: string | null;
}

/** Reads the certificates from files. Throws `bad-file`, also for a key that others can read. */
export function readCertificates({ ca = '', cert = '', key = '', peer = null }: ReadableFiles): TlsCertificates {
  const read = (path: string) => readSmallFile(path, MAX_PEM_BYTES);
  return { ca: read(ca), cert: read(cert), key: readSecretFile(key, MAX_KEY_BYTES), peerName: peer };
}

type ReadableFiles = Readonly<Partial<Record<'ca' | 'cert' | 'key', string>>> & { readonly peer?: string | null };

const MAX_KEY_BYTES = 65_536;

/** Room for the authorities that a system trusts, which are about 230 KB. */
const MAX_PEM_BYTES = 1 << 20;

/** Makes layers with the key that both sides have in common. */
export function tlsWithKeys(keys: () => readonly SecretKey[], clock: Clock = systemClock): SecureLayerFactory {
  return (agreement, channel, handler) => {
    const key = commonKey(agreement, keys());
    const psk = key.exportBytes();
    const options: tls.ConnectionOptions & tls.TlsOptions = {
      ...COMMON,
      // A client that offers a key would also take a certificate of any authority trusted by the system, if the server shows one.
      ca: [],
      checkServerIdentity: () => new Error('the peer sent a certificate instead of using the key'),
      pskCallback: (agreement.isOdd
        ? () => ({ psk, identity: key.id })
        : (_socket: tls.TLSSocket, identity: string) => (identity === key.id ? psk : null)) as never,
    };
    return new TlsLayer(options, agreement.isOdd, agreement.peer.nonce, { channel, handler, clock });
  };
}

/** Makes layers with certificates, read again for each layer, so that new files take effect. */
export function tlsWithCertificates(read: () => TlsCertificates, clock: Clock = systemClock): SecureLayerFactory {
  return (agreement, channel, handler) => {
    const { ca, cert, key, peerName } = read();
    const check = (certificate: tls.PeerCertificate): Error | undefined =>
      peerName === null ? undefined : loadTls().checkServerIdentity(peerName, certificate);
    const options: tls.ConnectionOptions & tls.TlsOptions = {
      ...COMMON,
      // Without any `ca`, such as that of an empty file, TLS would trust the authorities that the system trusts.
      ...{ ca: [ca], cert, key, requestCert: true },
      checkServerIdentity: (_host, certificate) => check(certificate),
    };
    return new TlsLayer(options, agreement.isOdd, agreement.peer.nonce, { channel, handler, clock, check });
  };
}

const COMMON = {
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  ciphers: CIPHERS,
  // With NODE_TLS_REJECT_UNAUTHORIZED=0 the default is to accept.
  rejectUnauthorized: true,
} as const;

interface TlsLayerContext {
  readonly channel: ByteSink;
  readonly handler: SecureLayerHandler;
  readonly clock: Clock;
  /** The TLS server's check of the client's certificate; on the client, TLS runs the check. */
  readonly check?: (certificate: tls.PeerCertificate) => Error | undefined;
}

class TlsLayer implements SecureLayer {
  readonly canBeRefused: boolean;
  readonly #records: TlsRecords;
  readonly #channel: TlsChannel;
  readonly #context: TlsLayerContext;
  readonly #cancelTimeout: CancelTimer;
  #socket: tls.TLSSocket | null = null;
  #reader: TlsReader | null = null;
  #isOver = false;

  constructor(
    options: tls.ConnectionOptions & tls.TlsOptions,
    isClient: boolean,
    peerNonce: string,
    context: TlsLayerContext,
  ) {
    this.canBeRefused = options.cert !== undefined;
    this.#records = new TlsRecords(peerNonce);
    this.#context = context;
    this.#channel = new TlsChannel(context.channel);
    // A closed channel reports it itself.
    this.#channel.on('error', () => undefined);
    this.#cancelTimeout = context.clock.schedule(HANDSHAKE_MS, () =>
      this.#fail(new VproxyError('auth-failed', `TLS handshake timed out after ${HANDSHAKE_MS / 1000} s`)),
    );
    try {
      if (isClient) this.#connect(options);
      else this.#accept(options);
    } catch (cause) {
      this.#cancelTimeout();
      throw new VproxyError('bad-file', `cert= or key=: ${describeTlsError(cause)}`, { cause });
    }
  }

  get isMidRecord(): boolean {
    return this.#records.isMidRecord;
  }

  receive(chunk: Buffer, isTurnOver: () => boolean): Buffer {
    let unread = chunk;
    let failure: VproxyError | null = null;
    if (!this.#isOver) this.#reader?.gather();
    try {
      while (unread.length > 0 && !this.#isOver) {
        for (const records of this.#records.push(unread, RECORDS_PER_LOOK)) this.#channel.receive(records);
        unread = this.#records.takeUnread();
        if (isTurnOver()) break;
      }
    } catch (error) {
      failure = toVproxyError(error);
      unread = this.#records.takeRest();
    }
    // First what came before it: it may end the session in order, and the rest is for the next one.
    this.#reader?.deliver();
    if (failure === null || this.#isOver) return unread;
    this.#fail(failure, unread);
    return NOTHING;
  }

  handleDrain(): void {
    this.#channel.handleDrain();
  }

  close(onClosed: () => void): void {
    const socket = this.#socket;
    if (this.#isOver || socket === null) {
      onClosed();
      return;
    }
    this.#isOver = true;
    this.#cancelTimeout();
    socket.once('finish', onClosed).once('close', onClosed).end();
  }

  destroy(): void {
    this.#isOver = true;
    this.#cancelTimeout();
    this.#socket?.destroy();
    this.#channel.destroy();
  }

  #connect(options: tls.ConnectionOptions): void {
    const socket = loadTls().connect({ ...options, socket: this.#channel });
    this.#socket = socket;
    socket.once('error', (error: Error) => this.#fail(this.#failure(error)));
    socket.once('secureConnect', () => this.#begin(socket));
  }

  /** Accepts with a server that has no address: it checks the client's certificate, which a bare TLSSocket does not. */
  #accept(options: tls.TlsOptions): void {
    const server = loadTls().createServer(options);
    server.once('tlsClientError', (error, socket) => {
      // The error of a refused certificate says only that the socket hung up.
      const code = socket.authorizationError as unknown;
      this.#fail(this.#failure(typeof code === 'string' ? new Error(code) : error));
    });
    server.once('secureConnection', (socket) => {
      this.#socket = socket;
      const error = this.#context.check?.(socket.getPeerCertificate());
      if (error === undefined) this.#begin(socket);
      else this.#fail(this.#failure(error));
    });
    server.emit('connection', this.#channel);
  }

  #begin(socket: tls.TLSSocket): void {
    if (this.#isOver) return;
    const { handler } = this.#context;
    this.#cancelTimeout();
    socket.on('error', (error: Error) => this.#fail(this.#failure(error)));
    socket.on('end', () => this.#fail(new VproxyError('peer-restarted', 'TLS was closed by the peer')));
    socket.on('close', () => this.#fail(new VproxyError('desync', 'TLS connection lost')));
    const onDrain = (): void => {
      if (!this.#isOver) handler.onDrain();
    };
    handler.onReady(new TlsSink(socket, onDrain));
    this.#reader = new TlsReader(socket, (bytes) => !this.#isOver && handler.onBytes(bytes));
  }

  /** A client completes the handshake before the server has judged its certificate: an alert may still come. */
  #failure(error: Error): VproxyError {
    const code = systemCode(error);
    const isDenied = !/BAD_RECORD|BAD_DECRYPT|DECRYPTION_FAILED/.test(code);
    return new VproxyError(isDenied ? 'auth-failed' : 'desync', `TLS: ${describeTlsError(error)}`, { cause: error });
  }

  #fail(reason: VproxyError, rest: Buffer = NOTHING): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cancelTimeout();
    // Right after failing, TLS writes an alert that tells the peer why.
    setImmediate(() => this.destroy());
    this.#context.handler.onFailed(reason, rest);
  }
}

/** OpenSSL wraps its reason in a line number and the like. */
function describeTlsError(error: unknown): string {
  const { reason, message } = error as Error & { readonly reason?: string };
  return escapeText(reason ?? message, 200);
}

/** The sink that the session writes to. */
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

  /** TLS encrypts its input before `write` returns, unless earlier input waits; only the result may wait. */
  write(bytes: Buffer): boolean {
    if (this.#socket.destroyed) return true;
    const isTakenAtOnce = this.#socket.writableLength === 0;
    this.#socket.write(bytes, this.#written);
    if (this.#socket.writableLength > 0) this.#awaitsDrain = true;
    return isTakenAtOnce;
  }

  writeParts(parts: readonly Buffer[]): boolean {
    const isTakenAtOnce = this.#socket.writableLength === 0;
    this.#socket.cork();
    for (const part of parts) this.write(part);
    this.#socket.uncork();
    return isTakenAtOnce;
  }

  readonly #written = (): void => {
    if (!this.#awaitsDrain || this.#socket.writableLength > 0 || this.#socket.destroyed) return;
    this.#awaitsDrain = false;
    this.#onDrain();
  };
}
