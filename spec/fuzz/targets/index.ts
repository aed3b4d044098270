/** The fuzz targets by name: each takes any bytes, and throws or rejects when its parser breaks a promise. */
import { fuzzChannelText } from './channel-text.js';
import { fuzzEgressChunks } from './egress-chunks.js';
import { fuzzEgressSocks } from './egress-socks.js';
import { fuzzEmulatorLink } from './emulator-link.js';
import { fuzzFrameReader } from './frame-reader.js';
import { fuzzGlob } from './glob.js';
import { fuzzGroupNames } from './group-names.js';
import { fuzzHelloScanner } from './hello-scanner.js';
import { fuzzHybridVsock } from './hybrid-vsock.js';
import { fuzzJsonScanner } from './json-scanner.js';
import { fuzzLineBuffer } from './line-buffer.js';
import { fuzzLogLines } from './log-lines.js';
import { fuzzPayloads } from './payloads.js';
import { fuzzStorageWire } from './storage-wire.js';
import { fuzzTlsRecords } from './tls-records.js';
import { fuzzWrapperCall } from './wrapper-call.js';
import { fuzzXml } from './xml.js';

/** One target. It returns, or resolves, when no promise is broken. */
export type FuzzTarget = (bytes: Uint8Array) => void | Promise<void>;

/** Every target; the folder of its corpus has the same name. */
export const FUZZ_TARGETS = {
  'channel-text': fuzzChannelText,
  'egress-chunks': fuzzEgressChunks,
  'egress-socks': fuzzEgressSocks,
  'emulator-link': fuzzEmulatorLink,
  'frame-reader': fuzzFrameReader,
  glob: fuzzGlob,
  'group-names': fuzzGroupNames,
  'hello-scanner': fuzzHelloScanner,
  'hybrid-vsock': fuzzHybridVsock,
  'json-scanner': fuzzJsonScanner,
  'line-buffer': fuzzLineBuffer,
  'log-lines': fuzzLogLines,
  payloads: fuzzPayloads,
  'storage-wire': fuzzStorageWire,
  'tls-records': fuzzTlsRecords,
  'wrapper-call': fuzzWrapperCall,
  xml: fuzzXml,
} as const satisfies Record<string, FuzzTarget>;

export type FuzzTargetName = keyof typeof FUZZ_TARGETS;
