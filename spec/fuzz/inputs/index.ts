/** For each fuzz target, inputs that get far into it. */
import fc from 'fast-check';
import type { FuzzTargetName } from '../targets/index.js';
import {
  chunkInputs,
  dnsInputs,
  groupInputs,
  headInputs,
  infoInputs,
  socksInputs,
  targetInputs,
} from './egress-inputs.js';
import { agreementInputs, frameInputs, helloInputs, payloadInputs, recordInputs } from './frame-inputs.js';
import { after, choice, decisions } from './pieces.js';
import { scannerInputs, storageStreamInputs, wireInputs } from './storage-inputs.js';
import {
  argumentInputs,
  channelInputs,
  forwardInputs,
  globInputs,
  hybridInputs,
  logInputs,
  xmlInputs,
} from './text-inputs.js';

const lines = fc
  .array(fc.constantFrom('\n', '\n\n', 'x', 'line\n', 'x'.repeat(130)), { maxLength: 12 })
  .map((list) => Buffer.from(list.join('')));

/** Inputs by target. */
export const FUZZ_INPUTS: Readonly<Record<FuzzTargetName, fc.Arbitrary<Buffer>>> = {
  agreement: agreementInputs,
  arguments: argumentInputs,
  'channel-text': channelInputs,
  'dns-messages': dnsInputs,
  'egress-chunks': chunkInputs,
  'egress-heads': headInputs,
  'egress-socks': socksInputs,
  'egress-targets': targetInputs,
  'emulator-link': storageStreamInputs,
  'forward-text': forwardInputs,
  'frame-reader': frameInputs,
  glob: globInputs,
  'group-names': groupInputs,
  'hello-scanner': helloInputs,
  'hybrid-vsock': hybridInputs,
  'info-records': infoInputs,
  'json-scanner': scannerInputs,
  'line-buffer': after(choice(255), after(decisions(3), lines)),
  'log-limit': fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  'log-lines': logInputs,
  payloads: payloadInputs,
  'storage-wire': wireInputs,
  'tls-records': recordInputs,
  'wrapper-call': storageStreamInputs,
  xml: xmlInputs,
};
