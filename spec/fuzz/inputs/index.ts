/** For each fuzz target, inputs that get far into it. */
import fc from 'fast-check';
import type { FuzzTargetName } from '../targets/index.js';
import { chunkInputs, groupInputs, socksInputs } from './egress-inputs.js';
import { frameInputs, helloInputs, payloadInputs, recordInputs } from './frame-inputs.js';
import { after, choice, decisions } from './pieces.js';
import { scannerInputs, storageStreamInputs, wireInputs } from './storage-inputs.js';
import { channelInputs, globInputs, hybridInputs, logInputs, xmlInputs } from './text-inputs.js';

const lines = fc
  .array(fc.constantFrom('\n', '\n\n', 'x', 'line\n', 'x'.repeat(130)), { maxLength: 12 })
  .map((list) => Buffer.from(list.join('')));

/** Inputs by target. */
export const FUZZ_INPUTS: Readonly<Record<FuzzTargetName, fc.Arbitrary<Buffer>>> = {
  'channel-text': channelInputs,
  'egress-chunks': chunkInputs,
  'egress-socks': socksInputs,
  'emulator-link': storageStreamInputs,
  'frame-reader': frameInputs,
  glob: globInputs,
  'group-names': groupInputs,
  'hello-scanner': helloInputs,
  'hybrid-vsock': hybridInputs,
  'json-scanner': scannerInputs,
  'line-buffer': after(choice(255), after(decisions(3), lines)),
  'log-lines': logInputs,
  payloads: payloadInputs,
  'storage-wire': wireInputs,
  'tls-records': recordInputs,
  'wrapper-call': storageStreamInputs,
  xml: xmlInputs,
};
