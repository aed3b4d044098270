/** The fuzz targets by name: each takes any bytes, and throws or rejects when its parser breaks a promise. */
import { fuzzEgressChunks, fuzzEgressSocks } from './egress.js';
import { fuzzFrameReader } from './frames.js';
import { fuzzHelloScanner, fuzzTlsRecords } from './openings.js';
import { fuzzPayloads } from './payloads.js';
import { fuzzEmulatorLink, fuzzGlob, fuzzJsonScanner, fuzzStorageWire, fuzzWrapperCall } from './storage.js';
import * as texts from './texts.js';

/** One target. It returns, or resolves, when no promise is broken. */
export type FuzzTarget = (bytes: Uint8Array) => void | Promise<void>;

/** Every target; the file of its corpus has the same name. */
export const FUZZ_TARGETS = {
  'channel-text': texts.fuzzChannelText,
  'egress-chunks': fuzzEgressChunks,
  'egress-socks': fuzzEgressSocks,
  'emulator-link': fuzzEmulatorLink,
  'frame-reader': fuzzFrameReader,
  glob: fuzzGlob,
  'group-names': texts.fuzzGroupNames,
  'hello-scanner': fuzzHelloScanner,
  'hybrid-vsock': texts.fuzzHybridVsock,
  'json-scanner': fuzzJsonScanner,
  'line-buffer': texts.fuzzLineBuffer,
  'log-lines': texts.fuzzLogLines,
  payloads: fuzzPayloads,
  'storage-wire': fuzzStorageWire,
  'tls-records': fuzzTlsRecords,
  'wrapper-call': fuzzWrapperCall,
  xml: texts.fuzzXml,
} as const satisfies Record<string, FuzzTarget>;

export type FuzzTargetName = keyof typeof FUZZ_TARGETS;
