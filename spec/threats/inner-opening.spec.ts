/** R-AUTH-3: the opening inside TLS is judged like one in clear, and has to belong to the one before it. TLS itself is left out here. */
import test from 'ava';
import { FramePeer } from '../helpers/frame-peer.js';
import { glassLayer } from '../helpers/glass-layer.js';

/** A peer whose opening in clear is over, and both nonces of it, its own first. */
function outside(): { peer: FramePeer; nonces: [own: string, other: string] } {
  const peer = new FramePeer({ settings: { secure: glassLayer() } });
  peer.loop.start();
  peer.pump();
  const nonces: [string, string] = [peer.nonce, peer.otherNonce];
  peer.write(peer.hello({ ack: peer.otherNonce, tls: true }));
  peer.renew();
  // The first byte only establishes the layer.
  peer.write(Buffer.from([0]));
  return { peer, nonces };
}

for (const [what, features, fields, end] of [
  ['both outer nonces', ([own, other]: string[]) => [own, other], {}, null],
  ['both outer nonces in the other order', ([own, other]: string[]) => [other, own], {}, null],
  ['no outer nonce', () => [], {}, 'auth-failed'],
  ['its own outer nonce only', ([own]: string[]) => [own], {}, 'auth-failed'],
  ['the other side’s outer nonce only', ([, other]: string[]) => [other], {}, 'auth-failed'],
  ['outer nonces of another opening', () => ['1'.repeat(32), '2'.repeat(32)], {}, 'auth-failed'],
  ['another version', (nonces: string[]) => nonces, { version: { min: 2, max: 2 } }, 'version-mismatch'],
] as const) {
  test(`a HELLO inside TLS with ${what} is ${end ?? 'the beginning of a session'}`, (t) => {
    const { peer, nonces } = outside();
    const texts = features(nonces).map((nonce) => `outer:${nonce ?? ''}`);
    peer.write(peer.hello({ ack: peer.otherNonce, features: texts, ...fields }));
    t.is(peer.sessions.length, end === null ? 1 : 0);
    t.deepEqual(
      peer.endings.map(({ code }) => code),
      end === null ? [] : [end],
    );
  });
}
