/** For each fuzz target, inputs that get far into it. */
import type fc from 'fast-check';
import type { FuzzTargetName } from '../targets/index.js';
import * as others from './others.js';
import * as protocol from './protocol.js';

/** Inputs by target. */
export const FUZZ_INPUTS: Readonly<Record<FuzzTargetName, fc.Arbitrary<Buffer>>> = {
  'channel-text': others.channelInputs,
  'egress-chunks': others.chunkInputs,
  'egress-socks': others.socksInputs,
  'emulator-link': others.storageStreamInputs,
  'frame-reader': protocol.frameInputs,
  glob: others.globInputs,
  'group-names': others.groupInputs,
  'hello-scanner': protocol.helloInputs,
  'hybrid-vsock': others.hybridInputs,
  'json-scanner': others.scannerInputs,
  'line-buffer': others.lineInputs,
  'log-lines': others.logInputs,
  payloads: protocol.payloadInputs,
  'storage-wire': others.wireInputs,
  'tls-records': protocol.recordInputs,
  'wrapper-call': others.storageStreamInputs,
  xml: others.xmlInputs,
};
