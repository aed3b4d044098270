/** A layer in place of TLS that protects nothing: its bytes can be seen, and made by hand. */
import type { SecureLayerFactory, SecureLayerHandler } from '../../lib/session/opening/auth.js';
import { FramePeer } from './frame-peer.js';

const NOTHING = Buffer.alloc(0);

/** It is ready with the first bytes received, or at once. `onMade` gets its callbacks. */
export function glassLayer(
  onMade: (handler: SecureLayerHandler) => void = () => undefined,
  isReadyAtOnce = false,
): SecureLayerFactory {
  return (_agreement, channel, handler) => {
    let isReady = isReadyAtOnce;
    onMade(handler);
    if (isReady) handler.onReady(channel);
    return {
      isMidRecord: false,
      canBeRefused: false,
      receive: (chunk) => {
        if (!isReady) handler.onReady(channel);
        isReady = true;
        handler.onBytes(chunk);
        return NOTHING;
      },
      handleDrain: () => handler.onDrain(),
      close: (onClosed) => onClosed(),
      destroy: () => undefined,
    };
  };
}

/** A peer whose HELLO in clear and HELLO inside a layer are sent; the second one has the fields that `fields` makes of both nonces. */
export function peerInsideLayer(
  fields: (nonces: [own: string, other: string]) => Readonly<Record<string, unknown>>,
  onMade?: (handler: SecureLayerHandler) => void,
): FramePeer {
  const peer = FramePeer.opening({ settings: { secure: glassLayer(onMade) } });
  const inner = fields([peer.nonce, peer.otherNonce]);
  peer.write(peer.hello({ ack: peer.otherNonce, tls: true }));
  peer.renew();
  // The first byte only establishes the layer.
  peer.write(Buffer.from([0]));
  peer.write(peer.hello({ ack: peer.otherNonce, ...inner }));
  return peer;
}
