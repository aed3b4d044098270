/** The agreement of two HELLOs, and a peer's AUTH: a proof, or a refusal that is safe to show, whatever the peer wrote. */

import assert from 'node:assert/strict';
import { decodeHello, encodeHelloPayload, type Hello } from '../../../lib/codec/hello.js';
import { DEFAULT_LIMITS } from '../../../lib/codec/limits.js';
import { agree, outerRefusal, protectionRefusal, refusal } from '../../../lib/session/opening/agreement.js';
import { Proof, SecretKey } from '../../../lib/session/opening/auth.js';
import { FuzzInput } from '../fuzz-input.js';
import { assertShowable, outcomeOf } from '../outcome.js';

/** The keys that this side may have, and that the peer may claim to have. */
export const KEYS = ['1f', '2e', '3d'].map((digits) => SecretKey.parse(digits.repeat(32)));

const OWN: Hello = {
  version: { min: 1, max: 1 },
  nonce: 'b8'.repeat(16),
  ack: 'a'.repeat(32),
  instance: '9'.repeat(32),
  agent: 'fuzz',
  name: null,
  limits: DEFAULT_LIMITS,
  integrity: 'frame',
  auth: null,
  tls: false,
  features: [],
};

/** Input: flags (1, 2: which keys this side has, 4 TLS here), then the size of AUTH, AUTH, and the payload of the peer's HELLO. */
export function fuzzAgreement(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const flags = input.byte();
  const authBytes = input.byte() % 40;
  const rest = input.rest();
  const [auth, payload] = [rest.subarray(0, authBytes), rest.subarray(authBytes)];
  const peer = outcomeOf(['protocol-error'], () => decodeHello(payload));
  if ('code' in peer) return;
  const keys = KEYS.slice(0, flags & 3);
  const ids = keys.map(({ id }) => id);
  const self: Hello = {
    ...OWN,
    tls: (flags & 4) > 0,
    auth: ids.length === 0 ? null : { method: 'psk-sha256', keys: ids },
  };
  const agreement = agree(self, peer.value, payload);
  for (const reason of [refusal(agreement), protectionRefusal(agreement), outerRefusal(agreement, agreement)]) {
    if (reason !== null) assertShowable(reason.message);
  }
  const outcome = outcomeOf(['auth-failed'], () => Proof.of(agreement, keys));
  if ('code' in outcome) return;
  const proof = outcome.value;
  // Without a proof only where neither side wants one.
  assert.equal(proof === null, keys.length === 0 && peer.value.auth === null);
  if (proof === null) return;
  assert.ok(ids.includes(proof.keyId) && peer.value.auth?.keys.includes(proof.keyId));
  for (const wrong of [auth, proof.payload, Buffer.alloc(32)]) {
    assert.ok('code' in outcomeOf(['auth-failed'], () => proof.verify(wrong)));
  }
  // The peer's own is what it makes of the same two HELLOs, seen from its side.
  const key = KEYS.find(({ id }) => id === proof.keyId);
  const context = [Buffer.from('vproxy-auth-v1'), payload, encodeHelloPayload(self)];
  proof.verify(key?.authenticate(context) ?? Buffer.alloc(0));
}
